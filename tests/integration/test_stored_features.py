"""Stored feature sets as assets: rows, words, reports, and the check that holds two homes of one logic together."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from assets.definitions import build_definitions
from assets.stored_features import SAME_LOGIC_CHECK
from replenish.bitemporal import origin_instant_expr
from replenish.cli.deployment import Deployment
from replenish.cli.stages import run_to_features
from replenish.contracts.profile import read_profile
from replenish.contracts.reader import read_contracts
from replenish.features.definitions.catalogue import CATALOGUE_FILE, FEATURE_COLUMNS, feature_rows
from replenish.features.definitions.forecast_names import columns_said_twice
from replenish.features.definitions.reader import read_feature_sets
from replenish.features.offline.evaluator import evaluate
from replenish.features.state_logs.definition import state_logs_of
from replenish.features.state_logs.look_up import read_state_log
from replenish.stores.lake import DeltaLake
from resources.environment import resources_for
from tests.scenario.worlds import NOW, small_retailer

STORED = ("features_demand_daily", "features_stock_now")


class Stored:
    """A root up to features, and its two assets; what a run of them said."""

    def __init__(self, root: Path) -> None:
        self.deployment: Deployment = small_retailer(root, n_days=60)
        run_to_features(self.deployment, now=NOW)
        self.definitions = build_definitions(resources=resources_for("test", root))

    @property
    def lake(self) -> DeltaLake:
        return self.deployment.lake

    def run(self) -> dg.ExecuteInProcessResult:
        job = self.definitions.resolve_implicit_global_asset_job_def()
        keys = [dg.AssetKey(name) for name in STORED]
        return job.execute_in_process(asset_selection=keys, instance=dg.DagsterInstance.ephemeral())

    @property
    def newest(self) -> date:
        return self.lake.read("gold/fct_demand")["knowledge_date"].max()  # type: ignore[return-value]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return Stored(tmp_path_factory.mktemp("stored") / "root")


@pytest.fixture(scope="module")
def first(stored: Stored) -> dg.ExecuteInProcessResult:
    return stored.run()


def said(result: dg.ExecuteInProcessResult, key: str) -> dict[str, Any]:
    (event,) = (e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(key))
    return {name: value.value for name, value in event.materialization.metadata.items()}


def check(result: dg.ExecuteInProcessResult, name: str) -> dg.AssetCheckEvaluation:
    (found,) = (c for c in result.get_asset_check_evaluations() if c.check_name == name)
    return found


@pytest.mark.parametrize("name", ["demand_daily", "stock_now"])
def test_the_words_on_the_asset_are_the_catalogues(name: str) -> None:
    feature_set = read_feature_sets()[name]
    spec = build_definitions().resolve_asset_graph().get(dg.AssetKey(f"features_{name}"))
    assert spec.description == feature_set.description
    on_asset = {column.name: column for column in spec.metadata["dagster/column_schema"].columns}
    page = CATALOGUE_FILE.read_text(encoding="utf-8").partition(f"## {name} ")[2].partition("\n## ")[0]
    n_words = 0
    for row in feature_rows(feature_set, read_contracts()):
        (line,) = (text for text in page.splitlines() if text.startswith(f"| `{row.name}` |"))
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        words = dict(zip(FEATURE_COLUMNS, cells, strict=True))
        column = on_asset[row.name]
        assert (column.description, column.type) == (words["meaning"], words["type"])
        assert {word: column.tags[word] for word in ("unit", "owner", "classification")} == {
            word: words[word] for word in ("unit", "owner", "classification")
        }
        reads, source, consumers = column.constraints.other
        assert (reads, source, consumers) == (
            words["reads"],
            f"source: {words['source']}",
            f"consumers: {words['consumers']}",
        )
        n_words += 1
    assert n_words == len(feature_set.features)
    # Every column that the asset names is a feature of the set, or part of its key.
    assert set(on_asset) - set(feature_set.feature_names) <= {*feature_set.entity, "origin_date", "as_of"}


def test_a_root_without_tables_has_nothing_to_store(tmp_path: Path) -> None:
    deployment = small_retailer(tmp_path / "root", n_days=2)
    definitions = build_definitions(resources=resources_for("test", deployment.layout.root))
    job = definitions.resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(name) for name in STORED]
    done = job.execute_in_process(asset_selection=keys, instance=dg.DagsterInstance.ephemeral())
    for key in STORED:
        assert said(done, key)["not_applicable"].startswith("not_applicable: ")
    assert all(found.passed for found in done.get_asset_check_evaluations())
    assert "not_applicable" in check(done, SAME_LOGIC_CHECK).metadata


@pytest.mark.slow
def test_the_grid_holds_what_the_evaluator_says_of_every_series_that_is_known(
    stored: Stored, first: dg.ExecuteInProcessResult
) -> None:
    daily, dataset = read_feature_sets()["demand_daily"], stored.deployment.dataset
    metadata = said(first, STORED[0])
    rows = stored.lake.read(metadata["table"]).sort("origin_date", *daily.entity)
    origins = pl.date_range(date.fromisoformat(metadata["first_origin"]), stored.newest, eager=True)
    assert metadata["first_origin"] == str(read_profile("demo").backtest_origins(stored.newest)[0])
    ledgers = {source.name: stored.lake.read(source.table) for source in daily.sources}
    first_known = stored.lake.read("silver/sales").group_by(daily.entity).agg(known=pl.col("knowledge_time").min())
    as_of = origin_instant_expr(pl.col("origin_date"), dataset.zone, dataset.cutoff)
    spine = first_known.join(origins.alias("origin_date").to_frame(), how="cross").with_columns(as_of=as_of)
    spine = spine.filter(pl.col("as_of") >= pl.col("known")).sort("origin_date", *daily.entity)
    expected = evaluate(
        daily, spine.select(*daily.entity, "origin_date", "as_of"), ledgers, dataset.zone, dataset.cutoff
    )
    assert_frame_equal(rows, expected, rel_tol=1e-12, abs_tol=0)
    assert 300 < rows.height == metadata["dagster/row_count"] == metadata["n_new_rows"]
    assert rows["on_hand_units"].drop_nulls().len() > 300


@pytest.mark.slow
def test_runs_report_rows_versions_tables_and_state_logs(stored: Stored, first: dg.ExecuteInProcessResult) -> None:
    sets = read_feature_sets()
    for key in STORED:
        metadata = said(first, key)
        assert {"dagster/row_count", "delta_version", "dagster/column_schema", "feature_set_id"} <= set(metadata)
        for log, _ in state_logs_of(sets[key.removeprefix("features_")]):
            assert f"| {log.table} |" in metadata["state_logs"]
            assert read_state_log(stored.lake, log).height > 10
    assert all(c.passed for c in first.get_asset_check_evaluations())
    compared = check(first, SAME_LOGIC_CHECK).metadata
    pairs = columns_said_twice(sets["demand_daily"], read_profile("demo").feature_columns)
    assert compared["n_values"].value == compared["n_series"].value * len(pairs) > 300
    assert (compared["n_late"].value, compared["n_of_logic"].value) == (0, 0)


@pytest.mark.slow
def test_a_second_run_adds_nothing_and_builds_no_log(stored: Stored, first: dg.ExecuteInProcessResult) -> None:
    before = {key: said(first, key) for key in STORED}
    again = stored.run()
    for key in STORED:
        now = said(again, key)
        assert (now["delta_version"], now["dagster/row_count"]) == (
            before[key]["delta_version"],
            before[key]["dagster/row_count"],
        )
    assert said(again, STORED[0])["n_new_rows"] == 0
    assert "True" not in said(again, STORED[1])["state_logs"]
    assert "True" in before[STORED[0]]["state_logs"] + before[STORED[1]]["state_logs"]


@pytest.mark.slow
def test_other_logic_fails_the_check_and_late_data_does_not(stored: Stored, first: dg.ExecuteInProcessResult) -> None:
    table = "features/feat_demand"
    kept = stored.lake.read(table)
    place = (pl.col("origin_date") == stored.newest) & (pl.col("sku_id") == kept["sku_id"][-1])
    # Rows of feat_demand that its code would make otherwise now: they were built before something arrived.
    stored.lake.overwrite(table, kept.with_columns(units_lag_7=pl.when(place).then(-5).otherwise("units_lag_7")))
    late = check(stored.run(), SAME_LOGIC_CHECK)
    assert late.passed
    assert late.metadata["n_late"].value == kept.filter(place).height > 0
    stored.lake.overwrite(table, kept)
    # A grid of other logic: its sums lie a day off.
    grid = said(first, STORED[0])["table"]
    rows = stored.lake.read(grid, filters=[("origin_date", "in", [stored.newest])])
    wrong = rows.with_columns(units_sum__28=pl.col("units_sum__28") + 1)
    stored.lake.replace_partitions(grid, wrong, column="origin_date", values=[stored.newest])
    differs = check(stored.run(), SAME_LOGIC_CHECK)
    stored.lake.replace_partitions(grid, rows, column="origin_date", values=[stored.newest])
    assert not differs.passed
    assert differs.metadata["n_of_logic"].value == differs.metadata["n_series"].value
    assert "units_sum__28" in differs.metadata["differing"].value
    assert check(stored.run(), SAME_LOGIC_CHECK).passed


@pytest.mark.slow
def test_the_first_origin_stays_when_time_goes_on(stored: Stored, first: dg.ExecuteInProcessResult) -> None:
    before = said(first, STORED[0])
    job = stored.definitions.resolve_implicit_global_asset_job_def()
    later = stored.newest + timedelta(days=3)
    again = job.execute_in_process(
        asset_selection=[dg.AssetKey(STORED[0])],
        instance=dg.DagsterInstance.ephemeral(),
        tags={"dagster/partition": later.isoformat()},
    )
    now = said(again, STORED[0])
    assert (now["table"], now["first_origin"]) == (before["table"], before["first_origin"])
    assert now["n_new_rows"] > 0
    # feat_demand was not brought on: there is nothing to compare.
    assert "no rows at the origin" in check(again, SAME_LOGIC_CHECK).metadata["not_applicable"].value
