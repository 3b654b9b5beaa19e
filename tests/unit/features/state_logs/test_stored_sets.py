"""The grid that a lake keeps of a set: where it begins; and what is said where `feat_demand` differs from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from replenish.contracts.dataset import Dataset
from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.profile import ForecastProfile, read_profile
from replenish.contracts.reader import PLATFORM_FOLDER
from replenish.errors import NotApplicable
from replenish.features.definitions.model import FeatureSet
from replenish.features.definitions.reader import read_feature_sets
from replenish.features.demand import FEAT_DEMAND_TABLE, GoldFrames, build_demand_features
from replenish.features.offline.evaluator import evaluate
from replenish.features.offline.measures import ledger_columns
from replenish.features.state_logs.forecast_parity import compare_with_feat_demand
from replenish.features.state_logs.grid_definition import ORIGIN_DATE, FeatureGrid
from replenish.features.state_logs.stored_sets import GRID_STARTS_TABLE, state_log_counts, stored_grid
from replenish.stores.lake import DeltaLake

NEWEST = date(2025, 3, 10)
KEY = ["sku_id", "location_id"]


@cache
def daily() -> FeatureSet:
    return read_feature_sets()["demand_daily"]


@cache
def dataset() -> Dataset:
    return read_dataset(PLATFORM_FOLDER / "feeds" / "retailer.yaml")


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    return DeltaLake(tmp_path / "lake")


def grid_at(lake: DeltaLake, newest: date | None, **other: object) -> FeatureGrid:
    return stored_grid(lake, daily(), replace(dataset(), **other), read_profile("demo"), newest)[0]  # type: ignore[arg-type]


def test_the_first_origin_is_the_oldest_one_tested_and_stays(lake: DeltaLake) -> None:
    first = grid_at(lake, NEWEST)
    assert first.first_origin == read_profile("demo").backtest_origins(NEWEST)[0]
    later = grid_at(lake, NEWEST + timedelta(days=40))
    assert (later.first_origin, later.table) == (first.first_origin, first.table)
    assert lake.row_count(GRID_STARTS_TABLE) == 1


def test_another_cutoff_begins_a_grid_of_its_own(lake: DeltaLake) -> None:
    first = grid_at(lake, NEWEST)
    other = grid_at(lake, NEWEST + timedelta(days=40), cutoff=time(7))
    assert other.first_origin == first.first_origin + timedelta(days=40)
    assert other.table != first.table
    assert grid_at(lake, NEWEST).table == first.table


def test_without_demand_there_is_no_grid(lake: DeltaLake) -> None:
    with pytest.raises(NotApplicable, match="no demand"):
        grid_at(lake, None)
    assert not lake.has(GRID_STARTS_TABLE)


def test_no_logs_are_an_empty_table() -> None:
    assert state_log_counts(()).height == 0


def demand(*, late_units: int = 0) -> pl.DataFrame:
    """Two articles that sell on ten days; more of the first one's first day may become known."""
    rows = []
    for sku in ("a", "b"):
        for nr in range(1, 11):
            day = NEWEST - timedelta(days=nr)
            more = late_units if (sku, nr) == ("a", 10) else 0
            units = 3 + more
            rows.append((sku, "x", day, day + timedelta(days=1), units, units * 100, 1))
    schema = [*KEY, "event_date", "knowledge_date", "units", "revenue_cents", "lines"]
    return pl.DataFrame(rows, schema=schema, orient="row")


def profile_of(**other: object) -> ForecastProfile:
    return replace(read_profile("demo"), **other)  # type: ignore[arg-type]


def trained(gold: pl.DataFrame) -> pl.DataFrame:
    clocks = {"zone": dataset().zone, "cutoff": dataset().cutoff}
    return build_demand_features(GoldFrames(gold), profile_of(), [NEWEST], **clocks)  # type: ignore[arg-type]


def stored_rows(lake: DeltaLake, grid: FeatureGrid, gold: pl.DataFrame) -> pl.DataFrame:
    """What the grid holds at the newest origin, where gold was this."""
    silver = gold.select(
        *KEY,
        "event_date",
        "units",
        "revenue_cents",
        event_time=pl.col("event_date").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        knowledge_time=pl.lit(datetime(2025, 3, 1, tzinfo=UTC)).dt.cast_time_unit("us"),
        version_nr=1,
        posting_kind=pl.lit("version"),
        posting_sign=1,
    )

    empty = {
        source.name: pl.DataFrame(schema=dict.fromkeys(ledger_columns(grid.feature_set, source), pl.Int64()))
        for source in grid.feature_set.sources
    }
    features = tuple(f for f in grid.feature_set.features if f.aggregation != "last")
    asked = replace(grid.feature_set, features=features)
    rows = evaluate(asked, grid.spine(gold.select(KEY), [NEWEST]), {**empty, "sales": silver}, grid.zone, grid.cutoff)
    latest = [pl.lit(None, dtype=pl.Int64).alias(f.name) for f in grid.feature_set.features if f.aggregation == "last"]
    return rows.with_columns(latest)


@pytest.mark.parametrize(
    ("built_from", "lost", "n_late", "n_of_logic"),
    [("all", 0, 0, 0), ("before", 0, 5, 0), ("all", 1, 0, 47)],
    ids=["equal", "late", "missing"],
)
def test_what_differs_is_late_or_other_logic(
    lake: DeltaLake, built_from: str, lost: int, n_late: int, n_of_logic: int
) -> None:
    gold, grid = demand(late_units=2), grid_at(lake, NEWEST)
    lake.append("gold/fct_demand", gold)
    lake.append(FEAT_DEMAND_TABLE, trained(gold if built_from == "all" else demand()))
    lake.append(grid.table, stored_rows(lake, grid, gold)[lost:], partition_by=[ORIGIN_DATE])
    found = compare_with_feat_demand(lake, grid, dataset(), profile_of(), NEWEST)
    assert found.n_series == 2
    assert (min(found.n_late, 5), found.n_of_logic) == (n_late, n_of_logic)
    assert set(found.differences["sku_id"]) == ({"a"} if n_late or n_of_logic else set())
    if n_late:
        assert {"units_lag_10", "units_sum__28"} <= set(found.differences["feature"])


def test_periods_that_are_no_days_are_not_compared(lake: DeltaLake) -> None:
    grid = grid_at(lake, NEWEST)
    with pytest.raises(NotApplicable, match="nothing of days"):
        compare_with_feat_demand(lake, grid, dataset(), profile_of(period_days=7), NEWEST)
    with pytest.raises(NotApplicable, match="no rows at the origin"):
        compare_with_feat_demand(lake, grid, dataset(), profile_of(), NEWEST)
