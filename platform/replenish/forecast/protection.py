"""Quantiles of demand summed over the random protection interval: what an order has to cover.

Demand over a fixed length is the forecast sum plus a pooled residual (`residual_pools`); the interval's length is
random (`lead_time_mix`). The quantile of the mixture is read off its distribution function: nothing is drawn at random.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from replenish.contracts.dataset import Dataset
from replenish.contracts.profile import ForecastProfile
from replenish.errors import NotApplicable
from replenish.forecast.backtest import BACKTEST_TABLE, OUR_METHOD
from replenish.forecast.baseline_paths import SEASONAL_NAIVE
from replenish.forecast.lead_time_mix import LeadTimeMix, ProtectionInterval, read_lead_time_mix
from replenish.forecast.panel import SERIES_KEY
from replenish.forecast.predict import FORECAST_TABLE
from replenish.forecast.residual_pools import GRID_LEVELS, ResidualPools, build_pools
from replenish.stores.lake import DeltaLake, TableCommit, accept_all
from replenish.units import MILLI

PROTECTION_TABLE = "forecasts/protection_demand"

PROTECTION_LEVELS = (*(n / 20 for n in range(1, 20)), 0.975, 0.99, 0.995)
"""Every twentieth, and the tail in which critical ratios of cheap-to-hold goods lie."""

FloatArray = npt.NDArray[np.float64]


def protection_demand(
    lake: DeltaLake,
    dataset: Dataset,
    profile: ForecastProfile,
    origin: date,
    audit: Callable[[pl.DataFrame], None] = accept_all,
) -> TableCommit:
    """Write `forecasts/protection_demand` of one origin, replacing its earlier rows.

    Reads `forecasts/demand`, `forecasts/backtest` (errors known at the origin), `features/lead_time` and the reference
    data. Columns: `origin_date, sku_id, location_id, quantile_level, units_milli, mean_milli, protection_days_mean,
    protection_days_max, horizon_ok, model_digest, mode`. `horizon_ok` is false where the longest interval reaches past
    the forecast: the last step's rate is then continued, and a person has to look.

    Raises:
        NotApplicable: No forecast of this origin, no backtest, or no lead time known and none assumed.
        AuditFailed: From `audit`; nothing is written.
    """
    forecasts = _read(lake, FORECAST_TABLE).filter(pl.col("origin_date") == origin)
    if forecasts.is_empty():
        raise NotApplicable("no forecast of this origin", origin=origin, dataset=dataset.dataset_id)
    mode = forecasts["mode"][0]
    method = SEASONAL_NAIVE if mode == "naive" else OUR_METHOD
    pools = build_pools(_read(lake, BACKTEST_TABLE), profile, method=method, known_at=origin)
    frame = protection_rows(forecasts, pools, read_lead_time_mix(lake, dataset, origin), profile)
    labels = forecasts.select(*SERIES_KEY, "model_digest", "mode").unique()
    frame = frame.join(labels, on=SERIES_KEY, how="left").sort(*SERIES_KEY, "quantile_level")
    audit(frame)
    return lake.replace_partitions(PROTECTION_TABLE, frame, column="origin_date", values=[origin])


def protection_rows(
    forecasts: pl.DataFrame, pools: ResidualPools, mix: LeadTimeMix, profile: ForecastProfile
) -> pl.DataFrame:
    """Rows of `protection_demand` (without labels) for the paths of forecast rows, one path per origin and series."""
    paths = forecasts.sort("origin_date", *SERIES_KEY, "step")
    horizon = profile.horizon_steps
    keys = paths[::horizon].select("origin_date", *SERIES_KEY)
    sums = paths["mean_milli"].to_numpy().reshape(keys.height, horizon).cumsum(axis=1) / MILLI
    n_levels = len(PROTECTION_LEVELS)
    quantiles = np.zeros((keys.height, n_levels))
    facts: list[tuple[float, float, int]] = []
    for place, (_, sku_id, location_id) in enumerate(keys.iter_rows()):
        interval = mix.interval(sku_id, location_id)
        quantiles[place], mean = mixture_quantiles(sums[place], pools, interval, profile.period_days)
        facts.append((mean, interval.mean_days, interval.max_days))
    described = keys.with_columns(
        pl.Series("mean_milli", [round(mean * MILLI) for mean, _, _ in facts], dtype=pl.Int64),
        pl.Series("protection_days_mean", [days for _, days, _ in facts], dtype=pl.Float64),
        pl.Series("protection_days_max", [days for _, _, days in facts], dtype=pl.Int64),
    ).with_columns((pl.col("protection_days_max") <= horizon * profile.period_days).alias("horizon_ok"))
    return described[np.repeat(np.arange(keys.height), n_levels)].with_columns(
        pl.Series("quantile_level", np.tile(PROTECTION_LEVELS, keys.height)),
        pl.Series("units_milli", np.rint(quantiles.ravel() * MILLI).astype(np.int64)),
    )


def mixture_quantiles(
    forecast_sums: FloatArray, pools: ResidualPools, interval: ProtectionInterval, period_days: int
) -> tuple[FloatArray, float]:
    """Quantiles [units] at `PROTECTION_LEVELS` of demand over a random interval, and its mean.

    Args:
        forecast_sums: Forecast means of the first 1..horizon periods [units], shape (horizon,).
        pools: Residuals of the same method.
        interval: Lengths [days] and probabilities.
        period_days: Length of a period; a part of a period takes its share.
    """
    by_length = pools.sum_quantiles(forecast_sums)
    atoms = np.stack([_at_length(by_length, days / period_days) for days in interval.days])
    means = [_at_length(forecast_sums[:, None], days / period_days)[0] for days in interval.days]
    weights = np.repeat(interval.weights / GRID_LEVELS.size, GRID_LEVELS.size)
    order = np.argsort(atoms.ravel(), kind="stable")
    reached = np.cumsum(weights[order])
    places = np.searchsorted(reached, np.asarray(PROTECTION_LEVELS) - 1e-9)
    quantiles = atoms.ravel()[order][np.minimum(places, order.size - 1)]
    return quantiles, float(np.dot(interval.weights, means))


def _at_length(by_length: FloatArray, periods: float) -> FloatArray:
    """Values at a length in periods: linear between whole lengths, in proportion beyond the last one."""
    horizon = by_length.shape[0]
    if periods >= horizon:
        return by_length[-1] * (periods / horizon)
    whole = int(periods)
    below = by_length[whole - 1] if whole > 0 else np.zeros(by_length.shape[1])
    return below + (periods - whole) * (by_length[whole] - below)


def _read(lake: DeltaLake, table: str) -> pl.DataFrame:
    if not lake.has(table):
        raise NotApplicable("no such forecast yet", table=table)
    return lake.read(table)
