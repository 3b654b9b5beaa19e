"""Error drift: has the forecast of a whole category gone off, beyond what its recent history makes likely?

Each series' error over the last periods is divided by the deviation that demand of its forecast usually has, and
clipped: a shift of a category moves all its series a little, a promotion or a broken record moves one of them a lot.
The errors are added with the weights that show a common factor best, and the sum is measured against the size such
sums have had lately.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replenish.errors import OutOfRange

WINDOW_PERIODS = 3
"""Errors are summed over so many periods: one is too noisy for a shift by half, a week would answer too late."""

CLIP = 4.0
"""Largest error of one series, in deviations."""

OVERDISPERSION = 0.12
"""Variance of a window's demand is taken as mean + this x mean squared (negative binomial): promotions and fashions
move large sellers by more than chance. Of 0.03, 0.05, 0.08 and 0.12 this one parted shifted from quiet worlds best."""

HISTORY_PERIODS = 56
PRIOR_DEVIATION = 1.2
PRIOR_PERIODS = 28
"""The scale starts as if sums of this deviation had been seen for so many periods; with history the data speak."""

ERROR_THRESHOLD = 3.4
"""Chosen on forty worlds of the built-in retailer, seeds 401-440 (`replenish bench drift` runs the study on others):
the largest score of quiet days was 3.2, the smallest of demand x 1.5 after three days 3.5."""

MIN_SAME_DIRECTION = 2
DIRECTION_SCORE = 0.8
"""Of the window's single periods at least this many must point the same way by this much: a single lost or doubled
delivery is a fault of the data, not of the model."""


@dataclass(frozen=True)
class ErrorScores:
    """Scores of one category per period, shape (n_periods,); NaN where the window is not complete.

    `score`: signed, positive where demand exceeds the forecast; `is_breach`: beyond the threshold and persistent.
    """

    score: NDArray[np.float64]
    is_breach: NDArray[np.bool_]


def without_empty_shelves(
    actual: NDArray[np.float64], forecast: NDArray[np.float64], is_sold_out: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Actuals in which a sold-out period counts as its forecast, unless more was sold.

    Args:
        actual: Units sold, shape (n_series, n_periods); the other arguments have the same shape.
        forecast: Mean forecast in units, NaN where there is none.
        is_sold_out: Whether stock was known to be zero within the period.
    """
    return np.where(is_sold_out & (actual < forecast), forecast, actual)


def window_sums(actual: NDArray[np.float64], forecast: NDArray[np.float64], n_periods: int) -> NDArray[np.float64]:
    """Weighted sum over series of clipped, standardised errors of each window of periods, in standard deviations.

    The weight of a series is the number of deviations by which doubled demand would stand out in it, so that the sum
    answers to a factor common to all series (the score test of a multiplicative shift).

    Args:
        actual: Units, shape (n_series, n_periods).
        forecast: Mean forecast in units, same shape; NaN where a series has none: it is left out of that window.
        n_periods: Length of the window, which ends at each period.

    Returns:
        Shape (n_periods,); NaN for the first windows and where no series has a forecast. About standard normal for
        independent series and a right forecast.
    """
    if actual.shape != forecast.shape or actual.ndim != 2:
        raise OutOfRange("actual and forecast have one shape (n_series, n_periods)", shape=actual.shape)
    sums = np.full(actual.shape[1], np.nan)
    for end in range(n_periods - 1, actual.shape[1]):
        window = slice(end - n_periods + 1, end + 1)
        expected = forecast[:, window].sum(axis=1)
        has = np.isfinite(expected)
        if has.any():
            mean = expected[has]
            deviation = np.sqrt(mean + 1.0 + OVERDISPERSION * mean**2)
            errors = np.clip((actual[has, window].sum(axis=1) - mean) / deviation, -CLIP, CLIP)
            weights = mean / deviation
            size = float(np.sqrt(weights @ weights))
            sums[end] = float(weights @ errors) / size if size else 0.0
    return sums


def score_errors(
    actual: NDArray[np.float64], forecast: NDArray[np.float64], threshold: float = ERROR_THRESHOLD
) -> ErrorScores:
    """Drift scores of one category from its series' first-look actuals and forecasts (shapes as in `window_sums`).

    The history that a window is scaled by ends where the window begins, so a shift never measures itself.
    """
    sums = window_sums(actual, forecast, WINDOW_PERIODS)
    singles = window_sums(actual, forecast, 1)
    n_periods = actual.shape[1]
    score, is_breach = np.full(n_periods, np.nan), np.zeros(n_periods, dtype=bool)
    for end in range(WINDOW_PERIODS - 1, n_periods):
        before = sums[max(0, end - WINDOW_PERIODS + 1 - HISTORY_PERIODS) : end - WINDOW_PERIODS + 1]
        before = before[np.isfinite(before)]
        variance = (PRIOR_PERIODS * PRIOR_DEVIATION**2 + float(before @ before)) / (PRIOR_PERIODS + before.size)
        score[end] = sums[end] / np.sqrt(variance)
        if np.isfinite(score[end]) and abs(score[end]) >= threshold:
            same = singles[end - WINDOW_PERIODS + 1 : end + 1] * np.sign(score[end]) >= DIRECTION_SCORE
            is_breach[end] = np.count_nonzero(same) >= MIN_SAME_DIRECTION
    return ErrorScores(score, is_breach)
