"""How each day of the month sells against the same weekdays around it: paydays and benefit days, series by series."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from replenish.contracts.profile import ForecastProfile
from replenish.forecast.inputs import ForecastInputs
from replenish.forecast.panel import SERIES_KEY, DemandPanel, build_panel
from replenish.forecast.plausible import implausible_periods

FloatArray = npt.NDArray[np.float64]

N_MONTH_DAYS = 31

NEIGHBOUR_WEEKS = 4
"""A day is compared with its weekday in the four weeks on either side: about two whole months of month days."""

MIN_DAYS = 730
"""Before two years a month day was seen less than 24 times: its index would be mostly noise."""


def month_day_indices(inputs: ForecastInputs, rows: pl.DataFrame, profile: ForecastProfile) -> FloatArray | None:
    """The indices that rows of any origins know, each by what was known at its own origin; None for weekly profiles.

    Args:
        inputs: Demand and stock.
        rows: `sku_id, location_id, origin_date`.
        profile: Length of a period.

    Returns:
        As `month_days_of_panel`.
    """
    if profile.period_days != 1:
        return None
    result = np.full((rows.height, N_MONTH_DAYS), np.nan)
    first = inputs.demand["event_date"].min()
    for (origin,), group in rows.with_row_index("row").group_by("origin_date", maintain_order=True):
        # Short histories have no index: nothing to build for them.
        if isinstance(origin, date) and isinstance(first, date) and first + timedelta(days=MIN_DAYS) <= origin:
            panel = build_panel(inputs.demand, inputs.stock, group, known_at=origin, period_days=1)
            result[group["row"].to_numpy()] = month_days_of_panel(panel, group)
    return result


def month_days_of_panel(panel: DemandPanel, rows: pl.DataFrame) -> FloatArray:
    """Units on each day of the month over what the weekdays around them sold, from days well before each row's origin.

    A day counts once all its neighbours lie before the origin, so the index of a row never sees its targets. Days that
    sold out or are implausible count for nothing.

    Args:
        panel: Daily demand as known at an origin not before any of the rows.
        rows: `sku_id, location_id, origin_date`.

    Returns:
        Shape (n_rows, 31); 1 is a usual day, NaN where a series has less than `MIN_DAYS` of history.
    """
    series = panel.keys.with_row_index("series")
    index = rows.join(series, on=SERIES_KEY, how="left", maintain_order="left")["series"].to_numpy()
    start = panel.n_periods - rows.select((pl.lit(panel.known_at) - pl.col("origin_date")).dt.total_days()).to_series()
    seen = np.clip(start.to_numpy() - 7 * NEIGHBOUR_WEEKS, 0, panel.n_periods)
    usable = ~(panel.is_censored | implausible_periods(panel.units, 1))
    units = np.where(usable, panel.units, 0).astype(np.float64)
    usual = np.where(usable, _usual(units, usable), 0.0)
    first_day = panel.known_at - timedelta(days=panel.n_periods)
    month_day = np.array([(first_day + timedelta(days=n)).day for n in range(panel.n_periods)])
    result = np.full((rows.height, N_MONTH_DAYS), np.nan)
    for day in range(1, N_MONTH_DAYS + 1):
        places = np.flatnonzero(month_day == day)
        n_seen = np.searchsorted(places, seen)
        sold, expected = (_running(values[:, places])[index, n_seen] for values in (units, usual))
        known = (expected > 0) & (start.to_numpy() - panel.first_sale()[index] >= MIN_DAYS)
        result[known, day - 1] = sold[known] / expected[known]
    return result


def _usual(units: FloatArray, usable: npt.NDArray[np.bool_]) -> FloatArray:
    """Mean of the usable equal weekdays within `NEIGHBOUR_WEEKS` on either side; zero without any."""
    total, count = np.zeros_like(units), np.zeros_like(units)
    for shift in range(7, 7 * NEIGHBOUR_WEEKS + 1, 7):
        for values, target in ((units, total), (usable.astype(np.float64), count)):
            target[:, shift:] += values[:, :-shift]
            target[:, :-shift] += values[:, shift:]
    return np.where(count > 0, total / np.maximum(count, 1.0), 0.0)


def _running(values: FloatArray) -> FloatArray:
    """Sums of the first 0..n columns, shape (n_rows, n + 1)."""
    return np.concatenate([np.zeros((values.shape[0], 1)), values.cumsum(axis=1)], axis=1)
