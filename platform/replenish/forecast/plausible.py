"""Which recorded totals are too large to learn from: a slip of the keyboard must not move the forecasts of others.

One model serves all series, and its mean is fitted by squares: a single record a thousand times too large would move
every series. Such a total is no target, no input and no evidence of an error; whether to order on it is not judged
here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

PLAUSIBLE_UNITS_PER_DAY = 100
"""Totals up to this are always believed: a slow series may sell a pallet at once, and it moves no other series far."""

PLAUSIBLE_FACTOR = 10
"""A slip of one zero makes ten; no promotion is expected to sell ten times the best other day of sixteen weeks."""

NEARBY_DAYS = 56
"""Eight weeks on either side hold other promotions and paydays to compare with, and are short against a trend."""


def implausible_periods(units: npt.NDArray[np.int64], period_days: int) -> npt.NDArray[np.bool_]:
    """Periods whose total exceeds the floor and `PLAUSIBLE_FACTOR` times every other total within `NEARBY_DAYS`.

    Args:
        units: Totals as known at one origin, shape (n_series, n_periods).
        period_days: Length of a period [days].

    Returns:
        Shape of `units`.

    >>> implausible_periods(np.array([[3, 8, 7, 8005, 9], [500, 700, 900, 800, 600]]), 1).any(axis=1)
    array([ True, False])
    """
    nearby = np.zeros_like(units)
    for shift in range(1, min(NEARBY_DAYS // period_days, units.shape[1] - 1) + 1):
        np.maximum(nearby[:, shift:], units[:, :-shift], out=nearby[:, shift:])
        np.maximum(nearby[:, :-shift], units[:, shift:], out=nearby[:, :-shift])
    return units > np.maximum(PLAUSIBLE_FACTOR * nearby, PLAUSIBLE_UNITS_PER_DAY * period_days)


def implausible_lags(lags: FloatArray, period_days: int) -> npt.NDArray[np.bool_]:
    """Lags that exceed the floor and `PLAUSIBLE_FACTOR` times the second largest lag of their row.

    Args:
        lags: Units, NaN where there was no period yet, shape (n_rows, n_lags).
        period_days: Length of a period [days].

    >>> implausible_lags(np.array([[3.0, 8005.0, 7.0], [3.0, 60.0, np.nan]]), 1).tolist()
    [[False, True, False], [False, False, False]]
    """
    if lags.shape[1] < 2:
        return np.zeros(lags.shape, dtype=np.bool_)
    known = np.nan_to_num(lags)
    second = np.partition(known, -2, axis=1)[:, -2]
    limit = np.maximum(PLAUSIBLE_FACTOR * second, PLAUSIBLE_UNITS_PER_DAY * period_days)
    return known > limit[:, None]
