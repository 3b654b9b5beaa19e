"""Sums of daily statistics over windows of event days, as known at each query: prefix sums and look-ups, no join.

A window is the difference of two *boundaries*: `S_m(T)`, the sum over the event days up to t - m that are known at T.
Of all days up to t - m one prefix sum in day order tells; what of them is not yet known at T is taken off again with
two prefix sums over the late changes alone, those known only after the cut-off at which their day crosses the boundary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from replenish.bitemporal_windows import IntArray, Window
from replenish.features.offline.daily_changes import DailyChanges
from replenish.features.offline.query_axis import QueryAxis, sorted_rows


class StatisticWindow(NamedTuple):
    """A statistic of `DailyChanges` over a window of event days."""

    statistic: str
    window: Window


def window_sums(
    axis: QueryAxis, changes: DailyChanges, wanted: Iterable[StatisticWindow]
) -> dict[StatisticWindow, IntArray]:
    """Each wanted sum as known at each query, shape (n_queries,)."""
    needed = dict.fromkeys(wanted)
    if not len(changes):
        return {one: np.zeros(len(axis), dtype=np.int64) for one in needed}
    edges: dict[str, set[int]] = {}
    for one in needed:
        edges.setdefault(one.statistic, set()).update((one.window.first, one.window.last + 1))
    delta = {name: changes.statistic(name) for name in edges}
    prefix = {name: prefix_sums(values) for name, values in delta.items()}
    look_up = _BoundaryLookUp(axis, changes)
    known: dict[tuple[str, int], IntArray] = {}
    for edge in sorted(set().union(*edges.values())):
        boundary = look_up.boundary(edge)
        for name in edges:
            if edge in edges[name]:
                known[name, edge] = boundary.known_sum(delta[name], prefix[name])
    return {one: known[one.statistic, one.window.first] - known[one.statistic, one.window.last + 1] for one in needed}


def prefix_sums(values: IntArray) -> IntArray:
    """`prefix[i]` is the sum of the first i values; one longer than `values`. Sums may wrap: differences do not."""
    prefix = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=prefix[1:])
    return prefix


@dataclass(frozen=True, eq=False)
class _Boundary:
    """Where each query stands in the changes and in the late ones of a boundary; `late` are their row numbers."""

    place: IntArray
    late: IntArray
    late_place: IntArray
    late_by_known: IntArray
    late_known_place: IntArray

    def known_sum(self, delta: IntArray, prefix: IntArray) -> IntArray:
        """The sum up to the boundary, plus a constant per entity that the other boundary of a window has too."""
        total = prefix[self.place]
        if len(self.late):
            total -= prefix_sums(delta[self.late])[self.late_place]
            total += prefix_sums(delta[self.late_by_known])[self.late_known_place]
        return total


class _BoundaryLookUp:
    """Keys of the changes, computed once for all boundaries."""

    def __init__(self, axis: QueryAxis, changes: DailyChanges) -> None:
        self._axis, self._changes = axis, changes
        self._first_day = int(changes.event.min())
        self._width = int(changes.event.max()) - self._first_day + 2
        self._day_key = changes.entity * self._width + (changes.event - self._first_day)
        # Later boundaries have fewer late changes, so these are all.
        self._late = self._late_among(slice(None), 1)
        late_key = axis.pack(changes.entity[self._late], changes.known[self._late])
        order = sorted_rows(late_key)
        self._late_by_known, self._late_key = self._late[order], late_key[order]

    def boundary(self, edge: int) -> _Boundary:
        """Places for the event days up to t - edge."""
        axis = self._axis
        day_after = np.clip(axis.origin - edge + 1 - self._first_day, 0, self._width - 1)
        place = np.searchsorted(self._day_key, axis.entity * self._width + day_after, side="left")
        late = self._late[self._late_among(self._late, edge)]
        kept = self._late_among(self._late_by_known, edge)
        late_known_place = np.searchsorted(self._late_key[kept], axis.packed, side="right")
        return _Boundary(
            place, late, np.searchsorted(late, place, side="left"), self._late_by_known[kept], late_known_place
        )

    def _late_among(self, rows: IntArray | slice, edge: int) -> IntArray:
        """Which of the rows become known only after their day has crossed the boundary."""
        known = self._changes.known[rows]
        crosses = self._axis.calendar.instant_of(self._changes.event[rows] + edge)
        return np.flatnonzero((known > crosses) & (known > self._axis.oldest))


def statistic_windows(names: Sequence[str], window: Window) -> list[StatisticWindow]:
    """One statistic window per name."""
    return [StatisticWindow(name, window) for name in names]
