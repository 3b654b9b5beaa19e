"""Features of a series' own past demand: lags, sums, means and deviations as known at each origin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from replenish.bitemporal_windows import (
    NO_EVENT,
    Changes,
    IntArray,
    Window,
    compacted,
    derived_changes,
    extreme_known_event,
    known_window_sums,
)
from replenish.contracts.profile import ForecastProfile
from replenish.features.series import BuildAxes, OriginBlock, demand_changes

FeatureArray = npt.NDArray[np.int64] | npt.NDArray[np.float64]
FeatureArrays = dict[str, FeatureArray]
"""One array of shape (n_series, n_origins) per feature; NaN in float arrays means null."""


@dataclass(frozen=True)
class DemandHistory:
    """Changes of the statistics from which demand features are summed: units, their square, activity, revenue."""

    units: Changes
    squares: Changes
    active: Changes
    revenue_cents: Changes

    @classmethod
    def from_increments(cls, axes: BuildAxes, numbered: pl.DataFrame) -> DemandHistory:
        """From gold's demand increments of the numbered series (`BuildAxes.numbered`)."""
        units = compacted(demand_changes(axes, numbered, "units"))
        # Squares and activity are those of a whole period's total, so they follow the order of knowledge.
        return cls(
            units=units,
            squares=derived_changes(units, np.square),
            active=derived_changes(units, lambda total: (total > 0).astype(np.int64)),
            revenue_cents=demand_changes(axes, numbered, "revenue_cents"),
        )

    def window_sums(
        self, statistic: Changes, windows: tuple[Window, ...], n_series: int, block: OriginBlock
    ) -> list[IntArray]:
        """Sums of one of the statistics, each of shape (n_series, n_origins)."""
        return known_window_sums(
            statistic, windows, n_series=n_series, first_origin=block.first_origin, n_origins=block.n_origins
        )


def demand_features(
    history: DemandHistory, profile: ForecastProfile, n_series: int, block: OriginBlock
) -> FeatureArrays:
    """Lags, window statistics and ages of every series at every origin of a block.

    A mean or deviation over `w` periods divides by the periods since the first sale when those are fewer. Sums and lags
    are integers; a lag of a period before the first sale is 0. `periods_since_first_sale` is `NO_EVENT` where none is
    known yet; the other columns mean nothing there.
    """
    lags = tuple(Window(n, n) for n in profile.lags)
    windows = tuple(Window(1, w) for w in profile.windows)
    by_units = history.window_sums(history.units, (*lags, *windows), n_series, block)
    features: FeatureArrays = {f"units_lag_{n}": values for n, values in zip(profile.lags, by_units, strict=False)}
    ages = _ages(history.active, n_series, block)
    features |= ages
    sums = by_units[len(lags) :]
    squares = history.window_sums(history.squares, windows, n_series, block)
    active = history.window_sums(history.active, windows, n_series, block)
    revenue = history.window_sums(history.revenue_cents, windows, n_series, block)
    age = ages["periods_since_first_sale"]
    for position, w in enumerate(profile.windows):
        total = sums[position]
        n_periods = np.clip(age, 1, w)
        features[f"units_sum__{w}"] = total
        features[f"units_mean__{w}"] = total / n_periods
        features[f"units_sd__{w}"] = np.sqrt(np.maximum(n_periods * squares[position] - total * total, 0)) / n_periods
        features[f"active_periods__{w}"] = active[position]
        features[f"unit_revenue_cents__{w}"] = np.divide(
            revenue[position],
            total,
            out=np.full(total.shape, np.nan),
            where=total != 0,
        )
    return features


def _ages(active: Changes, n_series: int, block: OriginBlock) -> dict[str, IntArray]:
    """Periods since the first and the last period with sales, at least 1; NO_EVENT where none is known."""
    origins = np.arange(block.first_origin, block.first_origin + block.n_origins, dtype=np.int64)
    ages = {}
    for name, newest in (("periods_since_first_sale", False), ("periods_since_last_sale", True)):
        event = extreme_known_event(
            active, newest=newest, n_series=n_series, first_origin=block.first_origin, n_origins=block.n_origins
        )
        ages[name] = np.where(event == NO_EVENT, NO_EVENT, origins - event)
    return ages
