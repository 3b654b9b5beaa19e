"""`replenish maintain` and its nightly asset: what they do to a table, and what they say of it."""

from __future__ import annotations

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from assets.maintenance import CHECK, build_maintenance
from replenish.cli.main import app
from replenish.errors import StoreError
from replenish.stores import lake_maintenance
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout
from resources.clock import ClockResource
from resources.lake import LakeResource

N_COMMITS = 12


@pytest.fixture
def root(tmp_path, monkeypatch):
    lake = DeltaLake(RootLayout(tmp_path).lake)
    for number in range(N_COMMITS):
        lake.append("bronze/sales", pl.DataFrame({"units": [number]}))
    monkeypatch.setenv("REPLENISH_ROOT", str(tmp_path))
    monkeypatch.setattr(lake_maintenance, "COMPACT_EVERY", 10)
    return tmp_path


def test_the_command_compacts_and_prints_what_it_did(root):
    done = CliRunner().invoke(app, ["maintain", "--pin", "bronze/sales=3"])
    assert done.exit_code == 0, done.output
    assert "bronze/sales" in done.output
    lake = DeltaLake(RootLayout(root).lake)
    assert len(lake.file_paths("bronze/sales")) == 1
    assert lake.read("bronze/sales")["units"].sort().to_list() == list(range(N_COMMITS))


def test_a_pin_that_is_none_is_refused(root):
    done = CliRunner().invoke(app, ["maintain", "--pin", "bronze/sales"])
    assert isinstance(done.exception, StoreError)


def test_the_asset_reports_files_before_and_after(root):
    done = dg.materialize(
        [build_maintenance()], resources={"lake": LakeResource(root=str(root)), "clock": ClockResource()}
    )
    (event,) = done.asset_materializations_for_node("maintain_lake")
    assert (event.metadata["files_before"].value, event.metadata["files_after"].value) == (N_COMMITS, 1)
    assert [(check.check_name, check.passed) for check in done.get_asset_check_evaluations()] == [(CHECK, True)]
