"""Windows of unconstrained demand: sums of what an origin knows, beside features that were built before."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from replenish.contracts.profile import read_profile
from replenish.errors import StoreError
from replenish.features.demand import FEAT_DEMAND_TABLE, GoldFrames, build_demand_features, update_feat_demand
from replenish.features.unconstrained.lost_sales import known_lost_sales, lost_sales_increments, update_lost_sales
from replenish.units import MILLI
from tests.unit.features.unconstrained.test_lost_sales import CUTOFF, ORIGIN, ZONE, counted, gold_lake, random_gold

DAILY = replace(read_profile("demo"), lags=(1,), windows=(2, 9))
WEEKLY = replace(read_profile("weekly"), lags=(1,), windows=(2,), max_series=None)


@pytest.mark.parametrize(("profile", "seed"), [(DAILY, 1), (DAILY, 2), (WEEKLY, 3)])
def test_windows_are_the_sums_of_what_is_known(profile, seed: int) -> None:
    demand, stock = random_gold(seed, 70)
    demand = demand.with_columns(revenue_cents=pl.col("units") * 100)
    lost = lost_sales_increments(demand, stock, ORIGIN, ORIGIN + timedelta(days=70), zone=ZONE, cutoff=CUTOFF)
    origins = [day for n in range(20, 70) if profile.origin_at_or_before(day := ORIGIN + timedelta(days=n)) == day]
    gold = GoldFrames(demand, stock=stock, lost_sales=lost)
    rows = build_demand_features(gold, profile, origins, zone=ZONE, cutoff=CUTOFF)
    n_estimated = 0
    for row in rows.iter_rows(named=True):
        origin: date = row["origin_date"]
        known = known_lost_sales(lost, origin).filter(sku_id=row["sku_id"])
        for window in profile.windows:
            since = origin - timedelta(days=window * profile.period_days)
            expected = known.filter(pl.col("event_date") >= since)["lost_milli"].sum()
            assert row[f"lost_milli_sum__{window}"] == expected
            assert row[f"unconstrained_milli_sum__{window}"] == row[f"units_sum__{window}"] * MILLI + expected
            n_estimated += expected > 0
    assert n_estimated > 10


def test_where_nothing_is_estimated_the_columns_are_null() -> None:
    demand, stock = random_gold(1, 40)
    gold = GoldFrames(demand.with_columns(revenue_cents=pl.col("units") * 100), stock=stock)
    rows = build_demand_features(gold, DAILY, [ORIGIN + timedelta(days=30)], zone=ZONE, cutoff=CUTOFF)
    assert rows.select("lost_milli_sum__2", "unconstrained_milli_sum__9").null_count().row(0) == (rows.height,) * 2


def test_features_wait_for_the_lost_sales_of_their_origin(tmp_path: Path) -> None:
    lake, shop = gold_lake(tmp_path), counted("sales", "stock_counts")
    lake.overwrite("gold/fct_demand", lake.read("gold/fct_demand").with_columns(revenue_cents=pl.lit(0, pl.Int64)))
    update_lost_sales(lake, shop, through=ORIGIN + timedelta(days=30))
    update_feat_demand(lake, shop, DAILY, through=ORIGIN + timedelta(days=30))
    with pytest.raises(StoreError, match=r"update `lost_sales` first \[known=2025-07-02, wanted=2025-07-03\]"):
        update_feat_demand(lake, shop, DAILY, through=ORIGIN + timedelta(days=31))
    assert lake.scan(FEAT_DEMAND_TABLE).select(pl.col("origin_date").max()).collect().item() == date(2025, 7, 2)
