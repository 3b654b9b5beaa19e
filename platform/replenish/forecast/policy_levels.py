"""Order-up-to levels that would have been set at past origins: what the simulator replays our policy with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import polars as pl

from replenish.contracts.dataset import Dataset
from replenish.contracts.profile import ForecastProfile
from replenish.errors import NotApplicable
from replenish.forecast.backtest import BACKTEST_TABLE, OUR_METHOD, PATH_TABLE
from replenish.forecast.lead_time_mix import read_lead_time_mix
from replenish.forecast.panel import SERIES_KEY
from replenish.forecast.protection import protection_rows
from replenish.forecast.residual_pools import build_pools
from replenish.stores.lake import DeltaLake, TableCommit, accept_all
from replenish.units import MILLI

POLICY_LEVEL_TABLE = "forecasts/policy_levels"

DEFAULT_CRITICAL_RATIO = 0.9
"""For items without a ratio of their own: the policy's default."""


def update_policy_levels(
    lake: DeltaLake,
    dataset: Dataset,
    profile: ForecastProfile,
    origin: date,
    audit: Callable[[pl.DataFrame], None] = accept_all,
    *,
    ratios: pl.DataFrame | None = None,
) -> TableCommit:
    """Write `forecasts/policy_levels`: levels at the origins of `forecasts/past_paths`, replacing all earlier rows.

    At each past origin the forecast is the backtest model's, which was trained before, and its errors are those known
    then; lead times are as known at the newest origin. Origins at which too few errors were known are left out.
    Columns: `origin_date, sku_id, location_id, critical_ratio, base_stock_level_units` (whole units, rounded up).

    Args:
        ratios: `sku_id, critical_ratio`; items without one take `DEFAULT_CRITICAL_RATIO`.

    Raises:
        NotApplicable: No backtest, no lead times, or no origin with enough known errors.
        AuditFailed: From `audit`; nothing is written.
    """
    if not (lake.has(PATH_TABLE) and lake.has(BACKTEST_TABLE)):
        raise NotApplicable("no backtest yet", origin=origin)
    paths, backtest = lake.read(PATH_TABLE), lake.read(BACKTEST_TABLE)
    mix = read_lead_time_mix(lake, dataset, origin)
    parts = []
    for (day,), group in (
        paths.filter(pl.col("origin_date") < origin).sort("origin_date").group_by("origin_date", maintain_order=True)
    ):
        if not isinstance(day, date):
            continue
        try:
            pools = build_pools(backtest, profile, method=OUR_METHOD, known_at=day)
        except NotApplicable:
            continue
        parts.append(protection_rows(group, pools, mix, profile))
    if not parts:
        raise NotApplicable("too few errors known at any past origin", origin=origin)
    frame = _levels(pl.concat(parts), ratios)
    audit(frame)
    return lake.overwrite(POLICY_LEVEL_TABLE, frame)


def _levels(quantiles: pl.DataFrame, ratios: pl.DataFrame | None) -> pl.DataFrame:
    """The smallest level of the grid that reaches the item's ratio, in whole units."""
    wanted = quantiles if ratios is None else quantiles.join(ratios, on="sku_id", how="left")
    if ratios is None:
        wanted = wanted.with_columns(pl.lit(DEFAULT_CRITICAL_RATIO).alias("critical_ratio"))
    wanted = wanted.with_columns(pl.col("critical_ratio").fill_null(DEFAULT_CRITICAL_RATIO))
    top = pl.col("quantile_level").max()
    reached = wanted.filter(pl.col("quantile_level") >= pl.min_horizontal("critical_ratio", top) - 1e-9)
    return (
        reached.sort("origin_date", *SERIES_KEY, "quantile_level")
        .group_by("origin_date", *SERIES_KEY, maintain_order=True)
        .first()
        .select(
            "origin_date",
            *SERIES_KEY,
            "critical_ratio",
            ((pl.col("units_milli") + (MILLI - 1)) // MILLI).alias("base_stock_level_units"),
        )
    )
