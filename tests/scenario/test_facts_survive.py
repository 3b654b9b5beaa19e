"""Faulty files leave gold as it was; corrections change only what was known after them; twice equals once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from replenish.cli.deployment import Deployment
from replenish.cli.stages import build_gold_tables, run_to_features, run_to_silver
from tests.scenario.faulty_files import FAULTY_FILES, HEAD, drop_faulty_files
from tests.scenario.worlds import NOW, demand_as_of, digests_of, gold_digests, small_retailer


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    deployment = small_retailer(tmp_path_factory.mktemp("clean"))
    run_to_features(deployment, now=NOW)
    return deployment


@pytest.mark.slow
def test_no_faulty_file_moves_gold_and_each_says_why(clean: Deployment, tmp_path: Path) -> None:
    deployment = small_retailer(tmp_path / "faulty")
    drop_faulty_files(deployment.layout.drop)
    report, _ = run_to_silver(deployment, now=NOW)
    build_gold_tables(deployment.lake, tmp_path / "dbt")

    assert gold_digests(deployment.lake) == gold_digests(clean.lake)
    letters = deployment.journal.dead_letters()
    for number, (kind, content) in enumerate(FAULTY_FILES.items()):
        name = f"sales-faulty-{number:02}"
        verdict = next(v for v in report.files if v.file.startswith(name))
        assert verdict.offered == verdict.accepted + verdict.dead + verdict.duplicate
        assert verdict.accepted == 0, kind
        if content not in (b"", HEAD.encode()):
            assert any(letter.file.startswith(name) and letter.reason for letter in letters), kind


@pytest.mark.slow
def test_the_same_files_again_change_nothing(clean: Deployment) -> None:
    tables = ("features/feat_demand", *(f"silver/{stream}" for stream in clean.contracts))
    before = gold_digests(clean.lake) | digests_of(clean.lake, tables)
    versions = {table: clean.lake.version(table) for table in tables}
    run_to_features(clean, now=NOW)
    assert gold_digests(clean.lake) | digests_of(clean.lake, tables) == before
    assert {table: clean.lake.version(table) for table in tables} == versions


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "expected_units"),
    [
        (lambda row: row | {"qty": "7", "amount": "99.00"}, lambda units: 7),
        (lambda row: row | {"op": "D"}, lambda units: 0),
    ],
    ids=["a correction", "a retraction"],
)
def test_a_later_record_of_a_fact_changes_only_what_was_known_after_it(
    tmp_path: Path, change: Callable[[dict[str, str]], dict[str, str]], expected_units: Callable[[int], int]
) -> None:
    deployment = small_retailer(tmp_path / "world", n_days=60)
    run_to_silver(deployment, now=NOW)
    build_gold_tables(deployment.lake, tmp_path / "dbt")
    early, late = date(2024, 2, 20), date(2024, 6, 1)
    before_early, before_late = demand_as_of(deployment.lake, early), demand_as_of(deployment.lake, late)

    row = pl.read_csv(deployment.layout.drop / "sales-2024-01.csv", infer_schema_length=0).row(0, named=True)
    corrected = change(row) | {"recorded_at": "2024-05-02T12:00:00+02:00"}
    pl.DataFrame([corrected]).write_csv(deployment.layout.drop / "sales-2024-05-02.csv")
    run_to_silver(deployment, now=NOW)
    build_gold_tables(deployment.lake, tmp_path / "dbt")

    assert demand_as_of(deployment.lake, early).equals(before_early)
    after = demand_as_of(deployment.lake, late)
    key = {"sku_id": row["article"], "location_id": row["store"], "event_date": date.fromisoformat(row["sold_at"][:10])}
    where = pl.all_horizontal(pl.col(name) == value for name, value in key.items())
    moved = units_at(after, where) - units_at(before_late, where)
    assert moved == expected_units(int(row["qty"])) - int(row["qty"])
    assert after.filter(~where).equals(before_late.filter(~where))


def units_at(demand: pl.DataFrame, where: pl.Expr) -> int:
    return int(demand.filter(where)["units"].sum())
