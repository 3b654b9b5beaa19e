"""Stored rows of a daily grid: those of the evaluator on the whole ledger, whatever came when."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from replenish.features.offline.evaluator import evaluate
from replenish.features.state_logs import grid_rows
from replenish.features.state_logs.grid_definition import FeatureGrid
from replenish.features.state_logs.grid_keys import grid_keys
from replenish.features.state_logs.grid_update import GridUpdate, read_feature_grid, update_feature_grid
from replenish.stores.lake import DeltaLake
from tests.oracle.evaluators import SOURCE as SOURCE_NAME
from tests.oracle.evaluators import feature_set_of
from tests.oracle.frames import ENTITY, fact_key, ledger_frame, spine_frame
from tests.oracle.histories import Seeded, Setting, draw_features
from tests.oracle.known_at import Feature
from tests.oracle.range_join import Question
from tests.unit.features.state_logs.growing_ledger import (
    SOURCE,
    drawn_histories,
    ledgers_by_arrival,
    write_as_silver,
)
from tests.unit.features.state_logs.test_state_log_update import SMALL


def some_features(seed: int) -> tuple[Feature, ...]:
    """Few, so that not always one of them needs the whole history; with the ratios of what is there."""
    drawn = draw_features(Seeded(seed), n_each=4)
    chance = random.Random(seed)
    plain = [f for f in drawn if f.aggregation != "ratio" and f.window_days in (None, 1, 2, 3, 7)]
    chosen = chance.sample(plain, 6)
    if seed % 4:
        chosen = [f for f in chosen if f.aggregation != "days_since_first"]
    names = [f.name for f in chosen if f.aggregation != "last"]
    if len(names) > 1:
        chosen.append(Feature("ratio", "ratio", numerator=names[0], denominator_feature=names[1]))
    return tuple(chosen)


def grid_of(setting: Setting, features: tuple[Feature, ...]) -> FeatureGrid:
    entity, clocks = ENTITY[: setting.n_entity], (setting.zone, setting.cutoff)
    question = Question(features, spine_frame([]), ledger_frame([]), entity, fact_key(setting), *clocks, setting.kinds)
    feature_set = feature_set_of(question)
    daily = replace(feature_set, clock="daily")
    return FeatureGrid(daily, *clocks, setting.first_day + timedelta(days=2), {SOURCE_NAME: SOURCE})


def rows_from_nothing(grid: FeatureGrid, ledger: pl.DataFrame, keys: pl.DataFrame, through: date) -> pl.DataFrame:
    n_days = (through - grid.first_origin).days + 1
    spine = grid.spine(keys, [grid.first_origin + timedelta(days=nr) for nr in range(n_days)])
    return evaluate(grid.feature_set, spine, {SOURCE_NAME: ledger}, grid.zone, grid.cutoff)


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    return DeltaLake(tmp_path / "lake")


@pytest.mark.parametrize("seed", range(100, 118))
def test_a_grid_that_grows_is_the_evaluators(lake: DeltaLake, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Histories last some weeks: with the usual look-back nothing before them would ever be asked for.
    monkeypatch.setattr(grid_rows, "LOOK_BACKS_DAYS", (seed % 3, seed % 3 * 3, None))
    setting, histories = drawn_histories(seed, n_histories=4)
    grid, chance = grid_of(setting, some_features(seed)), random.Random(seed)
    ledgers = list(ledgers_by_arrival(setting, histories, seed, n_steps=3))
    keys = ledgers[-1].select(grid.feature_set.entity).unique()
    through = grid.first_origin + timedelta(days=2)
    done = GridUpdate(None)
    for ledger in ledgers:
        write_as_silver(lake, ledger)
        done = update_feature_grid(lake, grid, keys, through, rows_at_once=40, limits=SMALL)
        if keys.is_empty():
            return
        assert_frame_equal(read_feature_grid(lake, grid), rows_from_nothing(grid, ledger, keys, through))
        assert done.n_restated <= done.n_taken_again
        through += timedelta(days=chance.randrange(2, 12))
    again = update_feature_grid(lake, grid, keys, through - timedelta(days=20), rows_at_once=40, limits=SMALL)
    assert (again.commit, again.n_new_rows, again.n_taken_again) == (done.commit, 0, 0)


@pytest.mark.parametrize("seed", range(300, 312))
def test_ages_that_are_carried_on_are_the_evaluators(
    lake: DeltaLake, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting, histories = drawn_histories(seed, n_histories=4)
    ages = [f for f in draw_features(Seeded(seed), n_each=4) if f.aggregation == "days_since_first"]
    grid = grid_of(setting, tuple(ages))
    *_, whole = ledgers_by_arrival(setting, histories, seed, n_steps=1)
    keys = whole.select(grid.feature_set.entity).unique()
    write_as_silver(lake, whole)
    n_read = []
    monkeypatch.setattr(grid_rows, "_of_keys", partial(_counting, n_read, grid_rows._of_keys))
    through = grid.first_origin
    for _ in range(25):
        update_feature_grid(lake, grid, keys, through, limits=SMALL)
        through += timedelta(days=1)
    if keys.height:
        expected = rows_from_nothing(grid, whole, keys, through - timedelta(days=1))
        assert_frame_equal(read_feature_grid(lake, grid), expected)
        # The first origin reads every key; later ones only those that news speaks of.
        assert n_read[0] == keys.height
        assert sum(n_read) < 25 * keys.height


def test_a_series_that_nobody_speaks_of_keeps_its_first_day(lake: DeltaLake, monkeypatch: pytest.MonkeyPatch) -> None:
    setting, _ = drawn_histories(7)
    grid = grid_of(setting, (Feature("age", "days_since_first", "units"),))
    key = dict.fromkeys(grid.feature_set.entity, "a")
    rows = []
    for nr in range(6):
        event = grid.instant(grid.first_origin) + timedelta(days=nr - 2, hours=10)
        fact = {**key, "fact_id": str(nr), "event_time": event, "event_date": event.date(), "knowledge_time": event}
        rows.append({**fact, "version_nr": 1, "posting_kind": "version", "posting_sign": 1, "units": 5})
    # The first day is told of again, five days later.
    rows.append(rows[0] | {"fact_id": "again", "knowledge_time": rows[0]["event_time"] + timedelta(days=5)})
    ledger = ledger_frame(rows)
    write_as_silver(lake, ledger.with_columns(event_month=pl.lit(0, pl.Int32)))
    keys, n_read = ledger.select(grid.feature_set.entity).unique(), list[int]()
    monkeypatch.setattr(grid_rows, "_of_keys", partial(_counting, n_read, grid_rows._of_keys))
    for nr in range(6):
        update_feature_grid(lake, grid, keys, grid.first_origin + timedelta(days=nr), limits=SMALL)
    through = grid.first_origin + timedelta(days=5)
    assert_frame_equal(read_feature_grid(lake, grid), rows_from_nothing(grid, ledger, keys, through))
    assert (n_read[0], sum(n_read)) == (1, 2)


def test_a_grid_whose_first_origins_have_no_keys_goes_on_with_some(lake: DeltaLake) -> None:
    setting, histories = drawn_histories(300, n_histories=4)
    grid = grid_of(setting, (Feature("age", "days_since_first", "units"),))
    *_, whole = ledgers_by_arrival(setting, histories, 300, n_steps=1)
    write_as_silver(lake, whole)
    keys, later = whole.select(grid.feature_set.entity).unique(), grid.first_origin + timedelta(days=3)
    update_feature_grid(lake, grid, keys.clear(), grid.first_origin, limits=SMALL)
    update_feature_grid(lake, grid, keys, later, limits=SMALL)
    expected = rows_from_nothing(grid, whole, keys, later).filter(pl.col("origin_date") > grid.first_origin)
    assert expected.height > 0
    assert_frame_equal(read_feature_grid(lake, grid), expected)


@pytest.mark.parametrize("seed", range(400, 406))
def test_a_grid_with_its_own_keys_is_the_evaluators_from_when_each_is_known(lake: DeltaLake, seed: int) -> None:
    setting, histories = drawn_histories(seed, n_histories=5)
    grid, key = grid_of(setting, some_features(seed)), list(ENTITY[: setting.n_entity])
    through = grid.first_origin + timedelta(days=3)
    for ledger in ledgers_by_arrival(setting, histories, seed, n_steps=3):
        write_as_silver(lake, ledger)
        update_feature_grid(lake, grid, None, through, rows_at_once=40, limits=SMALL)
        first: dict[tuple[object, ...], object] = {}
        for row in ledger.filter(pl.col("posting_kind").is_in(setting.kinds)).iter_rows(named=True):
            entity = tuple(row[name] for name in key)
            first[entity] = min(row["knowledge_time"], first.get(entity, row["knowledge_time"]))
        everything = rows_from_nothing(grid, ledger, ledger.select(key).unique(), through)
        is_known = [
            tuple(row[name] for name in key) in first and first[tuple(row[name] for name in key)] <= row["as_of"]
            for row in everything.iter_rows(named=True)
        ]
        assert_frame_equal(read_feature_grid(lake, grid), everything.filter(pl.Series(is_known, dtype=pl.Boolean)))
        through += timedelta(days=4)


def test_a_straggler_brings_its_key_into_old_origins_and_takes_it_out_again(lake: DeltaLake) -> None:
    setting, _ = drawn_histories(7)
    grid = grid_of(setting, (Feature("sum_3", "sum", "units", window_days=3),))
    key = dict.fromkeys(grid.feature_set.entity, "a")
    known = grid.instant(grid.first_origin) + timedelta(hours=30)
    fact = {"fact_id": "1", "event_time": known, "event_date": known.date(), "knowledge_time": known}
    row = {**key, **fact, "version_nr": 1, "posting_kind": "version", "posting_sign": 1, "units": 5}
    month = pl.lit(1, pl.Int32).alias("event_month")
    other = ledger_frame([{**row, **dict.fromkeys(key, "b")}]).with_columns(month)
    write_as_silver(lake, other)
    last = grid.first_origin + timedelta(days=4)
    assert update_feature_grid(lake, grid, None, last, limits=SMALL).n_new_rows == 3
    both = pl.concat([other, ledger_frame([row]).with_columns(month)])
    write_as_silver(lake, both)
    done = update_feature_grid(lake, grid, None, last, limits=SMALL)
    assert (done.n_taken_again, done.n_restated, done.is_rebuilt) == (3, 3, False)
    assert_frame_equal(read_feature_grid(lake, grid), rows_from_nothing(grid, both, grid_keys_of(lake, grid), last))
    write_as_silver(lake, other)
    assert update_feature_grid(lake, grid, None, last, limits=SMALL).n_restated == 3
    assert set(read_feature_grid(lake, grid)[grid.feature_set.entity[0]]) == {"b"}


def grid_keys_of(lake: DeltaLake, grid: FeatureGrid) -> pl.DataFrame:
    return grid_keys(lake, grid, {SOURCE_NAME: lake.state(SOURCE.table).version})


def _counting(n_read: list[int], read: Callable[..., pl.DataFrame | None], *arguments: Any) -> pl.DataFrame | None:
    _, grid, rows, which, *_ = arguments
    n_read.append(rows.filter(which).select(grid.feature_set.entity).n_unique())
    return read(*arguments)


@pytest.mark.parametrize("seed", range(200, 204))
def test_what_becomes_known_later_changes_no_row_of_the_past(lake: DeltaLake, seed: int) -> None:
    setting, histories = drawn_histories(seed, n_histories=4)
    grid = grid_of(setting, some_features(seed))
    *_, whole = ledgers_by_arrival(setting, histories, seed, n_steps=1)
    keys = whole.select(grid.feature_set.entity).unique()
    n_new = 0
    for nr in range(0, 12, 3):
        through = grid.first_origin + timedelta(days=nr)
        # All that is known at the cut-off, however late, and nothing after it.
        write_as_silver(lake, whole.filter(pl.col("knowledge_time") <= grid.instant(through)))
        done = update_feature_grid(lake, grid, keys, through, limits=SMALL)
        assert (done.n_taken_again, done.is_rebuilt) == (0, False)
        n_new += done.n_new_rows
    if n_new:
        assert_frame_equal(read_feature_grid(lake, grid), rows_from_nothing(grid, whole, keys, through))


def test_a_straggler_known_at_the_very_cutoff_counts(lake: DeltaLake) -> None:
    setting, _ = drawn_histories(7)
    features = (Feature("sum_3", "sum", "units", window_days=3), Feature("last", "last", "units"))
    entity, clocks = ENTITY[: setting.n_entity], (setting.zone, setting.cutoff)
    asked = Question(features, spine_frame([]), ledger_frame([]), entity, fact_key(setting), *clocks, setting.kinds)
    daily = replace(feature_set_of(asked), clock="daily")
    grid = FeatureGrid(daily, *clocks, setting.first_day, {SOURCE_NAME: SOURCE})
    last, event = grid.first_origin + timedelta(days=4), grid.instant(grid.first_origin) + timedelta(hours=30)
    fact = {"sku_id": "a", "location_id": "x", "fact_id": "1", "event_time": event, "event_date": event.date()}
    row = {**fact, "version_nr": 1, "posting_kind": "version", "posting_sign": 1, "units": 5}
    write_as_silver(lake, ledger_frame([]).with_columns(event_month=pl.lit(0, pl.Int32)))
    keys = pl.DataFrame([row]).select(entity)
    update_feature_grid(lake, grid, keys, last, limits=SMALL)
    ledger = ledger_frame([{**row, "knowledge_time": grid.instant(last - timedelta(days=1))}])
    ledger = ledger.with_columns(event_month=pl.lit(event.year * 100 + event.month, pl.Int32))
    lake.append(SOURCE.table, ledger)
    done = update_feature_grid(lake, grid, keys, last, limits=SMALL)
    assert (done.n_taken_again, done.n_restated, done.is_rebuilt) == (2, 2, False)
    assert_frame_equal(read_feature_grid(lake, grid), rows_from_nothing(grid, ledger, keys, last))
