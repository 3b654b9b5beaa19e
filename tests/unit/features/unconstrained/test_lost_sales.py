"""Lost sales as known at each origin: origin by origin equals all at once, and later knowledge moves no estimate."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replenish.bitemporal_windows import Changes
from replenish.contracts.dataset import Dataset, Feed, FileFormat, KnowledgeRule
from replenish.errors import AuditFailed, NotApplicable, OutOfRange, StoreError
from replenish.features.unconstrained.known_days import KnownDays
from replenish.features.unconstrained.lost_sales import (
    LOST_SALES_TABLE,
    known_lost_sales,
    lost_sales_increments,
    update_lost_sales,
)
from replenish.stores.lake import DeltaLake

ZONE, CUTOFF = "Europe/Berlin", time(6)
ORIGIN = date(2025, 6, 2)
"""A Monday."""
ITEM = {"sku_id": "A", "location_id": "S"}
USUAL = dict.fromkeys(range(60, 0, -1), 6)


def gold(units: dict[int, int], empty: dict[int, date]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Sales by days before the origin, and empty counts of days before it with the date that knows them."""
    sold = [(ORIGIN - timedelta(days=back), n) for back, n in units.items()]
    demand = pl.DataFrame(
        [{**ITEM, "event_date": day, "knowledge_date": day + timedelta(days=1), "units": n} for day, n in sold]
    )
    counts = []
    for back, known in empty.items():
        day = ORIGIN - timedelta(days=back)
        closing = datetime(day.year, day.month, day.day, 20, tzinfo=UTC)
        at = datetime(known.year, known.month, known.day, 2, tzinfo=UTC)
        counts.append({**ITEM, "event_date": day, "event_time": closing, "knowledge_time": at, "on_hand_units": 0})
    posting = {"version_nr": 1, "posting_kind": "version", "posting_sign": 1}
    return demand, pl.DataFrame([{**count, **posting} for count in counts])


def lost(
    demand: pl.DataFrame,
    stock: pl.DataFrame,
    last: date = ORIGIN,
    first: date = ORIGIN,
    held: pl.DataFrame | None = None,
) -> pl.DataFrame:
    return lost_sales_increments(demand, stock, first, last, zone=ZONE, cutoff=CUTOFF, held=held)


def days_lost(rows: pl.DataFrame, origin: date = ORIGIN) -> list[tuple[object, ...]]:
    return known_lost_sales(rows, origin).select("event_date", "lost_milli", "censored_days").rows()


def test_a_sold_out_day_lost_what_was_wanted_beyond_its_sales() -> None:
    demand, stock = gold({**USUAL, 3: 1}, {3: ORIGIN})
    assert days_lost(lost(demand, stock)) == [(ORIGIN - timedelta(days=3), 5_000, 1)]


def test_a_count_that_is_not_known_yet_marks_nothing() -> None:
    demand, stock = gold({**USUAL, 3: 1}, {3: ORIGIN + timedelta(days=1)})
    rows = lost(demand, stock, ORIGIN + timedelta(days=1))
    assert days_lost(rows) == []
    assert len(days_lost(rows, ORIGIN + timedelta(days=1))) == 1


def test_a_reversed_count_takes_its_estimate_back() -> None:
    demand, stock = gold({**USUAL, 3: 1}, {3: ORIGIN - timedelta(days=2)})
    taken_back = stock.with_columns(
        posting_kind=pl.lit("reversal"),
        posting_sign=pl.lit(-1, pl.Int64),
        knowledge_time=pl.col("knowledge_time") + timedelta(hours=20),
    )
    rows = lost(demand, pl.concat([stock, taken_back]), first=ORIGIN - timedelta(days=40))
    assert days_lost(rows, ORIGIN - timedelta(days=2)) == [(ORIGIN - timedelta(days=3), 5_000, 1)]
    assert days_lost(rows) == []
    assert rows["knowledge_date"].to_list() == [ORIGIN - timedelta(days=2), ORIGIN - timedelta(days=1)]


def test_what_becomes_known_later_changes_no_origin() -> None:
    demand, stock = gold({**USUAL, 3: 1}, {3: ORIGIN})
    late = demand.head(5).with_columns(knowledge_date=pl.lit(ORIGIN + timedelta(days=2)), units=pl.lit(999, pl.Int64))
    later = lost(pl.concat([demand, late]), stock, ORIGIN + timedelta(days=2))
    assert days_lost(later) == days_lost(lost(demand, stock))


def test_days_before_the_first_sale_lost_nothing() -> None:
    demand, stock = gold({1: 6}, {5: ORIGIN, 1: ORIGIN})
    assert days_lost(lost(demand, stock)) == [(ORIGIN - timedelta(days=1), 0, 1)]


def counted(*streams: str) -> Dataset:
    feeds = tuple(
        Feed(stream, stream, (f"{stream}-*.csv",), FileFormat(), "UTC", {}, KnowledgeRule("arrival"))
        for stream in streams
    )
    return Dataset("shop", ZONE, CUTOFF, "demo", None, feeds)


def gold_lake(folder: Path) -> DeltaLake:
    demand, stock = random_gold(11, 70)
    lake = DeltaLake(folder)
    lake.overwrite("gold/fct_demand", demand)
    lake.overwrite("gold/fct_stock", stock)
    return lake


def test_updates_day_by_day_give_the_table_of_one_update(tmp_path: Path) -> None:
    lake, whole = gold_lake(tmp_path / "a"), gold_lake(tmp_path / "b")
    shop = counted("sales", "stock_counts")
    for n in range(1, 110):
        update_lost_sales(lake, shop, through=ORIGIN + timedelta(days=n))
    again = update_lost_sales(lake, shop, through=ORIGIN + timedelta(days=109))
    assert again.version == lake.version(LOST_SALES_TABLE)
    update_lost_sales(whole, shop, through=ORIGIN + timedelta(days=109))
    assert whole.row_count(LOST_SALES_TABLE) > 50
    assert sorted(lake.read(LOST_SALES_TABLE).rows()) == sorted(whole.read(LOST_SALES_TABLE).rows())


def test_where_nobody_counts_stock_nothing_is_estimated(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="which days sold out"):
        update_lost_sales(gold_lake(tmp_path), counted("sales"))


def test_before_the_first_sale_there_is_nothing_to_estimate(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="no demand was known then"):
        update_lost_sales(gold_lake(tmp_path), counted("sales", "stock_counts"), through=ORIGIN - timedelta(days=9))


def test_a_table_of_another_estimator_is_not_added_to(tmp_path: Path) -> None:
    lake = gold_lake(tmp_path)
    update_lost_sales(lake, counted("sales", "stock_counts"))
    other = DeltaLake(tmp_path / "other")
    for table in ("gold/fct_demand", "gold/fct_stock"):
        other.overwrite(table, lake.read(table))
    other.append(LOST_SALES_TABLE, lake.read(LOST_SALES_TABLE), app=("lost_sales:mean@1", 5))
    with pytest.raises(StoreError, match="another estimator"):
        update_lost_sales(other, counted("sales", "stock_counts"))


def test_rows_that_fail_their_audit_are_not_written(tmp_path: Path) -> None:
    def refuse(frame: pl.DataFrame) -> None:
        raise AuditFailed("too many rows", n_rows=frame.height)

    lake = gold_lake(tmp_path)
    with pytest.raises(AuditFailed):
        update_lost_sales(lake, counted("sales", "stock_counts"), refuse)
    assert not lake.has(LOST_SALES_TABLE)


def test_time_only_goes_on() -> None:
    nothing = Changes(*(np.zeros(0, dtype=np.int64) for _ in range(4)))
    days = KnownDays(nothing, nothing, 1, 0, 10)
    days.advance(5)
    with pytest.raises(OutOfRange, match="before the one that is known"):
        days.advance(4)


def random_gold(seed: int, n_days: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Three articles with late, corrected and taken-back sales, late and corrected counts, late first sales."""
    draw = np.random.default_rng(seed)
    sales, counts = [], []
    for nr in range(3):
        item = {"sku_id": f"sku-{nr}", "location_id": "S"}
        for day in range(n_days):
            on = ORIGIN + timedelta(days=day)
            for _ in range(int(draw.integers(0, 3))):
                known = on + timedelta(days=int(draw.choice([0, 1, 1, 1, 2, 9, 40])))
                units = int(draw.choice([1, 2, 5, 12, 400], p=[0.4, 0.3, 0.2, 0.08, 0.02]))
                sales.append({**item, "event_date": on, "knowledge_date": known, "units": units})
                if draw.random() < 0.15:
                    back = known + timedelta(days=int(draw.integers(0, 30)))
                    sales.append({**item, "event_date": on, "knowledge_date": back, "units": -units})
            if draw.random() < 0.4:
                at = datetime(on.year, on.month, on.day, 20, tzinfo=UTC)
                left, known_at = int(draw.integers(0, 2)), at + timedelta(hours=float(draw.choice([3, 20, 200])))
                count = {**item, "event_date": on, "event_time": at, "knowledge_time": known_at, "version_nr": 1}
                count |= {"posting_kind": "version", "posting_sign": 1, "on_hand_units": left}
                counts.append(count)
                if draw.random() < 0.3:
                    changed = known_at + timedelta(hours=float(draw.integers(1, 300)))
                    counts.append(count | {"posting_kind": "reversal", "posting_sign": -1, "knowledge_time": changed})
                    counts.append(count | {"version_nr": 2, "on_hand_units": 1 - left, "knowledge_time": changed})
    return pl.DataFrame(sales), pl.DataFrame(counts)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 100_000), st.integers(1, 60))
def test_origin_by_origin_equals_all_at_once(seed: int, stop: int) -> None:
    demand, stock = random_gold(seed, 70)
    last = ORIGIN + timedelta(days=75)
    begun = lost(demand, stock, ORIGIN + timedelta(days=stop), ORIGIN)
    resumed = lost(demand, stock, last, ORIGIN + timedelta(days=stop + 1), begun)
    rows = pl.concat([begun, resumed])
    assert sorted(rows.rows()) == sorted(lost(demand, stock, last, ORIGIN).rows())
    for back in range(0, 75, 6):
        origin = last - timedelta(days=back)
        # What later origins know is not even there.
        seen = demand.filter(pl.col("knowledge_date") <= origin)
        assert days_lost(rows, origin) == days_lost(lost(seen, stock, origin, origin), origin)
    assert rows.height > 20
