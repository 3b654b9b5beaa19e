"""Sums and extremes over windows of days for every origin of a panel, exact under late and corrected data.

What was known on time goes through the plane at once: sums as differences of one running sum, extremes by doubling
spans. Late changes enter and leave a sum at two origins, so only where there are any the difference is summed up per
window. For extremes a late-changed day is taken off the plane, and each total it ever had lives from one origin to
another: a range maximum over origins, as `range_maximum` has it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from replenish.bitemporal_windows import IntArray, Window
from replenish.features.offline.daily_changes import NEVER
from replenish.features.offline.window_sums import StatisticWindow
from replenish.features.panel.grid import BoolArray, NarrowArray, narrowest
from replenish.features.panel.known_plane import KnownPlane, LateChanges
from replenish.range_maximum import NO_VALUE


def panel_window_sums(plane: KnownPlane, wanted: Iterable[StatisticWindow]) -> dict[StatisticWindow, NarrowArray]:
    """Each wanted sum as known at each origin, shape (n_series, n_origins); arrays may be views of the plane."""
    by_statistic: dict[str, list[Window]] = {}
    for one in dict.fromkeys(wanted):
        by_statistic.setdefault(one.statistic, []).append(one.window)
    sums: dict[StatisticWindow, NarrowArray] = {}
    for name, windows in by_statistic.items():
        late = plane.late(name)
        widest = max(window.last - window.first + 1 for window in windows)
        # Everything may wrap on the way: sums are right modulo the type's range, and each result fits into it.
        dtype = narrowest(widest * plane.bound(name))
        days = plane.statistic(name).astype(dtype, copy=False)
        running: NarrowArray | None = None
        for window in windows:
            if window.first == window.last:
                found = _of_one_day(plane, days, late, window.first)
            elif len(late):
                found = _with_late(plane, days, late, window)
            else:
                running = _running(days) if running is None else running
                first, stop = plane.reach - window.last, plane.reach - window.first + 1
                n_origins = len(plane.axis)
                found = running[:, stop : stop + n_origins] - running[:, first : first + n_origins]
            sums[StatisticWindow(name, window)] = found
    return sums


def _running(days: NarrowArray) -> NarrowArray:
    """Column j holds the sum of the days before day j."""
    running = np.empty((days.shape[0], days.shape[1] + 1), dtype=days.dtype)
    running[:, 0] = 0
    np.cumsum(days, axis=1, out=running[:, 1:], dtype=days.dtype)
    return running


def _of_one_day(plane: KnownPlane, days: NarrowArray, late: LateChanges, lag: int) -> NarrowArray:
    first, n_origins = plane.reach - lag, len(plane.axis)
    of_prompt = days[:, first : first + n_origins]
    # A lag shows a day at one origin only, and only what is known by then.
    place = late.event + lag - plane.axis.first
    rows = np.flatnonzero((place >= late.known - plane.axis.first) & (place < n_origins))
    if not len(rows):
        return of_prompt
    found = of_prompt.copy()
    np.add.at(found.reshape(-1), late.series[rows] * n_origins + place[rows], late.delta[rows].astype(found.dtype))
    return found


def _with_late(plane: KnownPlane, days: NarrowArray, late: LateChanges, window: Window) -> NarrowArray:
    """Window sums as a running sum of what enters less what leaves."""
    n_origins, first, stop = len(plane.axis), plane.reach - window.last, plane.reach - window.first + 1
    steps = np.empty((plane.n_series, n_origins), dtype=days.dtype)
    steps[:, 0] = days[:, first:stop].sum(axis=1, dtype=days.dtype)
    np.subtract(days[:, stop : stop + n_origins - 1], days[:, first : first + n_origins - 1], out=steps[:, 1:])
    enters = np.maximum(late.known, late.event + window.first) - plane.axis.first
    leaves = late.event + window.last + 1 - plane.axis.first
    rows = np.flatnonzero((enters < leaves) & (enters < n_origins))
    flat, row_start, delta = steps.reshape(-1), late.series * n_origins, late.delta.astype(days.dtype)
    np.add.at(flat, (row_start + enters)[rows], delta[rows])
    rows = rows[leaves[rows] < n_origins]
    np.subtract.at(flat, (row_start + leaves)[rows], delta[rows])
    return np.cumsum(steps, axis=1, out=steps, dtype=days.dtype)


def panel_window_extremes(
    plane: KnownPlane, windows: Iterable[Window], *, greatest: bool
) -> dict[Window, tuple[NarrowArray, BoolArray]]:
    """The greatest (or least) total of the observed days of each window, shape (n_series, n_origins).

    Returns:
        By window the totals, and where there are none since no day of the window is observed.
    """
    n_origins, dtype = len(plane.axis), narrowest(plane.bound("total"))
    nothing = np.iinfo(dtype).min
    # The least is the greatest on a mirrored axis, so one maximum serves both.
    total = plane.on_time["total"].astype(dtype, copy=False)
    spans = np.where(plane.is_observed, total if greatest else -total, dtype(nothing))
    spans.reshape(-1)[plane.late_cells] = nothing
    length = 1
    found: dict[Window, tuple[NarrowArray, BoolArray]] = {}
    for window in sorted(set(windows), key=lambda one: one.last - one.first):
        width = window.last - window.first + 1
        while 2 * length <= width:
            # `spans[:, j]` is the extreme of the days j .. j + length - 1.
            spans = np.maximum(spans[:, :-length], spans[:, length:])
            length *= 2
        first = plane.reach - window.last
        last = first + width - length
        best = np.maximum(spans[:, first : first + n_origins], spans[:, last : last + n_origins])
        _raise_by_late_days(plane, window, best, greatest=greatest)
        is_nothing = best == nothing
        found[window] = best if greatest else np.negative(best, out=best), is_nothing
    return found


def _raise_by_late_days(plane: KnownPlane, window: Window, best: NarrowArray, *, greatest: bool) -> None:
    """Raise the extremes to those of the days that have late changes, each as long as a total of it was known."""
    if not len(plane.late_cells):
        return
    days = plane.late_days
    rows = np.flatnonzero(days.is_observed_after & (days.event >= plane.first_day))
    enters = np.maximum(days.known[rows], days.event[rows] + window.first)
    leaves = np.minimum(days.known_until[rows], days.event[rows] + window.last + 1)
    total = days.total_after[rows]
    _raise_by_lives(plane, best, days.entity[rows], enters, leaves, total if greatest else -total)


def panel_newest_active(plane: KnownPlane) -> IntArray:
    """The newest active day before each origin date, shape (n_series, n_origins); `NO_VALUE` where none is known."""
    n_origins = len(plane.axis)
    is_active = plane.on_time["total"] != 0
    is_active.reshape(-1)[plane.late_cells] = False
    days = np.arange(plane.first_day, plane.first_day + plane.width, dtype=np.int64)
    newest = np.maximum.accumulate(np.where(is_active, days, NO_VALUE), axis=1)
    # Origin t sees the days up to t - 1; the first column is that of day `first - 1`.
    best = np.ascontiguousarray(newest[:, plane.reach - 1 : plane.reach - 1 + n_origins])
    _raise_by_active_days(plane, best, newest=True)
    return best


def panel_oldest_active(plane: KnownPlane) -> IntArray:
    """The oldest active day before each origin date, shape (n_series, n_origins); `NO_VALUE` where none is known."""
    is_active = plane.on_time["total"] != 0
    is_active.reshape(-1)[plane.late_cells] = False
    first = np.where(is_active.any(axis=1), plane.first_day + is_active.argmax(axis=1), NEVER)
    origins = np.arange(plane.axis.first, plane.axis.first + len(plane.axis), dtype=np.int64)
    best = np.where(origins > first[:, None], -first[:, None], NO_VALUE)
    _raise_by_active_days(plane, best, newest=False)
    return np.where(best == NO_VALUE, NO_VALUE, -best)


def _raise_by_active_days(plane: KnownPlane, best: IntArray, *, newest: bool) -> None:
    """Raise days (negative ones for the oldest) to those with late changes and to those before the plane."""
    days = plane.late_days
    rows = np.flatnonzero(days.total_after != 0)
    event, until = days.event[rows], days.known_until[rows]
    _raise_by_lives(plane, best, days.entity[rows], days.known[rows], until, event if newest else -event)


def _raise_by_lives(
    plane: KnownPlane, best: NarrowArray, series: IntArray, enters: IntArray, leaves: IntArray, value: IntArray
) -> None:
    """Raise `best` in place to the greatest value of the lives `[enters, leaves)`, in origin dates."""
    n_origins = len(plane.axis)
    enters = np.clip(enters - plane.axis.first, 0, n_origins)
    leaves = np.clip(leaves, plane.axis.first, plane.axis.first + n_origins) - plane.axis.first
    rows = np.flatnonzero(enters < leaves)
    if len(rows):
        start = series[rows] * n_origins
        # Every value fits: the type was chosen by what days on the plane ever were.
        value = value[rows].astype(best.dtype)
        alive = _greatest_alive(best.size, start + enters[rows], start + leaves[rows], value)
        np.maximum(best, alive.reshape(best.shape), out=best)


def _greatest_alive(size: int, first: IntArray, stop: IntArray, value: NarrowArray) -> NarrowArray:
    """`range_maximum` of ranges that are not empty in the type of `value`, whose least value stands for none.

    In 16 bits a level costs a quarter of what it costs in 64.
    """
    best = np.full(size, np.iinfo(value.dtype).min, dtype=value.dtype)
    length = stop - first
    for power in range(int(length.max()).bit_length() - 1, -1, -1):
        rows = np.flatnonzero(length >> power == 1)
        np.maximum.at(best, first[rows], value[rows])
        if power:
            np.maximum.at(best, stop[rows] - (1 << power), value[rows])
            half = 1 << (power - 1)
            best[half:] = np.maximum(best[half:], best[:-half])
    return best
