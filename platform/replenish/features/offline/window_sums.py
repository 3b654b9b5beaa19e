"""Sums of daily statistics over windows of event days, as known at each query: prefix sums and look-ups, no join.

A window is the difference of two *boundaries*: `S_m(T)`, the sum over the event days up to t - m that are known at T.
Of all days up to t - m one prefix sum in day order tells; what of them is not yet known at T is taken off again with
two prefix sums over the late rows alone, those known only after the cut-off at which their day crosses the boundary.
Prefix sums run on from entity to entity: what they hold of earlier ones is the same at both boundaries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from replenish.bitemporal_windows import IntArray, Window
from replenish.features.offline.query_axis import QueryAxis, sorted_rows

MAX_CELLS_PER_ROW = 4
"""Up to so many (entity, day) cells per row a table of all cells costs less than sorting the rows."""


class StatisticWindow(NamedTuple):
    """A statistic over a window of event days."""

    statistic: str
    window: Window


@dataclass(frozen=True, eq=False)
class DayRows:
    """Rows that change sums of event days from `known` [us] on; arrays of shape (n_rows,), in any order.

    `known` may be before the day is over, and rows may never be seen by any query.
    """

    entity: IntArray
    event: IntArray
    known: IntArray
    delta: Mapping[str, IntArray]
    """Change of each statistic."""

    def __len__(self) -> int:
        return len(self.entity)


def known_window_totals(
    axis: QueryAxis, rows: DayRows, wanted: Iterable[StatisticWindow]
) -> dict[StatisticWindow, IntArray]:
    """Each wanted sum as known at each query, shape (n_queries,)."""
    needed = dict.fromkeys(wanted)
    if not needed or not len(rows) or not len(axis):
        return {one: np.zeros(len(axis), dtype=np.int64) for one in needed}
    edges: dict[str, set[int]] = {}
    for one in needed:
        edges.setdefault(one.statistic, set()).update((one.window.first, one.window.last + 1))
    look_up = _BoundaryLookUp(axis, rows, max(edge for some in edges.values() for edge in some))
    prefix = {name: look_up.prefix(rows.delta[name]) for name in edges}
    known: dict[tuple[str, int], IntArray] = {}
    for edge in sorted(set().union(*edges.values())):
        boundary = look_up.boundary(edge)
        for name in edges:
            if edge in edges[name]:
                known[name, edge] = boundary.known_sum(rows.delta[name], prefix[name])
    return {one: known[one.statistic, one.window.first] - known[one.statistic, one.window.last + 1] for one in needed}


def prefix_sums(values: IntArray) -> IntArray:
    """`prefix[i]` is the sum of the first i values; one longer than `values`. Sums may wrap: differences do not."""
    prefix = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=prefix[1:])
    return prefix


@dataclass(frozen=True, eq=False)
class _LateRows:
    """Late rows in one order: row numbers, event days, knowledge times, and the key they are ordered by."""

    row: IntArray
    event: IntArray
    known: IntArray
    key: IntArray

    def where(self, rows: IntArray) -> _LateRows:
        return _LateRows(self.row[rows], self.event[rows], self.known[rows], self.key[rows])

    def late_at(self, axis: QueryAxis, edge: int) -> _LateRows:
        """Those known only after their day has crossed the boundary."""
        return self.where(np.flatnonzero(self.known > axis.calendar.instant_of(self.event + edge)))


@dataclass(frozen=True, eq=False)
class _Boundary:
    """Where each query stands in the prefix sums of all rows and of the late ones, by day and by knowledge."""

    place: IntArray
    late_by_day: IntArray
    late_day_place: IntArray
    late_by_known: IntArray
    late_known_place: IntArray

    def known_sum(self, delta: IntArray, prefix: IntArray) -> IntArray:
        """The sum up to the boundary, plus what earlier entities leave in the prefix sums."""
        total = prefix[self.place]
        if len(self.late_by_day):
            total -= prefix_sums(delta[self.late_by_day])[self.late_day_place]
            total += prefix_sums(delta[self.late_by_known])[self.late_known_place]
        return total


class _BoundaryLookUp:
    """Keys of the rows, computed once for all boundaries up to `last_edge`."""

    def __init__(self, axis: QueryAxis, rows: DayRows, last_edge: int) -> None:
        self._axis, self._rows = axis, rows
        # Days before the first lie within both boundaries of every window, days from the last on within none.
        self._first_day, last_day = int(axis.origin.min()) - last_edge, int(axis.origin.max())
        self._width = last_day - self._first_day + 1
        event = np.clip(rows.event, self._first_day, last_day)
        self._day_key = rows.entity * self._width + (event - self._first_day)
        self._n_cells = (int(axis.entity[-1]) + 1) * self._width
        late = np.flatnonzero(rows.known > np.maximum(axis.calendar.instant_of(event + 1), axis.oldest))
        # Later boundaries have fewer late rows, so these are all.
        self._by_day = self._ordered(late, event, self._day_key[late])
        self._by_known = self._ordered(late, event, axis.pack(rows.entity[late], rows.known[late]))

    def _ordered(self, late: IntArray, event: IntArray, key: IntArray) -> _LateRows:
        order = sorted_rows(key)
        row = late[order]
        return _LateRows(row, event[row], self._rows.known[row], key[order])

    @cached_property
    def _row_order(self) -> IntArray | None:
        """Order of the rows by day; None where a table of all cells stands for it."""
        return None if self._n_cells <= MAX_CELLS_PER_ROW * len(self._rows) else sorted_rows(self._day_key)

    @cached_property
    def _ordered_day_key(self) -> IntArray:
        return self._day_key[self._row_order]

    def prefix(self, delta: IntArray) -> IntArray:
        """Prefix sums of a statistic in day order, over cells or over rows."""
        if self._row_order is not None:
            return prefix_sums(delta[self._row_order])
        cells = np.zeros(self._n_cells, dtype=np.int64)
        np.add.at(cells, self._day_key, delta)
        return prefix_sums(cells)

    def boundary(self, edge: int) -> _Boundary:
        """Places for the event days up to t - edge."""
        axis = self._axis
        key = axis.entity * self._width + (axis.origin - edge + 1 - self._first_day)
        place = key if self._row_order is None else np.searchsorted(self._ordered_day_key, key, side="left")
        by_day, by_known = self._by_day.late_at(axis, edge), self._by_known.late_at(axis, edge)
        return _Boundary(
            place,
            by_day.row,
            np.searchsorted(by_day.key, key, side="left"),
            by_known.row,
            np.searchsorted(by_known.key, axis.packed, side="right"),
        )
