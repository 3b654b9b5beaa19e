"""Daily totals of one measure of one entity, as visible now: enough of them to be exact for ever after.

Since `as_of` never goes back, one total per day is enough: a change that becomes known is added and no answer will need
the total before. What can be dropped, by the kind of feature that reads the measure:

* Windows and lags reach back `reach` days from the origin date, and the origin date never descends. So a day that has
  left the reach is dropped, and a change of it that comes later is passed over. Always exact.
* Days since the newest or oldest active day may need any day: a retraction brings an older one back. All active days
  are kept, 16 bytes each, unless a limit is set. Behind the limit only the newest and oldest active day are remembered
  (`GreatestDropped`): exact until one of these two changes, refused from then on where it matters.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from operator import mul
from typing import Any, NamedTuple

from replenish.features.online.dropped_history import GreatestDropped

_SLACK_DAYS = 32
"""Days dropped at once, so that an array is not moved every day."""
_INT64 = "q"


class DayDemands(NamedTuple):
    """What is asked of a measure's days."""

    reach: int
    """Days from the origin date back to the oldest day of any window or lag, at least 1."""
    needs_total: bool
    needs_count: bool
    needs_active_days: bool
    """The newest or oldest active day is asked for."""


class DayTotals:
    """D and N per event day, seen from an origin date that never descends."""

    __slots__ = (
        *("_ahead", "_base", "_count", "_demands", "_floor", "_kept", "_newest", "_old_days", "_old_totals", "_oldest"),
        *("_total", "origin"),
    )

    def __init__(self, demands: DayDemands, origin: int, kept_days: int | None = None) -> None:
        self._demands, self.origin = demands, origin
        self._kept = None if kept_days is None else max(kept_days, demands.reach)
        # Days base .. origin - 1, without gaps.
        self._base = origin
        self._total, self._count = array(_INT64), array(_INT64)
        self._ahead: dict[int, list[int]] | None = None
        """[D, N] of days that are not over."""
        self._old_days, self._old_totals = array(_INT64), array(_INT64)
        """Active days before `base`, ascending, and their D."""
        self._floor: int | None = None
        """Active days before this one are dropped."""
        self._newest: GreatestDropped | None = None
        self._oldest: GreatestDropped | None = None

    def add(self, day: int, total: int, count: int) -> None:
        """Add a change that is visible now to a day's D and N; OverflowError where a total leaves 64 bits."""
        if day >= self.origin:
            self._add_ahead(day, total, count)
            return
        place = day - self._base
        if place < 0:
            if day < self.origin - self._demands.reach:
                if self._demands.needs_active_days and total:
                    self._add_old(day, total)
                return
            for days in self._arrays():
                days[0:0] = array(_INT64, bytes(-8 * place))
            self._base, place = day, 0
        if self._demands.needs_total:
            self._total[place] += total
        if self._demands.needs_count:
            self._count[place] += count

    def move_to(self, origin: int) -> None:
        """Let days pass; `origin` is not before the present one."""
        n_days = origin - self.origin
        if not n_days:
            return
        for days in self._arrays():
            days.extend(array(_INT64, bytes(8 * n_days)))
        self.origin = origin
        if self._ahead:
            for day in [day for day in self._ahead if day < origin]:
                self.add(day, *self._ahead.pop(day))
        if origin - self._demands.reach - self._base > _SLACK_DAYS:
            self._leave_reach()
        if self._kept is not None and self._demands.needs_active_days:
            self._drop_before(origin - self._kept)

    def statistics(self, names: tuple[str, ...], first: int, last: int) -> list[Any]:
        """Statistics of the event days origin - last .. origin - first.

        `total`, `count`, `active` (days with D != 0), `observed` (days with N != 0 or D != 0) and `square` (of D) are
        integers; `min` and `max` of D over the observed days are None where there is none.
        """
        start, stop = max(self.origin - last - self._base, 0), max(self.origin - first + 1 - self._base, 0)
        total, count = self._total[start:stop], self._count[start:stop]
        found: list[Any] = []
        for name in names:
            match name:
                case "total":
                    found.append(sum(total))
                case "count":
                    found.append(sum(count))
                case "active":
                    found.append(len(total) - total.count(0))
                case "square":
                    found.append(sum(map(mul, total, total)))
                case "observed":
                    found.append(len(_observed(total, count)))
                case "min":
                    found.append(min(_observed(total, count), default=None))
                case _:
                    found.append(max(_observed(total, count), default=None))
        return found

    def total_of(self, back: int) -> int:
        """D of the day so many days before the origin date."""
        place = self.origin - back - self._base
        return self._total[place] if place >= 0 else 0

    def newest_active(self) -> int | None:
        """The newest active day before the origin date.

        Raises:
            ForgottenHistory: No active day is kept, and which of the dropped ones is the newest is in doubt.
        """
        for place in range(len(self._total) - 1, -1, -1):
            if self._total[place]:
                return self._base + place
        if self._old_days:
            return self._old_days[-1]
        return None if self._newest is None else self._newest.answer()

    def oldest_active(self) -> int | None:
        """The oldest active day before the origin date.

        Raises:
            ForgottenHistory: Which of the dropped active days is the oldest is in doubt.
        """
        dropped: int | None = None if self._oldest is None else self._oldest.answer()
        if dropped is not None:
            return -dropped
        if self._old_days:
            return self._old_days[0]
        return next((self._base + place for place, total in enumerate(self._total) if total), None)

    def to_plain(self) -> list[Any]:
        """The state as lists and integers."""
        ahead = [[day, *both] for day, both in (self._ahead or {}).items()]
        kept = [one.tolist() for one in (self._total, self._count, self._old_days, self._old_totals)]
        dropped = [None if one is None else [one.best, one.doubt] for one in (self._newest, self._oldest)]
        return [self.origin, self._base, *kept, ahead, self._floor, *dropped]

    @classmethod
    def from_plain(cls, plain: list[Any], demands: DayDemands, kept_days: int | None) -> DayTotals:
        """The state of `to_plain`."""
        made = cls(demands, plain[0], kept_days)
        made._base = plain[1]
        made._total, made._count, made._old_days, made._old_totals = (array(_INT64, one) for one in plain[2:6])
        made._ahead = {day: [total, count] for day, total, count in plain[6]} or None
        made._floor = plain[7]
        made._newest, made._oldest = (None if one is None else GreatestDropped(*one) for one in plain[8:10])
        return made

    def _arrays(self) -> list[array[int]]:
        arrays = ((self._total, self._demands.needs_total), (self._count, self._demands.needs_count))
        return [days for days, is_needed in arrays if is_needed]

    def _add_ahead(self, day: int, total: int, count: int) -> None:
        if self._ahead is None:
            self._ahead = {}
        ahead = self._ahead.setdefault(day, [0, 0])
        ahead[0] += total
        ahead[1] += count
        if ahead == [0, 0]:
            del self._ahead[day]

    def _leave_reach(self) -> None:
        """Drop the days that no window reaches any more; active ones are kept where they may be asked for."""
        cut = self.origin - self._demands.reach - self._base
        if self._demands.needs_active_days:
            for place, total in enumerate(self._total[:cut]):
                if total:
                    self._old_days.append(self._base + place)
                    self._old_totals.append(total)
        for days in self._arrays():
            del days[:cut]
        self._base += cut

    def _add_old(self, day: int, change: int) -> None:
        if self._floor is not None and day < self._floor:
            for dropped, entry in ((self._newest, day), (self._oldest, -day)):
                if dropped is not None:
                    dropped.change(entry)
            return
        place = bisect_left(self._old_days, day)
        if place == len(self._old_days) or self._old_days[place] != day:
            self._old_days.insert(place, day)
            self._old_totals.insert(place, change)
            return
        self._old_totals[place] += change
        if not self._old_totals[place]:
            del self._old_days[place], self._old_totals[place]

    def _drop_before(self, floor: int) -> None:
        if self._newest is None or self._oldest is None:
            self._newest, self._oldest = GreatestDropped(), GreatestDropped()
        self._floor = floor
        n_dropped = bisect_left(self._old_days, floor)
        for day in self._old_days[:n_dropped]:
            self._newest.drop(day)
            self._oldest.drop(-day)
        del self._old_days[:n_dropped], self._old_totals[:n_dropped]


def _observed(total: array[int], count: array[int]) -> list[int]:
    return [of_day for of_day, n in zip(total, count, strict=True) if of_day or n]
