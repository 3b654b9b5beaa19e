"""A rule changed in a contract file decides what dbt accepts; no SQL and no Python is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake

from replenish.contracts.dbt_render import LAKE_VARIABLE, SOURCES_FILE, write_sources
from replenish.contracts.reader import CONTRACT_FOLDER, PLATFORM_FOLDER, read_contracts

NOW = datetime(2025, 1, 1, tzinfo=UTC)
ROW = {
    "location_id": "S1", "sold_at": NOW, "sale_id": "1", "sku_id": "A1", "units": 2, "event_time": NOW,
    "event_date": date(2025, 1, 1), "knowledge_time": NOW, "knowledge_date": date(2025, 1, 2), "version_nr": 1,
    "posting_kind": "version", "posting_sign": 1,
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the dbt project's tests and profile, without models, beside a lake with one sale of two units."""
    source = PLATFORM_FOLDER.parent / "dbt"
    folder = tmp_path / "dbt"
    folder.mkdir()
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(source / name, folder / name)
    for name in ("tests", "macros"):
        shutil.copytree(source / name, folder / name)
    shutil.copytree(CONTRACT_FOLDER, tmp_path / "contracts")
    frame = pl.DataFrame([ROW], schema=read_contracts()["sales"].silver_schema)
    write_deltalake(str(tmp_path / "lake" / "silver" / "sales"), frame.to_arrow())
    return folder


def _test_units(project: Path, old: str, new: str) -> subprocess.CompletedProcess[str]:
    """dbt's verdict on the sale after one line of the sales contract was changed."""
    path = project.parent / "contracts" / "sales.odcs.yaml"
    before, after = path.read_text(encoding="utf-8").split("      - name: units\n")
    path.write_text(f"{before}      - name: units\n{after.replace(old, new, 1)}", encoding="utf-8")
    write_sources(read_contracts(path.parent), project / "models" / "staging" / SOURCES_FILE)
    dbt = Path(sys.executable).parent / "dbt"
    return subprocess.run(
        [str(dbt), "test", "--select", "source:silver.sales", "--profiles-dir", ".", "--quiet"],
        cwd=project, env=os.environ | {LAKE_VARIABLE: str(project.parent / "lake")}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_dbt_accepts_what_the_contract_allows(project: Path) -> None:
    result = _test_units(project, "minimum: 0", "minimum: 0, maximum: 2")
    assert result.returncode == 0, result.stdout + result.stderr


def test_dbt_refuses_what_a_changed_contract_forbids(project: Path) -> None:
    result = _test_units(project, "minimum: 0", "minimum: 3")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "at_least_silver_sales_units__3" in result.stdout
