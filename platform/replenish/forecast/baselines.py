"""The forecasts everyone must beat, each with quantiles from its own past errors.

A method maps a history (n_series, n_periods) to point forecasts (n_series, horizon); it sees nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

FloatMatrix = npt.NDArray[np.float64]
BaselineMethod = Callable[[FloatMatrix, int], FloatMatrix]

MIN_RESIDUALS = 8
"""With fewer errors of its own a series borrows the scaled errors of all: an 0.9 quantile of fewer is one value."""


def seasonal_naive(history: FloatMatrix, horizon: int, season_length: int) -> FloatMatrix:
    """The value one season ago, repeated; the mean of what there is while the history is shorter than a season.

    Source: Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 3rd edition, section 5.2.

    >>> seasonal_naive(np.array([[1.0, 2.0, 3.0]]), 4, 3)
    array([[1., 2., 3., 1.]])
    """
    if history.shape[1] < season_length:
        return moving_average(history, horizon, season_length)
    return history[:, history.shape[1] - season_length + np.arange(horizon) % season_length]


def moving_average(history: FloatMatrix, horizon: int, window: int) -> FloatMatrix:
    """The mean of the last `window` periods for every step; zero without history.

    Source: as `seasonal_naive`.
    """
    tail = history[:, -window:]
    level = tail.mean(axis=1) if tail.shape[1] else np.zeros(history.shape[0])
    return np.repeat(level[:, None], horizon, axis=1)


def simple_exponential_smoothing(history: FloatMatrix, horizon: int) -> FloatMatrix:
    """Flat forecasts at the smoothed level; the smoothing weight of each series has the least one-step squared error.

    Source: Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 3rd edition, section 8.1.
    """
    weights = np.arange(0.05, 1.0, 0.05)
    best_error = np.full(history.shape[0], np.inf)
    best_level = np.zeros(history.shape[0])
    for weight in weights:
        level, error = history[:, 0].copy(), np.zeros(history.shape[0])
        for period in range(1, history.shape[1]):
            gap = history[:, period] - level
            error += gap**2
            level += weight * gap
        better = error < best_error
        best_error[better], best_level[better] = error[better], level[better]
    return np.repeat(np.maximum(best_level, 0.0)[:, None], horizon, axis=1)


def holt_winters(history: FloatMatrix, horizon: int, season_length: int) -> FloatMatrix:
    """Additive seasonal exponential smoothing without trend, weights by least one-step squared error per series.

    Source: Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 3rd edition, section 8.3 (ETS(A,N,A)).
    """
    best_error = np.full(history.shape[0], np.inf)
    best = np.zeros((history.shape[0], horizon))
    for level_weight, season_weight in product((0.02, 0.05, 0.1, 0.2, 0.4), (0.02, 0.05, 0.1, 0.2)):
        error, forecast = _smooth_seasonally(history, horizon, season_length, level_weight, season_weight)
        better = error < best_error
        best_error[better], best[better] = error[better], forecast[better]
    return np.maximum(best, 0.0)


def residual_quantiles(
    history: FloatMatrix,
    horizon: int,
    method: BaselineMethod,
    levels: Sequence[float],
    *,
    min_history: int,
    stride: int,
) -> FloatMatrix:
    """Quantiles around a method's forecast from the errors it made at past origins of the same history.

    Past origins lie `stride` periods apart, the newest one `horizon` before the end, so every error is known. Errors
    are pooled by series over origins and steps; a series with fewer than `MIN_RESIDUALS` takes the pooled errors of
    all series, scaled by mean demand.

    Returns:
        Shape (n_series, horizon, n_levels), not negative, rising with the level.
    """
    point = method(history, horizon)
    origins = range(history.shape[1] - horizon, max(min_history, 1) - 1, -stride)
    started = np.where((history > 0).any(axis=1), (history > 0).argmax(axis=1), history.shape[1])
    errors = [
        np.where(
            started[:, None] < origin,
            history[:, origin : origin + horizon] - method(history[:, :origin], horizon),
            np.nan,
        )
        for origin in origins
    ]
    if not errors:
        return np.repeat(point[:, :, None], len(levels), axis=2)
    pool = np.concatenate(errors, axis=1)
    scale = history.mean(axis=1) + 1.0 / max(history.shape[1], 1)
    shared = (pool / scale[:, None])[np.isfinite(pool)]
    shifts = np.zeros((history.shape[0], len(levels)))
    for row, own in enumerate(pool):
        own = own[np.isfinite(own)]
        if own.size >= MIN_RESIDUALS:
            shifts[row] = np.quantile(own, levels)
        elif shared.size:
            shifts[row] = np.quantile(shared, levels) * scale[row]
    return np.maximum(point[:, :, None] + shifts[:, None, :], 0.0)


def _smooth_seasonally(
    history: FloatMatrix, horizon: int, season_length: int, level_weight: float, season_weight: float
) -> tuple[FloatMatrix, FloatMatrix]:
    level = history[:, :season_length].mean(axis=1)
    season = history[:, :season_length] - level[:, None]
    error = np.zeros(history.shape[0])
    n_periods = history.shape[1]
    for period in range(season_length, n_periods):
        place = period % season_length
        gap = history[:, period] - level - season[:, place]
        error += gap**2
        level = level + level_weight * gap
        season[:, place] += season_weight * gap
    places = (n_periods + np.arange(horizon)) % season_length
    return error, level[:, None] + season[:, places]
