"""Demand features against a brute-force oracle, and the proof that nothing leaks from after the origin."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replenish.bitemporal import knowledge_date_expr
from replenish.contracts.profile import ForecastProfile, read_profile
from replenish.errors import OutOfRange
from replenish.features.demand import GoldFrames, build_demand_features, select_series

ZONE, CUTOFF = "Europe/Berlin", time(6)
DAY_0 = date(2025, 3, 24)
"""A Monday six days before the clocks change."""
UTC_TIME = pl.Datetime("us", "UTC")
DAILY = replace(read_profile("demo"), lags=(1, 3), windows=(2, 5))
WEEKLY = replace(read_profile("weekly"), lags=(1, 2), windows=(2,), max_series=None)
CLOCKS = {"event_time": UTC_TIME, "knowledge_time": UTC_TIME}
POSTING = {"version_nr": pl.Int32, "posting_kind": pl.String, "posting_sign": pl.Int8}


def instant(n: int, hour: int = 3) -> datetime:
    return datetime(DAY_0.year, DAY_0.month, DAY_0.day, hour, tzinfo=UTC) + timedelta(days=n)


def day(n: int) -> date:
    return DAY_0 + timedelta(days=n)


@dataclass(frozen=True)
class World:
    """Rows by day numbers. demand: (sku, event, known, units); prices: (sku, event, known, cents);
    stock: (sku, event, known, on hand); receipts: (days, known). A later price or count of one key and day corrects."""

    demand: list[tuple[str, int, int, int]]
    prices: list[tuple[str, int, int, int]]
    stock: list[tuple[str, int, int, int]]
    receipts: list[tuple[int, int]]

    def gold(self) -> GoldFrames:
        return GoldFrames(
            demand=self._demand(),
            prices=self._ledger(self.prices, "unit_price_cents").with_columns(is_promotion=pl.lit(False)),
            stock=self._ledger(self.stock, "on_hand_units"),
            products=self._products(),
            supply=self._supply(),
        )

    def known_at(self, origin: int) -> World:
        """What this world looks like to somebody who stops listening at an origin."""
        rows = (self.demand, self.prices, self.stock)
        demand, prices, stock = ([r for r in part if r[2] <= origin] for part in rows)
        return World(demand, prices, stock, [r for r in self.receipts if r[1] <= origin])

    def _demand(self) -> pl.DataFrame:
        rows = [(sku, "S1", day(e), day(k), units, 100 * units) for sku, e, k, units in self.demand]
        schema = {"sku_id": pl.String, "location_id": pl.String, "event_date": pl.Date, "knowledge_date": pl.Date}
        frame = pl.DataFrame(rows, schema=schema | {"units": pl.Int64, "revenue_cents": pl.Int64}, orient="row")
        return frame.group_by(*schema).agg(pl.col("units", "revenue_cents").sum())

    def _ledger(self, facts: list[tuple[str, int, int, int]], value: str) -> pl.DataFrame:
        latest: dict[tuple[str, int], dict[int, int]] = {}
        for sku, event, known, number in facts:
            latest.setdefault((sku, event), {}).setdefault(known, number)
        rows: list[tuple[object, ...]] = []
        for (sku, event), versions in latest.items():
            ordered = sorted(versions.items())
            for nr, (known, number) in enumerate(ordered, 1):
                key = (sku, "S1", day(event), instant(event))
                rows.append((*key, instant(known), number, nr, "version", 1))
                if nr < len(ordered):
                    rows.append((*key, instant(ordered[nr][0]), number, nr, "reversal", -1))
        keys = {"sku_id": pl.String, "location_id": pl.String, "event_date": pl.Date}
        return pl.DataFrame(rows, schema={**keys, **CLOCKS, value: pl.Int64, **POSTING}, orient="row")

    def _products(self) -> pl.DataFrame:
        schema = {"sku_id": pl.String, "supplier_id": pl.String, **CLOCKS, **POSTING}
        rows = [(sku, "V1", instant(-900), instant(-900), 1, "version", 1) for sku in "ab"]
        return pl.DataFrame(rows, schema=schema, orient="row")

    def _supply(self) -> pl.DataFrame:
        rows = [("received", "V1", "S1", day(known), days, "ok", 1) for days, known in self.receipts]
        names = ("supply_event", "supplier_id", "location_id", "knowledge_date", "lead_time_days", "lead_time_flag")
        types = (pl.String, pl.String, pl.String, pl.Date, pl.Int64, pl.String)
        return pl.DataFrame(
            rows, schema={**dict(zip(names, types, strict=True)), "posting_sign": pl.Int8}, orient="row"
        )


skus, numbers, delays = st.sampled_from("ab"), st.integers(0, 25), st.sampled_from([0, 0, 1, 2, 9])
units = st.integers(0, 6)
demand_rows = st.tuples(skus, numbers, st.sampled_from([1, 1, 1, 2, 6]), units).map(
    lambda r: (r[0], r[1], r[1] + r[2], r[3])
)
fact_rows = st.tuples(skus, numbers, delays, st.integers(0, 3)).map(lambda r: (r[0], r[1], r[1] + r[2], r[3]))
worlds = st.builds(
    World,
    demand=st.lists(demand_rows, min_size=1, max_size=30),
    prices=st.lists(fact_rows, max_size=12),
    stock=st.lists(fact_rows, max_size=25),
    receipts=st.lists(st.tuples(st.integers(0, 9), numbers), max_size=8),
)


def features_of(gold: GoldFrames, profile: ForecastProfile, origins: list[date]) -> pl.DataFrame:
    return build_demand_features(gold, profile, origins, zone=ZONE, cutoff=CUTOFF)


def daily_origins(last: int = 30) -> list[date]:
    return [day(n) for n in range(last + 1)]


def total(world: World, sku: str, event: int, origin: int) -> int:
    return sum(u for s, e, k, u in world.demand if s == sku and e == event and k <= origin)


def latest(facts: list[tuple[str, int, int, int]], sku: str, origin: int, event: int | None = None) -> int | None:
    """Value of the newest event known and begun at an origin (of one event day, if given); corrections count."""
    versions: dict[int, dict[int, int]] = {}
    for s, e, k, value in facts:
        if s == sku and k <= origin and e <= origin and event in (None, e):
            versions.setdefault(e, {}).setdefault(k, value)
    if not versions:
        return None
    newest = versions[max(versions)]
    return newest[max(newest)]


@settings(max_examples=25, deadline=None)
@given(worlds)
def test_daily_features_equal_those_computed_one_by_one(world: World) -> None:
    rows = {(r["sku_id"], r["origin_date"]): r for r in features_of(world.gold(), DAILY, daily_origins()).to_dicts()}
    for sku in "ab":
        for origin in range(31):
            sold = [e for e in range(origin) if total(world, sku, e, origin) > 0]
            row = rows.pop((sku, day(origin)), None)
            assert (row is None) == (not sold)
            if row is None:
                continue
            totals = {e: total(world, sku, e, origin) for e in range(-9, origin)}
            age = origin - min(sold)
            assert (row["periods_since_first_sale"], row["periods_since_last_sale"]) == (age, origin - max(sold))
            assert [row[f"units_lag_{n}"] for n in DAILY.lags] == [totals.get(origin - n, 0) for n in DAILY.lags]
            for w in DAILY.windows:
                window = [totals.get(origin - n, 0) for n in range(1, w + 1)]
                assert row[f"units_sum__{w}"] == sum(window)
                assert row[f"active_periods__{w}"] == sum(u > 0 for u in window)
                n, squares = min(w, age), sum(u * u for u in window)
                assert row[f"units_mean__{w}"] == sum(window) / n
                assert row[f"units_sd__{w}"] == math.sqrt(n * squares - sum(window) ** 2) / n
                assert row[f"unit_revenue_cents__{w}"] == (100.0 if sum(window) else None)
                in_stock = [latest(world.stock, sku, origin, origin - n) != 0 for n in range(1, w + 1)]
                assert row[f"in_stock_days__{w}"] == sum(in_stock)
                assert row[f"in_stock_units__{w}"] == sum(u for u, ok in zip(window, in_stock, strict=True) if ok)
            assert row["price_cents"] == latest(world.prices, sku, origin)
            lead_times = [days for days, known in world.receipts if known <= origin]
            assert row["lead_time_n_lines"] == (len(lead_times) or None)
            assert row["lead_time_mean_days"] == (sum(lead_times) / len(lead_times) if lead_times else None)
    assert not rows


@settings(max_examples=20, deadline=None)
@given(worlds)
def test_weekly_features_are_sums_of_what_each_monday_knew(world: World) -> None:
    origins = [day(7 * n) for n in range(6)]
    for row in features_of(world.gold(), WEEKLY, origins).to_dicts():
        origin, sku = (row["origin_date"] - DAY_0).days, row["sku_id"]
        weeks = [sum(total(world, sku, origin - 7 * n + d, origin) for d in range(7)) for n in (1, 2)]
        assert [row["units_lag_1"], row["units_lag_2"]] == weeks
        assert row["units_sum__2"] == sum(weeks)
        assert row["active_periods__2"] == sum(week > 0 for week in weeks)
        in_stock = {n: latest(world.stock, sku, origin, origin - n) != 0 for n in range(1, 15)}
        assert row["in_stock_days__2"] == sum(in_stock.values())
        assert row["in_stock_units__2"] == sum(
            total(world, sku, origin - n, origin) for n, ok in in_stock.items() if ok
        )


@settings(max_examples=20, deadline=None)
@given(worlds, st.integers(0, 30), st.sampled_from([DAILY, WEEKLY]))
def test_nothing_known_after_an_origin_moves_its_features(world: World, at: int, profile: ForecastProfile) -> None:
    origins = [d for d in daily_origins(at) if profile.origin_at_or_before(d) == d]
    series = pl.DataFrame({"sku_id": ["a", "b"], "location_id": ["S1", "S1"]})
    later = [
        build_demand_features(w.gold(), profile, origins, zone=ZONE, cutoff=CUTOFF, series=series)
        for w in (world, world.known_at(at))
    ]
    assert later[0].equals(later[1])


@settings(max_examples=5, deadline=None)
@given(worlds)
def test_one_origin_at_a_time_gives_the_rows_of_all_at_once(world: World) -> None:
    gold = world.gold()
    together = features_of(gold, DAILY, daily_origins(12))
    apart = pl.concat([features_of(gold, DAILY, [origin]) for origin in daily_origins(12)])
    assert together.equals(apart.sort("sku_id", "location_id", "origin_date"))


def test_a_data_set_of_sales_alone_has_null_where_other_inputs_are_missing() -> None:
    gold = World([("a", 0, 1, 4)], [], [], []).gold()
    [row] = features_of(GoldFrames(gold.demand), DAILY, [day(3)]).to_dicts()
    missing = {name for name, value in row.items() if value is None}
    assert {"price_cents", "is_promotion", "in_stock_days__2", "lead_time_mean_days"} <= missing
    assert row["units_sum__5"] == 4


def test_columns_are_those_the_profile_promises_whatever_the_input() -> None:
    world = World([("a", 0, 1, 4)], [("a", 0, 0, 5)], [("a", 0, 0, 0)], [(3, 1)])
    full = features_of(world.gold(), DAILY, [day(3)])
    alone = features_of(GoldFrames(world.gold().demand), DAILY, [day(3)])
    nothing = features_of(world.gold(), DAILY, [])
    expected = ["sku_id", "location_id", "origin_date", *DAILY.feature_columns, "feature_set_id"]
    assert full.columns == expected
    assert full.schema == alone.schema == nothing.schema
    assert nothing.is_empty()


def test_a_price_is_compared_with_the_prices_known_on_the_days_before() -> None:
    world = World([("a", 0, 1, 1)], [("a", 0, 0, 300), ("a", 9, 9, 200)], [], [])
    [row] = features_of(world.gold(), DAILY, [day(10)]).to_dicts()
    assert row["price_ratio__28"] == 200 * 11 / (300 * 9 + 200 * 2)


def test_a_day_that_is_no_origin_is_refused() -> None:
    with pytest.raises(OutOfRange, match="not an origin"):
        features_of(World([("a", 0, 1, 1)], [], [], []).gold(), WEEKLY, [day(3)])


def test_the_series_with_most_units_known_at_the_origin_are_chosen() -> None:
    demand = World([("a", 0, 1, 3), ("b", 0, 1, 2), ("b", 1, 9, 9)], [], [], []).gold().demand
    assert select_series(demand, as_of=day(5), max_series=1)["sku_id"].to_list() == ["a"]
    assert select_series(demand, as_of=day(9), max_series=1)["sku_id"].to_list() == ["b"]


def test_the_test_world_knows_each_row_at_the_origin_of_its_day() -> None:
    known = World([], [], [("a", 0, n, 0) for n in range(9)], []).gold().stock
    assert known is not None
    dates = known.filter(posting_kind="version").select(knowledge_date_expr("knowledge_time", ZONE, CUTOFF)).to_series()
    assert dates.sort().to_list() == [day(n) for n in range(9)]
