"""Accuracy metrics as flat, pure functions: `actual` first, `forecast` second, arrays of one shape.

Every metric needs at least one pair of finite numbers; an empty input or a zero denominator gives NaN, never an error,
since a series without demand has no relative accuracy.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def wape(actual: FloatArray, forecast: FloatArray) -> float:
    """Weighted absolute percentage error: sum of absolute errors over the sum of actuals, a ratio >= 0.

    Source: Kolassa and Schuetz, Advantages of the MAD/Mean ratio over the MAPE, Foresight 6 (2007).

    >>> wape(np.array([10.0, 20.0]), np.array([12.0, 17.0]))
    0.16666666666666666
    """
    return _ratio(float(np.abs(actual - forecast).sum()), float(np.abs(actual).sum()))


def bias(actual: FloatArray, forecast: FloatArray) -> float:
    """Relative bias: sum of (forecast - actual) over the sum of actuals; positive when the forecast is too high.

    Source: Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 3rd edition, section 5.8, scaled.

    >>> bias(np.array([10.0, 20.0]), np.array([12.0, 21.0]))
    0.1
    """
    return _ratio(float((forecast - actual).sum()), float(np.abs(actual).sum()))


def pinball_loss(actual: FloatArray, forecast: FloatArray, quantile_level: float) -> float:
    """Mean pinball (quantile) loss in units at one level in (0, 1); half the absolute error at 0.5.

    Source: Koenker and Bassett, Regression quantiles, Econometrica 46 (1978), equation 2.

    >>> pinball_loss(np.array([10.0]), np.array([8.0]), 0.9)
    1.8
    """
    if actual.size == 0:
        return float("nan")
    gap = actual - forecast
    return float(np.maximum(quantile_level * gap, (quantile_level - 1.0) * gap).mean())


def coverage(actual: FloatArray, upper: FloatArray) -> float:
    """Share of actuals at or below the forecast quantile; a calibrated quantile of level q gives q.

    Source: Gneiting, Balabdaoui and Raftery, Probabilistic forecasts, calibration and sharpness, JRSS B 69 (2007).

    >>> coverage(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.0, 2.0, 5.0]))
    0.75
    """
    return float((actual <= upper).mean()) if actual.size else float("nan")


def mase(actual: FloatArray, forecast: FloatArray, history: FloatArray, season_length: int = 1) -> float:
    """Mean absolute scaled error of one series: error over the in-sample error of the seasonal naive forecast.

    `history` is one-dimensional, in time order, and ends before the first actual.
    Source: Hyndman and Koehler, Another look at measures of forecast accuracy, IJF 22 (2006), equation 5.
    """
    scale = np.abs(history[season_length:] - history[:-season_length])
    if scale.size == 0 or actual.size == 0:
        return float("nan")
    return _ratio(float(np.abs(actual - forecast).mean()), float(scale.mean()))


def rmsse_scale(history: FloatArray) -> float:
    """Mean squared one-step difference from the first non-zero value on; NaN without two values.

    Source: Makridakis, Spiliotis and Assimakopoulos, The M5 competition: background, organization and implementation,
    IJF 38 (2022), section 4.1: the denominator starts at the first sale.

    >>> rmsse_scale(np.array([0.0, 0.0, 1.0, 3.0, 2.0]))
    2.5
    """
    sold = np.flatnonzero(history)
    if sold.size == 0:
        return float("nan")
    steps = np.diff(history[sold[0] :])
    return float((steps**2).mean()) if steps.size else float("nan")


def rmsse(actual: FloatArray, forecast: FloatArray, history: FloatArray) -> float:
    """Root mean squared scaled error of one series, by the one-step naive error in `history`.

    Source: as `rmsse_scale`, equation 1.

    >>> rmsse(np.array([3.0, 3.0]), np.array([1.0, 5.0]), np.array([1.0, 2.0, 1.0]))
    2.0
    """
    mean_square = float(((actual - forecast) ** 2).mean())
    return float(np.sqrt(_ratio(mean_square, rmsse_scale(history))))


def wrmsse(errors: FloatArray, weights: FloatArray) -> float:
    """Weighted RMSSE of one hierarchy level: sum of weight times RMSSE; weights of a level sum to one.

    Source: as `rmsse_scale`, equation 2.

    >>> wrmsse(np.array([0.5, 1.0]), np.array([0.4, 0.6]))
    0.8
    """
    return float((errors * weights).sum())


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else float("nan")
