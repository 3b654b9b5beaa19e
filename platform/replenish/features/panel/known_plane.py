"""Daily totals of one measure as a plane of what was known on time, and beside it the few changes that came late.

A day's total is known *on time* at the first origin of the axis after the day; until then no window holds the day.
The plane says what was known then of each (series, day). What became known later is a list of changes, so memory and
time of the plane do not depend on corrections, and nothing is approximate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from replenish.bitemporal_windows import IntArray
from replenish.features.offline.daily_changes import DailyChanges
from replenish.features.offline.query_axis import sorted_rows
from replenish.features.offline.window_sums import DayRows
from replenish.features.panel.grid import BoolArray, NarrowArray, OriginAxis, narrowest


@dataclass(frozen=True, eq=False)
class LateChanges:
    """Changes of a statistic of days that became known after the day's first origin; shape (n_changes,)."""

    series: IntArray
    event: IntArray
    known: IntArray
    """Origin date that sees the change first; after `max(event + 1, first origin)`."""
    delta: IntArray

    def __len__(self) -> int:
        return len(self.series)


class KnownPlane:
    """What was known of the days of some series, for the origins of an axis.

    Args:
        axis: Origins.
        n_series: Series of the block.
        rows: What the ledger's rows add to the days, `entity` being the series; any order.
        reach: Days before the first origin that windows look back.
        keeps_older: Whether days before those matter too, as they do for the first and the newest active day.
    """

    def __init__(self, axis: OriginAxis, n_series: int, rows: DayRows, reach: int, *, keeps_older: bool) -> None:
        self.axis, self.n_series, self.reach = axis, n_series, reach
        self.first_day = axis.first - reach
        self.width = reach + len(axis) - 1
        """Days `first_day .. first_day + width - 1`, the last being the one before the last origin."""
        day = rows.event - self.first_day
        due = np.clip(rows.event + 1 - axis.first, 0, len(axis))
        never = np.iinfo(np.int64).min
        is_prompt = rows.known <= np.append(axis.instants, never)[due]
        self._rows = rows
        self.on_time = self._planes(day, is_prompt & (day >= 0))
        """Plane of each posted statistic (`total`, `count`), shape (n_series, width)."""
        # A day after the last origin is never seen; an older one is never part of a window.
        self._late = self._seen(np.flatnonzero(~is_prompt & (day >= 0) & (due < len(axis))))
        self._older = self._seen(np.flatnonzero(day < 0) if keeps_older else np.zeros(0, dtype=np.int64))

    def statistic(self, name: str) -> NarrowArray | BoolArray:
        """A statistic of the days as known on time, shape (n_series, width); see `DailyChanges.statistic`."""
        match name:
            case "total" | "count":
                return self.on_time[name]
            case "square":
                return np.square(self.on_time["total"], dtype=narrowest(self.greatest["total"] ** 2))
            case "active":
                return self.on_time["total"] != 0
            case "observed":
                return self.is_observed
            case _:
                raise ValueError(f"no such statistic: {name}")

    def bound(self, name: str) -> int:
        """What a statistic of one day never exceeds, taken as positive."""
        if name == "square":
            return self.greatest["total"] ** 2
        return self.greatest.get(name, 1)

    @cached_property
    def is_observed(self) -> BoolArray:
        """Which days are observed on time."""
        observed = self.on_time["count"] != 0
        observed |= self.on_time["total"] != 0
        return observed

    def late(self, name: str) -> LateChanges:
        """Late changes of a statistic of the days on the plane."""
        if name in self._rows.delta:
            row, known = self._late
            return LateChanges(self._rows.entity[row], self._rows.event[row], known, self._rows.delta[name][row])
        days = self.late_days
        is_late = days.known > np.maximum(days.event + 1, self.axis.first)
        rows = np.flatnonzero(is_late & (days.event >= self.first_day))
        return LateChanges(days.entity[rows], days.event[rows], days.known[rows], days.statistic(name)[rows])

    @cached_property
    def late_cells(self) -> IntArray:
        """Places in the plane, taken as flat, of the days that have late changes; each once, ascending."""
        row, _ = self._late
        if not len(row):
            return row
        is_touched = np.zeros(self.n_series * self.width, dtype=bool)
        is_touched[self._rows.entity[row] * self.width + (self._rows.event[row] - self.first_day)] = True
        return np.flatnonzero(is_touched)

    @cached_property
    def late_days(self) -> DailyChanges:
        """All changes of the days that have late ones, their state on time being the first; and of all older days.

        `known` are origin dates. Needs both posted statistics.
        """
        cells, of = self.late_cells, self._rows
        event = cells % self.width + self.first_day
        row = np.concatenate([self._late[0], self._older[0]])
        total, count = (
            np.concatenate([self.on_time[name].reshape(-1)[cells].astype(np.int64), of.delta[name][row]])
            for name in ("total", "count")
        )
        return _compacted(
            np.concatenate([cells // self.width, of.entity[row]]),
            np.concatenate([event, of.event[row]]),
            np.concatenate([np.maximum(event + 1, self.axis.first), self._late[1], self._older[1]]),
            total,
            count,
        )

    @cached_property
    def greatest(self) -> Mapping[str, int]:
        """By posted statistic what no day on the plane ever exceeds, taken as positive."""
        found = {name: _greatest(plane) for name, plane in self.on_time.items()}
        if not len(self._late[0]):
            return found
        if len(found) == 2:
            after = {"total": self.late_days.total_after, "count": self.late_days.count_after}
            return {name: max(bound, _greatest(after[name])) for name, bound in found.items()}
        # The order of changes was not asked for; all of them together are a bound as well.
        row = self._late[0]
        return {name: bound + int(np.abs(self._rows.delta[name][row]).sum()) for name, bound in found.items()}

    def _planes(self, day: IntArray, is_chosen: BoolArray) -> dict[str, NarrowArray]:
        cell = self._rows.entity * self.width + day
        rows = None if is_chosen.all() else np.flatnonzero(is_chosen)
        cell = cell if rows is None else cell[rows]
        planes: dict[str, NarrowArray] = {}
        for name, delta in self._rows.delta.items():
            plane = np.zeros(self.n_series * self.width, dtype=np.int64)
            np.add.at(plane, cell, delta if rows is None else delta[rows])
            planes[name] = plane.astype(narrowest(_greatest(plane)), copy=False).reshape(self.n_series, self.width)
        return planes

    def _seen(self, row: IntArray) -> tuple[IntArray, IntArray]:
        """Of rows by number those that an origin sees, and the first origin date that does."""
        of, axis = self._rows, self.axis
        place = np.maximum(axis.place_of(of.known[row]), of.event[row] + 1 - axis.first)
        is_seen = place < len(axis)
        return row[is_seen], place[is_seen] + axis.first


def _greatest(values: NarrowArray) -> int:
    return max(int(values.max(initial=0)), -int(values.min(initial=0)))


def _compacted(series: IntArray, event: IntArray, known: IntArray, total: IntArray, count: IntArray) -> DailyChanges:
    """One change per (series, event, known), in that order."""
    if not len(series):
        return DailyChanges(series, event, known, total, count, np.zeros(0, dtype=bool))
    first_event, first_known = int(event.min()), int(known.min())
    day = series * (int(event.max()) - first_event + 1) + (event - first_event)
    key = day * (int(known.max()) - first_known + 1) + (known - first_known)
    rows = sorted_rows(key)
    key, day = key[rows], day[rows]
    starts = np.flatnonzero(np.diff(key, prepend=key[0] - 1))
    heads = rows[starts]
    is_first = np.diff(day[starts], prepend=-1) != 0
    total, count = (np.add.reduceat(column[rows], starts) for column in (total, count))
    return DailyChanges(series[heads], event[heads], known[heads], total, count, is_first)
