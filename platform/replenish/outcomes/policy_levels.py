"""Our own order-up-to levels at past origins, as they were known then."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from replenish.outcomes.service_inputs import SERIES_KEY
from replenish.outcomes.service_options import ServiceOptions
from replenish.stores.lake import DeltaLake
from replenish.units import MILLI

POLICY_LEVEL_TABLE = "forecasts/policy_levels"
PROTECTION_DEMAND_TABLE = "forecasts/protection_demand"
MIN_LEVEL_DAYS = 28
"""Levels that reach back less than four weeks have not seen a whole order cycle of a slow supplier."""


def read_policy_levels(lake: DeltaLake, origin: date, options: ServiceOptions) -> pl.DataFrame | None:
    """Base-stock levels of the origins in the weeks before `origin`; None where they reach back less than four weeks.

    Taken from `forecasts/policy_levels` where it is written, else from `forecasts/protection_demand`: the smallest
    quantile at or above the target `cycle_service_level`.

    Returns:
        (origin_date, sku_id, location_id), one row each, sorted, with int64 `base_stock_level_units` and the
        `critical_ratio` each level was made for (the option's target where the table does not say).
    """
    first = origin - timedelta(days=options.n_days)
    for table in (POLICY_LEVEL_TABLE, PROTECTION_DEMAND_TABLE):
        if not lake.has(table):
            continue
        rows = lake.read(table, filters=[("origin_date", ">=", first), ("origin_date", "<", origin)])
        if table == PROTECTION_DEMAND_TABLE:
            rows = _at_target(rows, options.cycle_service_level)
        if rows.height and min(rows["origin_date"].to_list()) <= origin - timedelta(days=MIN_LEVEL_DAYS):
            level = pl.col("base_stock_level_units").cast(pl.Float64).ceil().cast(pl.Int64)
            said = pl.col("critical_ratio") if "critical_ratio" in rows.columns else pl.lit(None, dtype=pl.Float64)
            ratio = said.fill_null(options.cycle_service_level).alias("critical_ratio")
            return rows.select("origin_date", *SERIES_KEY, level, ratio).sort("origin_date", *SERIES_KEY)
    return None


def _at_target(rows: pl.DataFrame, target: float) -> pl.DataFrame:
    """The quantile each series would have been ordered up to."""
    reached = rows.filter(pl.col("quantile_level") >= target - 1e-9).sort("quantile_level")
    smallest = reached.group_by("origin_date", *SERIES_KEY, maintain_order=True).first()
    return smallest.with_columns(base_stock_level_units=pl.col("units_milli") / MILLI)
