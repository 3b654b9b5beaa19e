"""The features of one measure, from sums and extremes of its daily totals: integers first, divisions last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from replenish.bitemporal_windows import IntArray, Window
from replenish.errors import BrokenPromise
from replenish.features.definitions.model import FeatureDefinition
from replenish.features.offline.daily_changes import SQUARE_PARTS, DailyChanges, daily_changes, square_of
from replenish.features.offline.day_extremes import extreme_active_day, window_extreme
from replenish.features.offline.query_axis import QueryAxis
from replenish.features.offline.window_sums import DayRows, StatisticWindow, known_window_totals
from replenish.range_maximum import NO_VALUE

_STATISTIC = {"sum": "total", "count": "count", "count_nonzero": "active", "mean": "total", "lag": "total"}
_PLAIN_SUMS = ("sum", "count", "mean", "lag")
_PLAIN_DAYS = (None, "calendar")
"""Features of these aggregations and denominators are sums of postings; all others need the days' totals."""
_MAX_INT = 2**62


class MeasureFeatures:
    """Evaluates features on the daily totals of one measure; results have shape (n_queries,), in query order."""

    def __init__(self, axis: QueryAxis, postings: DayRows, features: Sequence[FeatureDefinition]) -> None:
        self._axis, self._postings = axis, postings
        widths = [feature.window_days or 0 for feature in features if feature.aggregation == "std"]
        self._squares = self._square_statistics(max(widths)) if widths else ()
        wanted = [one for feature in features for one in _sums_of(feature, self._squares)]
        names = {one.statistic for one in wanted}
        if names <= set(postings.delta):
            # Sums of the postings themselves need no order among them.
            self._sums = known_window_totals(axis, postings, wanted)
            return
        changes = self._changes
        rows = DayRows(changes.entity, changes.event, changes.known, {n: changes.statistic(n) for n in names})
        self._sums = known_window_totals(axis, rows, wanted)

    @cached_property
    def _changes(self) -> DailyChanges:
        of = self._postings
        return daily_changes(self._axis, of.entity, of.event, of.known, of.delta["total"], of.delta["count"])

    def column(self, feature: FeatureDefinition) -> pl.Series:
        """The values of a feature: Int64 or Float64, null where the tables of the aggregations say so."""
        match feature.aggregation:
            case "sum" | "count" | "count_nonzero":
                return _integers(feature, self._sum(feature, _STATISTIC[feature.aggregation]))
            case "lag":
                total = self._sum(feature, "total")
                is_null = self._sum(feature, "observed") == 0 if feature.denominator == "observed" else None
                return _integers(feature, total, is_null)
            case "min" | "max":
                greatest = feature.aggregation == "max"
                best = window_extreme(self._axis, self._changes, feature_window(feature), greatest=greatest)
                return _integers(feature, best, best == NO_VALUE)
            case "days_since":
                return _integers(feature, self._axis.origin - self._newest_day, self._newest_day == NO_VALUE)
            case "days_since_first":
                return _integers(feature, self._axis.origin - self._oldest_day, self._oldest_day == NO_VALUE)
            case "mean":
                return self._divided(feature, self._sum(feature, "total").astype(np.float64))
            case "std":
                return self._divided(feature, self._scaled_deviation(feature))
            case _:
                raise BrokenPromise("no feature of a measure", feature=feature.name, aggregation=feature.aggregation)

    def _sum(self, feature: FeatureDefinition, statistic: str) -> IntArray:
        return self._sums[StatisticWindow(statistic, feature_window(feature))]

    @cached_property
    def _newest_day(self) -> IntArray:
        return extreme_active_day(self._axis, self._changes, newest=True)

    @cached_property
    def _oldest_day(self) -> IntArray:
        return extreme_active_day(self._axis, self._changes, newest=False)

    def _n_days(self, feature: FeatureDefinition) -> IntArray:
        """Days that a mean or deviation divides by; 0 or less where it is null."""
        width = feature.window_days or 0
        if feature.denominator == "observed":
            return self._sum(feature, "observed")
        if feature.denominator == "since_first":
            age = self._axis.origin - feature.offset_days - self._oldest_day
            return np.where(self._oldest_day == NO_VALUE, 0, np.minimum(age, width))
        return np.full(len(self._axis), width, dtype=np.int64)

    def _divided(self, feature: FeatureDefinition, numerator: npt.NDArray[np.float64]) -> pl.Series:
        n_days = self._n_days(feature)
        is_null = n_days <= 0
        return _with_nulls(pl.Series(feature.name, numerator / np.maximum(n_days, 1)), is_null)

    def _scaled_deviation(self, feature: FeatureDefinition) -> npt.NDArray[np.float64]:
        """The deviation times n: sqrt(n * sum of squares - square of the sum), in integers up to the root."""
        n_days, total = np.maximum(self._n_days(feature), 0), self._sum(feature, "total")
        parts = [self._sum(feature, name) for name in self._squares]
        if len(parts) == 1:
            spread = n_days * parts[0] - total * total
        else:
            # Python's integers have no bound; only totals in the millions come here.
            spread = n_days.astype(object) * square_of(parts) - total.astype(object) ** 2
        if np.any(spread < 0):
            raise BrokenPromise("a day adds to a total and is not among the days", feature=feature.name)
        return np.sqrt(spread.astype(np.float64))

    def _square_statistics(self, width: int) -> tuple[str, ...]:
        """What sums of squares over so many days are made of, so that nothing leaves int64."""
        greatest = int(np.abs(self._changes.total_after).max(initial=0))
        return ("square",) if (width * greatest) ** 2 <= _MAX_INT else SQUARE_PARTS


def posted_statistics(features: Sequence[FeatureDefinition]) -> list[str]:
    """Which of `total` and `count` the postings must say for these features."""
    if all(feature.aggregation in _PLAIN_SUMS and feature.denominator in _PLAIN_DAYS for feature in features):
        return sorted({_STATISTIC[feature.aggregation] for feature in features})
    return ["total", "count"]


def feature_window(feature: FeatureDefinition) -> Window:
    """The event days `t - last .. t - first` of a windowed feature or lag."""
    if feature.aggregation == "lag":
        return Window(feature.lag_days or 0, feature.lag_days or 0)
    return Window(feature.offset_days + 1, feature.offset_days + (feature.window_days or 0))


def _sums_of(feature: FeatureDefinition, squares: Sequence[str]) -> list[StatisticWindow]:
    """The sums that a feature needs."""
    if feature.aggregation not in {*_STATISTIC, "std"}:
        return []
    names = ["total", *squares] if feature.aggregation == "std" else [_STATISTIC[feature.aggregation]]
    if feature.denominator == "observed":
        names.append("observed")
    return [StatisticWindow(name, feature_window(feature)) for name in names]


def _integers(feature: FeatureDefinition, values: IntArray, is_null: npt.NDArray[np.bool_] | None = None) -> pl.Series:
    column = pl.Series(feature.name, values, dtype=pl.Int64)
    return column if is_null is None else _with_nulls(column, is_null)


def _with_nulls(column: pl.Series, is_null: npt.NDArray[np.bool_]) -> pl.Series:
    return column.set(pl.Series(is_null), None) if is_null.any() else column
