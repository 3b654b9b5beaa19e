"""The long form of forecasts: one row per origin, series and step, everything in whole thousandths of a unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from replenish.contracts.profile import ForecastProfile
from replenish.forecast.panel import SERIES_KEY
from replenish.units import MILLI

FloatArray = npt.NDArray[np.float64]

FORECAST_KEY = ("origin_date", *SERIES_KEY, "step")


def quantile_column(level: float) -> str:
    """Name of the column that holds a quantile level.

    >>> [quantile_column(level) for level in (0.05, 0.1, 0.975)]
    ['q05_milli', 'q10_milli', 'q975_milli']
    """
    return f"q{f'{level:.3f}'[2:].rstrip('0').ljust(2, '0')}_milli"


def quantile_columns(levels: Sequence[float]) -> list[str]:
    """Names of the columns of several levels, in their order."""
    return [quantile_column(level) for level in levels]


def forecast_frame(
    rows: pl.DataFrame, mean: FloatArray, quantiles: FloatArray, profile: ForecastProfile
) -> pl.DataFrame:
    """Forecasts as rows, sorted by `FORECAST_KEY`.

    Args:
        rows: `origin_date, sku_id, location_id`, one per path.
        mean: Units, shape (n_rows, horizon).
        quantiles: Units, shape (n_rows, horizon, n_levels), rising.
        profile: Horizon and levels.
    """
    steps = np.arange(1, profile.horizon_steps + 1)
    columns = {"mean_milli": _milli(mean)}
    names = quantile_columns(profile.quantile_levels)
    columns |= {name: _milli(quantiles[:, :, place]) for place, name in enumerate(names)}
    n_rows = rows.height
    long = rows.select("origin_date", *SERIES_KEY)[np.repeat(np.arange(n_rows), steps.size)]
    ahead = pl.duration(days=(pl.col("step") - 1) * profile.period_days)
    frame = long.with_columns(pl.Series("step", np.tile(steps, n_rows)).cast(pl.Int32))
    frame = frame.with_columns((pl.col("origin_date") + ahead).alias("target_date"))
    return frame.with_columns(pl.Series(name, values) for name, values in columns.items()).sort(*FORECAST_KEY)


def _milli(units: FloatArray) -> npt.NDArray[np.int64]:
    return np.rint(units.ravel() * MILLI).astype(np.int64)
