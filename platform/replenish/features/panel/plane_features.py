"""The features of one measure over a panel: the rules of `offline.measure_features` on planes instead of queries."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from replenish.bitemporal_windows import IntArray, Window
from replenish.errors import BrokenPromise
from replenish.features.definitions.model import FeatureDefinition
from replenish.features.offline.measure_features import feature_window
from replenish.features.offline.window_sums import DayRows, StatisticWindow
from replenish.features.panel.grid import BoolArray, NarrowArray, OriginAxis, PanelValues, narrowest
from replenish.features.panel.known_plane import KnownPlane
from replenish.features.panel.plane_windows import (
    panel_newest_active,
    panel_oldest_active,
    panel_window_extremes,
    panel_window_sums,
)
from replenish.range_maximum import NO_VALUE

_STATISTICS = {
    "sum": ("total",),
    "count": ("count",),
    "count_nonzero": ("active",),
    "mean": ("total",),
    "lag": ("total",),
    "std": ("total", "square"),
}
_MAX_SQUARE = 2**62


class PanelMeasure:
    """Evaluates features on the daily totals of one measure; results have shape (n_series, n_origins)."""

    def __init__(self, axis: OriginAxis, n_series: int, rows: DayRows, features: Sequence[FeatureDefinition]) -> None:
        self._features = features
        reach = max((feature_window(f).last for f in features if f.window_days or f.lag_days), default=1)
        keeps_older = any(_reads_active_days(f) for f in features)
        self._plane = KnownPlane(axis, n_series, rows, reach, keeps_older=keeps_older)

    @cached_property
    def beyond(self) -> tuple[str, ...]:
        """Names of the deviations of such great totals that their squares leave int64: they have no values here."""
        deviations = [f for f in self._features if f.aggregation == "std"]
        return tuple(f.name for f in deviations if self._greatest_spread(f) > _MAX_SQUARE)

    def _greatest_spread(self, feature: FeatureDefinition) -> int:
        return ((feature.window_days or 0) * self._plane.greatest["total"]) ** 2

    def values(self, feature: FeatureDefinition) -> PanelValues:
        """The values of a feature, int64 or float64, null where the tables of the aggregations say so."""
        match feature.aggregation:
            case "sum" | "count" | "count_nonzero":
                return _integers(self._sum(feature, _STATISTICS[feature.aggregation][0]))
            case "lag":
                total = self._sum(feature, "total")
                return _integers(total, self._sum(feature, "observed") == 0 if _is_observed(feature) else None)
            case "min" | "max":
                found = self._greatest if feature.aggregation == "max" else self._least
                return _integers(*found[feature_window(feature)])
            case "days_since":
                return _integers(self._origins - self._newest_day, self._newest_day == NO_VALUE)
            case "days_since_first":
                return _integers(self._origins - self._oldest_day, self._oldest_day == NO_VALUE)
            case "mean":
                return self._divided(feature, self._sum(feature, "total"))
            case "std":
                return self._divided(feature, self._scaled_deviation(feature))
            case _:
                raise BrokenPromise("no feature of a measure", feature=feature.name, aggregation=feature.aggregation)

    @cached_property
    def _sums(self) -> dict[StatisticWindow, NarrowArray]:
        wanted = [
            StatisticWindow(name, feature_window(feature))
            for feature in self._features
            if feature.name not in self.beyond
            for name in (*_STATISTICS.get(feature.aggregation, ()), *(("observed",) if _is_observed(feature) else ()))
        ]
        return panel_window_sums(self._plane, wanted)

    def _sum(self, feature: FeatureDefinition, statistic: str) -> NarrowArray:
        return self._sums[StatisticWindow(statistic, feature_window(feature))]

    @cached_property
    def _greatest(self) -> dict[Window, tuple[NarrowArray, BoolArray]]:
        return panel_window_extremes(self._plane, self._windows_of("max"), greatest=True)

    @cached_property
    def _least(self) -> dict[Window, tuple[NarrowArray, BoolArray]]:
        return panel_window_extremes(self._plane, self._windows_of("min"), greatest=False)

    def _windows_of(self, aggregation: str) -> list[Window]:
        return [feature_window(feature) for feature in self._features if feature.aggregation == aggregation]

    @cached_property
    def _newest_day(self) -> IntArray:
        return panel_newest_active(self._plane)

    @cached_property
    def _oldest_day(self) -> IntArray:
        return panel_oldest_active(self._plane)

    @cached_property
    def _origins(self) -> IntArray:
        axis = self._plane.axis
        return np.arange(axis.first, axis.first + len(axis), dtype=np.int64)

    def _n_days(self, feature: FeatureDefinition) -> NarrowArray | int:
        """Days that a mean or deviation divides by, one number where it is the same everywhere; 0 or less: null."""
        width = feature.window_days or 0
        if feature.denominator == "observed":
            return self._sum(feature, "observed")
        if feature.denominator == "since_first":
            age = self._origins - feature.offset_days - self._oldest_day
            return np.where(self._oldest_day == NO_VALUE, 0, np.minimum(age, width))
        return width

    def _divided(self, feature: FeatureDefinition, numerator: NarrowArray | npt.NDArray[np.float64]) -> PanelValues:
        n_days = self._n_days(feature)
        if isinstance(n_days, int):
            return PanelValues(np.true_divide(numerator, n_days, dtype=np.float64), None, pl.Float64)
        is_null = n_days <= 0
        quotient = np.true_divide(numerator, np.maximum(n_days, 1), dtype=np.float64)
        return PanelValues(quotient, is_null if is_null.any() else None, pl.Float64)

    def _scaled_deviation(self, feature: FeatureDefinition) -> npt.NDArray[np.float64]:
        """The deviation times n: sqrt(n * sum of squares - square of the sum), in integers up to the root."""
        dtype = narrowest(self._greatest_spread(feature))
        n_days = np.maximum(self._n_days(feature), 0)
        spread = np.multiply(self._sum(feature, "square"), n_days, dtype=dtype, casting="unsafe")
        spread -= np.square(self._sum(feature, "total"), dtype=dtype, casting="unsafe")
        if spread.size and int(spread.min()) < 0:
            raise BrokenPromise("a day adds to a total and is not among the days", feature=feature.name)
        return np.sqrt(spread, dtype=np.float64)


def _is_observed(feature: FeatureDefinition) -> bool:
    return feature.denominator == "observed"


def _reads_active_days(feature: FeatureDefinition) -> bool:
    return feature.aggregation in ("days_since", "days_since_first") or feature.denominator == "since_first"


def _integers(values: NarrowArray, is_null: BoolArray | None = None) -> PanelValues:
    return PanelValues(values, is_null if is_null is not None and is_null.any() else None, pl.Int64)
