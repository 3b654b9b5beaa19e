"""Origin dates of instants that mostly ascend: the newest one is remembered, so that a look-up is two comparisons."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from replenish.bitemporal import origin_instant
from replenish.features.online.postings import instant_us

_DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DATE = date(1970, 1, 1)


class CutoffClock:
    """Origin dates and cut-off instants of one deployment."""

    def __init__(self, zone: str, cutoff: time) -> None:
        self.zone, self.cutoff = zone, cutoff
        self._found = (0, 0, 0)
        """An origin date, its cut-off and the next one; replaced as a whole, since several threads look."""

    def cutoff_us(self, day: int) -> int:
        """The cut-off instant of an origin date."""
        return instant_us(origin_instant(_EPOCH_DATE + timedelta(days=day), self.zone, self.cutoff))

    def origin_of(self, as_of: int) -> int:
        """The newest origin date whose cut-off is not after an instant."""
        origin, start, until = self._found
        if start <= as_of < until:
            return origin
        # A zone is less than a day off UTC and a cut-off less than a day after midnight.
        day = as_of // _DAY_US + 3
        until = self.cutoff_us(day + 1)
        while (start := self.cutoff_us(day)) > as_of:
            day, until = day - 1, start
        self._found = (day, start, until)
        return day

    def last_cutoff(self, now: int) -> int:
        """What `now` means to a daily set: the newest cut-off instant that has passed."""
        return self.cutoff_us(self.origin_of(now))

    def is_cutoff(self, as_of: int) -> bool:
        """Whether an instant is the cut-off of its origin date."""
        return self.last_cutoff(as_of) == as_of
