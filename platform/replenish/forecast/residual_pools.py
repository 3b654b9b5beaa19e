"""What the sums of a forecast path miss by: residuals of cumulative demand from out-of-sample backtest paths.

For every length L a path gives one residual of the sum over its first L periods, divided by the root of the forecast
sum, so that residuals of similar volumes are comparable. Pools are kept by length and volume bin, as quantiles on a
fixed grid. On a day with a stock-out what was sold is a lower bound; the day enters with the demand to be expected
beyond that bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from replenish.contracts.profile import ForecastProfile
from replenish.errors import NotApplicable
from replenish.forecast.panel import SERIES_KEY
from replenish.units import MILLI

FloatArray = npt.NDArray[np.float64]

GRID_LEVELS = (np.arange(200) + 0.5) / 200
"""Half a percent apart: fine enough for the 0.995 quantile, coarse enough to sort a mixture in a millisecond."""

MAX_BINS = 5
MIN_PATHS_PER_BIN = 40
"""An 0.95 quantile of fewer paths is the second largest of them."""

MIN_PATHS = 20
"""Below this no quantile is claimed at all."""


@dataclass(frozen=True)
class ResidualPools:
    """Standardised residual quantiles, shape (n_lengths, n_bins, n_grid), and the volume limits between the bins.

    `bounds`: mean demand per period [units] between bins, shape (n_bins - 1,). A bin without enough paths holds the
    quantiles of all volumes, a length without enough those of the next shorter one.
    """

    quantiles: FloatArray
    bounds: FloatArray

    def sum_quantiles(self, forecast_sums: FloatArray) -> FloatArray:
        """Quantiles [units] on the grid of the sum over each length for one path.

        Args:
            forecast_sums: Forecast means of the first 1..n_lengths periods [units], shape (n_lengths,).

        Returns:
            Shape (n_lengths, n_grid), rising, not negative.
        """
        volume = forecast_sums / np.arange(1, forecast_sums.size + 1)
        bins = np.searchsorted(self.bounds, volume, side="right")
        residuals = self.quantiles[np.arange(forecast_sums.size), bins]
        return np.maximum(forecast_sums[:, None] + residuals * _spread(forecast_sums)[:, None], 0.0)


def build_pools(rows: pl.DataFrame, profile: ForecastProfile, *, method: str, known_at: date) -> ResidualPools:
    """Pools from the backtest rows of one method whose targets were complete at an origin.

    Args:
        rows: `forecasts/backtest`.
        profile: Horizon and period.
        method: Whose errors: the method that makes the forecast they are laid around.
        known_at: Periods that end later than this are not used.

    Raises:
        NotApplicable: Fewer than `MIN_PATHS` complete paths of length one.
    """
    horizon = profile.horizon_steps
    mine = rows.filter(pl.col("method") == method).sort("origin_date", *SERIES_KEY, "step")
    n_paths = mine.height // horizon
    actual = _uncensored(mine).reshape(n_paths, horizon).cumsum(axis=1)
    forecast = mine["mean_milli"].to_numpy().reshape(n_paths, horizon).cumsum(axis=1) / MILLI
    ends = mine.select((pl.col("target_date") + pl.duration(days=profile.period_days)) <= known_at).to_series()
    is_complete = ends.to_numpy().reshape(n_paths, horizon)
    if n_paths == 0 or int(is_complete[:, 0].sum()) < MIN_PATHS:
        raise NotApplicable("too few backtest paths to know the forecast's errors", method=method, known_at=known_at)
    residual = (actual - forecast) / _spread(forecast)
    bounds = _volume_bounds(forecast[:, 0][is_complete[:, 0]])
    quantiles = np.zeros((horizon, bounds.size + 1, GRID_LEVELS.size))
    every_volume = np.zeros(GRID_LEVELS.size)
    for length in range(horizon):
        own_bin = np.searchsorted(bounds, forecast[:, length] / (length + 1), side="right")
        if is_complete[:, length].sum() >= MIN_PATHS:
            every_volume = _hazen(residual[is_complete[:, length], length])
        for volume_bin in range(bounds.size + 1):
            chosen = is_complete[:, length] & (own_bin == volume_bin)
            is_enough = chosen.sum() >= MIN_PATHS
            quantiles[length, volume_bin] = _hazen(residual[chosen, length]) if is_enough else every_volume
    return ResidualPools(quantiles, bounds)


def demand_beyond(sold: FloatArray, mean: FloatArray) -> FloatArray:
    """Demand [units] to be expected on days that sold out, given that it was at least what was sold.

    Args:
        sold: Units sold, >= 0.
        mean: Forecast mean [units]; the deviation is taken as its root, that of a Poisson count.

    Source: Nahmias, Demand estimation in lost sales inventory systems, Naval Research Logistics 41 (1994): the mean of
    a normal distribution cut off below.

    >>> demand_beyond(np.array([0.0, 4.0, 9.0]), np.array([4.0, 4.0, 4.0])).round(2)
    array([4.11, 5.6 , 9.65])
    """
    deviation = _spread(mean)
    # Beyond six deviations the tail is below the resolution of the formula: the sale itself is nearly all there is.
    place = np.minimum((sold - mean) / deviation, 6.0)
    density = np.exp(-(place**2) / 2) / math.sqrt(2 * math.pi)
    tail = np.array([math.erfc(x / math.sqrt(2)) / 2 for x in place])
    return np.maximum(mean + deviation * density / tail, sold)


def _uncensored(rows: pl.DataFrame) -> FloatArray:
    sold = rows["actual_units"].cast(pl.Float64).to_numpy().copy()
    is_bound = rows["is_censored"].to_numpy()
    sold[is_bound] = demand_beyond(sold[is_bound], rows["mean_milli"].to_numpy()[is_bound] / MILLI)
    return sold


def _hazen(values: FloatArray) -> FloatArray:
    """Quantiles at `GRID_LEVELS`; the i-th of n values stands for the level (i - 1/2) / n."""
    return np.quantile(values, GRID_LEVELS, method="hazen")


def _volume_bounds(volume: FloatArray) -> FloatArray:
    n_bins = max(1, min(MAX_BINS, volume.size // MIN_PATHS_PER_BIN))
    return np.unique(np.quantile(volume, np.arange(1, n_bins) / n_bins)) if n_bins > 1 else np.empty(0)


def _spread(forecast: FloatArray) -> FloatArray:
    """Root of the mean, the standard deviation of a Poisson count; a hundredth of a unit keeps it above zero."""
    return np.sqrt(forecast + 0.01)
