"""Least and greatest daily total of a window, and the newest and oldest active day, as known at each query."""

from __future__ import annotations

import numpy as np

from replenish.bitemporal_windows import IntArray, Window
from replenish.features.offline.daily_changes import DailyChanges
from replenish.features.offline.query_axis import QueryAxis
from replenish.range_maximum import NO_VALUE, range_maximum


def window_extreme(axis: QueryAxis, changes: DailyChanges, window: Window, *, greatest: bool) -> IntArray:
    """The greatest (or least) total of the observed days of a window.

    Returns:
        Shape (n_queries,); `NO_VALUE` where no day of the window is observed.
    """
    rows = np.flatnonzero(changes.is_observed_after)
    event, entity = changes.event[rows], changes.entity[rows]
    enters = np.maximum(changes.known[rows], axis.calendar.instant_of(event + window.first))
    leaves = np.minimum(changes.known_until[rows], axis.calendar.instant_of(event + window.last + 1))
    total = changes.total_after[rows]
    best = _greatest_alive(axis, entity, enters, leaves, total if greatest else -total)
    return best if greatest else np.where(best == NO_VALUE, NO_VALUE, -best)


def extreme_active_day(axis: QueryAxis, changes: DailyChanges, *, newest: bool) -> IntArray:
    """The newest (or oldest) active day before each query's origin date; `NO_VALUE` where none is known."""
    rows = np.flatnonzero(changes.total_after != 0)
    day = changes.event[rows]
    # A day that is not over is no change yet: `known` waits for the cut-off after it.
    lives = changes.entity[rows], changes.known[rows], changes.known_until[rows]
    best = _greatest_alive(axis, *lives, day if newest else -day)
    return best if newest else np.where(best == NO_VALUE, NO_VALUE, -best)


def _greatest_alive(axis: QueryAxis, entity: IntArray, enters: IntArray, leaves: IntArray, value: IntArray) -> IntArray:
    """The greatest value of the lives `[enters, leaves)` [us] that hold each query's instant."""
    lasting = np.flatnonzero(enters < leaves)
    entity, leaves = entity[lasting], leaves[lasting]
    first = axis.first_from(entity, enters[lasting])
    stop_key = axis.pack(entity, leaves)
    # Most lives fall between two queries; only the others need their end looked up.
    inside = np.flatnonzero(first < len(axis))
    inside = inside[axis.packed[first[inside]] < stop_key[inside]]
    stop = np.searchsorted(axis.packed, stop_key[inside], side="left")
    return range_maximum(len(axis), first[inside], stop, value[lasting][inside])
