"""Baseline forecasts of one origin as forecast rows, quantiles from errors known at the origin included."""

from __future__ import annotations

import polars as pl

from replenish.contracts.profile import ForecastProfile
from replenish.errors import OutOfRange
from replenish.forecast.baselines import (
    BaselineMethod,
    holt_winters,
    moving_average,
    residual_quantiles,
    seasonal_naive,
)
from replenish.forecast.forecast_frame import forecast_frame
from replenish.forecast.panel import DemandPanel

SEASONAL_NAIVE = "seasonal_naive"
MOVING_AVERAGE = "moving_average"
EXPONENTIAL_SMOOTHING = "exponential_smoothing"

AVERAGE_DAYS = 56
"""Eight weeks: the usual window of a planner's moving average, and whole weeks."""

RESIDUAL_ORIGINS = 26
"""Past origins whose errors make the quantiles; enough for the tails, few enough to be recent."""


def baseline_method(name: str, profile: ForecastProfile) -> BaselineMethod:
    """The method of this name with the profile's season; OutOfRange for an unknown name."""
    if name == SEASONAL_NAIVE:
        return lambda history, horizon: seasonal_naive(history, horizon, profile.season_length)
    if name == MOVING_AVERAGE:
        return lambda history, horizon: moving_average(history, horizon, max(AVERAGE_DAYS // profile.period_days, 1))
    if name == EXPONENTIAL_SMOOTHING:
        return lambda history, horizon: holt_winters(history, horizon, profile.season_length)
    raise OutOfRange("no such baseline", name=name)


def baseline_forecasts(name: str, panel: DemandPanel, profile: ForecastProfile) -> pl.DataFrame:
    """Forecast rows (see `forecast_frame`) of every series of the panel for the origin at which it was known."""
    history = panel.units.astype(float)
    method = baseline_method(name, profile)
    needed = profile.season_length + 1
    stride = max(1, (history.shape[1] - profile.horizon_steps - needed) // RESIDUAL_ORIGINS)
    stride = min(stride, profile.season_length) if profile.period_days == 1 else 1
    quantiles = residual_quantiles(
        history, profile.horizon_steps, method, profile.quantile_levels, min_history=needed, stride=stride
    )
    mean = method(history, profile.horizon_steps)
    rows = panel.keys.with_columns(pl.lit(panel.known_at).alias("origin_date"))
    return forecast_frame(rows, mean, quantiles, profile)
