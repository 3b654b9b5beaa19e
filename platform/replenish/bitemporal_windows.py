"""Sums over windows of event periods as they were known at every origin: integers, no joins.

Periods and origins share one integer axis: origin `t` is the start of period `t`, so the last complete period is
`t - 1`. A *change* says that the total of series `s` in event period `e` moved by `delta` with what became visible at
origin `k` (the first origin that knows it). All arrays of changes are one-dimensional, of one length, any order.
Source: DESIGN §4, "Windows".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replenish.errors import OutOfRange

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Changes:
    """Changes of one additive statistic: `series` in 0..n-1, `event` and `known` periods, `delta` in its own unit."""

    series: IntArray
    event: IntArray
    known: IntArray
    delta: IntArray

    def __post_init__(self) -> None:
        lengths = {len(self.series), len(self.event), len(self.known), len(self.delta)}
        if len(lengths) != 1:
            raise OutOfRange("arrays of changes differ in length", lengths=sorted(lengths))

    def __len__(self) -> int:
        return len(self.series)

    def where(self, rows: npt.NDArray[np.bool_] | IntArray) -> Changes:
        """The changes that a mask selects or that row numbers name, in their order."""
        # Four selections by number cost less than four scans of a mask.
        numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Changes(self.series[numbers], self.event[numbers], self.known[numbers], self.delta[numbers])


@dataclass(frozen=True)
class Window:
    """Event periods `t - last .. t - first` seen from origin t, inclusive; `first` >= 1, `last` >= `first`."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last:
            raise OutOfRange("a window looks back over complete periods", first=self.first, last=self.last)


def window_changes(changes: Changes, window: Window) -> tuple[IntArray, IntArray]:
    """The origins at which each change enters (`a`) and leaves (`b`) a window; it counts in `[a, b)`."""
    enters = np.maximum(changes.known, changes.event + window.first)
    leaves = np.maximum(enters, changes.event + window.last + 1)
    return enters, leaves


def known_window_sums(
    changes: Changes, windows: Sequence[Window], *, n_series: int, first_origin: int, n_origins: int
) -> list[IntArray]:
    """Window sums as known at each origin `first_origin .. first_origin + n_origins - 1`.

    Changes that were known as soon as their period was complete, nearly all of them, go through one dense cumulative
    sum; only late ones are entered and taken back one by one.

    Returns:
        One int64 array of shape (n_series, n_origins) per window, in their order.
    """
    if not windows:
        return []
    reach = max(w.last for w in windows)
    matters = (changes.event >= first_origin - reach) & (changes.event < first_origin + n_origins)
    changes = changes.where(matters & (changes.known < first_origin + n_origins))
    is_prompt = changes.known <= changes.event + 1
    prompt, late = changes.where(is_prompt), changes.where(~is_prompt)
    width = reach + n_origins
    totals = np.zeros(n_series * width, dtype=np.int64)
    np.add.at(totals, prompt.series * width + (prompt.event - (first_origin - reach)), prompt.delta)
    # Column j of `running` holds the sum of all periods before `first_origin - reach + j`.
    running = np.zeros((n_series, width + 1), dtype=np.int64)
    np.cumsum(totals.reshape(n_series, width), axis=1, out=running[:, 1:])
    del totals
    sums = []
    for window in windows:
        stop = reach - window.first + 1
        start = reach - window.last
        of_prompt = running[:, stop : stop + n_origins] - running[:, start : start + n_origins]
        _add_late(of_prompt, late, window, first_origin)
        sums.append(of_prompt)
    return sums


def _add_late(sums: IntArray, late: Changes, window: Window, first_origin: int) -> None:
    """Add what late changes bring to a window to `sums`, (n_series, n_origins), in place."""
    n_series, n_origins = sums.shape
    enters, leaves = window_changes(late, window)
    counts = (enters < leaves) & (leaves > first_origin) & (enters < first_origin + n_origins)
    late, first, stop = late.where(counts), enters[counts] - first_origin, leaves[counts] - first_origin
    if window.first == window.last:
        # A lag holds a change at one origin only, so there is nothing to carry on.
        np.add.at(sums, (late.series, first), late.delta)
        return
    steps = np.zeros((n_series, n_origins + 1), dtype=np.int64)
    np.add.at(steps, (late.series, np.maximum(first, 0)), late.delta)
    np.subtract.at(steps, (late.series, np.minimum(stop, n_origins)), late.delta)
    sums += np.cumsum(steps[:, :n_origins], axis=1, dtype=np.int64)


def compacted(changes: Changes) -> Changes:
    """The same changes with one row per (series, event, known), in that order."""
    ordered = changes.where(np.lexsort((changes.known, changes.event, changes.series)).astype(np.int64))
    if not len(ordered):
        return ordered
    is_first = np.ones(len(ordered), dtype=bool)
    is_first[1:] = (np.diff(ordered.series) != 0) | (np.diff(ordered.event) != 0) | (np.diff(ordered.known) != 0)
    starts = np.flatnonzero(is_first)
    return Changes(
        ordered.series[starts], ordered.event[starts], ordered.known[starts], np.add.reduceat(ordered.delta, starts)
    )


def totals_after(changes: Changes) -> IntArray:
    """Total of each (series, event) after each change; `changes` must be compacted."""
    if not len(changes):
        return np.zeros(0, dtype=np.int64)
    running = np.cumsum(changes.delta, dtype=np.int64)
    starts = np.ones(len(changes), dtype=bool)
    starts[1:] = (np.diff(changes.series) != 0) | (np.diff(changes.event) != 0)
    first = np.flatnonzero(starts)
    before_group = running[first] - changes.delta[first]
    return running - np.repeat(before_group, np.diff(np.append(first, len(changes))))


def derived_changes(changes: Changes, statistic: Callable[[IntArray], IntArray]) -> Changes:
    """Changes of a statistic of each period's total, such as its square, in the order in which they became known.

    `changes` must be compacted, and so is the result. `statistic` maps an array of totals to integers and gives 0 for
    0. Its change is f(total after) - f(total before).
    """
    after = totals_after(changes)
    delta = statistic(after) - statistic(after - changes.delta)
    return Changes(changes.series, changes.event, changes.known, delta.astype(np.int64))


NO_EVENT = np.iinfo(np.int64).min
"""Stands for "no period yet" in integer arrays of periods."""


def extreme_known_event(active: Changes, *, newest: bool, n_series: int, first_origin: int, n_origins: int) -> IntArray:
    """Newest or oldest complete period in which a series was active, as known at each origin.

    Args:
        active: Changes of a 0/1 statistic over the whole history, as `derived_changes` returns them.
        newest: The newest such period, else the oldest.
        n_series: Number of series.
        first_origin: First origin wanted.
        n_origins: Number of origins.

    Returns:
        Shape (n_series, n_origins); `NO_EVENT` where none is known.
    """
    active = active.where((active.delta != 0) & (active.known < first_origin + n_origins))
    # The oldest is the newest on a mirrored axis, so one running maximum serves both.
    mirror = 1 if newest else -1
    best = np.full((n_series, n_origins + 1), NO_EVENT, dtype=np.int64)
    enters, _ = window_changes(active, Window(1, 1))
    columns = np.clip(enters - first_origin, 0, n_origins)
    # Rows are ordered by (series, event, known) and alternate +1, -1 within an event.
    begins = np.flatnonzero(active.delta > 0)
    has_end = np.zeros(len(active), dtype=bool)
    has_end[:-1] = active.delta[1:] < 0
    lasting = begins[~has_end[begins]]
    np.maximum.at(best, (active.series[lasting], columns[lasting]), mirror * active.event[lasting])
    np.maximum.accumulate(best, axis=1, out=best)
    for begin in begins[has_end[begins]]:
        span = best[active.series[begin], columns[begin] : columns[begin + 1]]
        np.maximum(span, mirror * active.event[begin], out=span)
    found = best[:, :n_origins]
    return np.where(found == NO_EVENT, NO_EVENT, mirror * found)


def latest_known(
    series: IntArray, known: IntArray, row: IntArray, *, n_series: int, first_origin: int, n_origins: int
) -> IntArray:
    """Index of the latest row known at each origin, or -1.

    Args:
        series: Series of each row of a state log.
        known: First origin that sees the row. Rows must be sorted by (series, instant); of one origin the last counts.
        row: The row's number, ascending along (series, instant).
        n_series: Number of series.
        first_origin: First origin wanted.
        n_origins: Number of origins.

    Returns:
        Shape (n_series, n_origins) of values of `row`.
    """
    latest = np.full((n_series, n_origins), -1, dtype=np.int64)
    is_seen = known < first_origin + n_origins
    columns = np.clip(known[is_seen] - first_origin, 0, None)
    np.maximum.at(latest, (series[is_seen], columns), row[is_seen])
    return np.maximum.accumulate(latest, axis=1)
