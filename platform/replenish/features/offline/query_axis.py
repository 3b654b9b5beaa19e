"""The axes of one evaluation: spine rows sorted by (entity, instant), origin dates, and their cut-off instants.

Entities are numbers from 0, instants microseconds since 1970-01-01 UTC, days are days since 1970-01-01; all int64.
An instant before the oldest or after the newest one asked for may be moved to that border: no answer changes. So an
(entity, instant) pair fits into one integer, and one `searchsorted` finds a place in the spine.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

import numpy as np

from replenish.bitemporal import origin_instant
from replenish.bitemporal_windows import IntArray
from replenish.errors import OutOfRange

DAY_US = 86_400_000_000
MAX_PACKED = 2**62
"""Bound of packed keys: half of int64, so that sums of two never overflow."""

_EPOCH_DATE = date(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, eq=False)
class CutoffCalendar:
    """Cut-off instants of consecutive origin dates; `instants[i]` is that of day `first_day + i`, never descending."""

    first_day: int
    instants: IntArray

    @classmethod
    def around(cls, oldest: int, newest: int, zone: str, cutoff: time) -> CutoffCalendar:
        """The dates whose cut-offs lie around the instants `oldest .. newest` [us], with some to spare."""
        first, last = oldest // DAY_US - 3, newest // DAY_US + 4
        # A zone is less than a day off UTC and a cut-off less than a day after midnight: three days are enough.
        epoch = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
        instants = [
            (origin_instant(_EPOCH_DATE + timedelta(days=day), zone, cutoff) - epoch) // _MICROSECOND
            for day in range(first, last + 1)
        ]
        return cls(first, np.array(instants, dtype=np.int64))

    def instant_of(self, day: IntArray) -> IntArray:
        """Cut-off instants of days [us]; a day outside gets that of the nearest border."""
        return self.instants[np.clip(day - self.first_day, 0, len(self.instants) - 1)]

    def origin_of(self, instant: IntArray) -> IntArray:
        """The newest origin date whose cut-off is not after each instant; instants must lie within the calendar."""
        return self.first_day + np.searchsorted(self.instants, instant, side="right") - 1


@dataclass(frozen=True, eq=False)
class QueryAxis:
    """Spine rows in order of (entity, instant); arrays have shape (n_queries,)."""

    entity: IntArray
    instant: IntArray
    origin: IntArray
    """Origin date of each query [days]."""
    packed: IntArray
    """(entity, instant) as one ascending integer."""
    calendar: CutoffCalendar
    oldest: int
    newest: int

    def __len__(self) -> int:
        return len(self.entity)

    def pack(self, entity: IntArray, instant: IntArray) -> IntArray:
        """(entity, instant) pairs on the scale of `packed`; instants that no query tells apart may coincide."""
        return entity * (self.newest - self.oldest + 2) + (np.clip(instant, self.oldest, self.newest + 1) - self.oldest)

    def first_from(self, entity: IntArray, instant: IntArray) -> IntArray:
        """Number of the first query of each entity at or after each instant; of the next entity where there is none."""
        return np.searchsorted(self.packed, self.pack(entity, instant), side="left")


def max_entities(oldest: int, newest: int) -> int:
    """How many entities fit on one axis between two instants [us]: about 29,000 over five years, never less than 1."""
    return max(1, MAX_PACKED // (newest - oldest + 2))


def query_axis(entity: IntArray, instant: IntArray, calendar: CutoffCalendar) -> tuple[QueryAxis, IntArray]:
    """The axis of spine rows in any order, and the row that each query is.

    Args:
        entity: Entity of each row, >= 0.
        instant: Its `as_of` [us].
        calendar: Covers all instants.

    Raises:
        OutOfRange: Too many entities for one axis; see `max_entities`.
    """
    oldest, newest = (int(instant.min()), int(instant.max())) if len(instant) else (0, 0)
    span = newest - oldest + 2
    if len(entity) and int(entity.max()) >= max_entities(oldest, newest):
        raise OutOfRange("too many entities for one axis", n_entities=int(entity.max()) + 1, span_us=span)
    packed = entity * span + (instant - oldest)
    rows = sorted_rows(packed)
    packed, instant = packed[rows], instant[rows]
    return QueryAxis(entity[rows], instant, calendar.origin_of(instant), packed, calendar, oldest, newest), rows


def sorted_rows(key: IntArray) -> IntArray:
    """Row numbers in ascending order of a key >= 0; rows of one key in any order."""
    n_rows = len(key)
    if n_rows < 2 or bool(np.all(key[1:] >= key[:-1])):
        return np.arange(n_rows, dtype=np.int64)
    bits = n_rows.bit_length()
    if int(key.max()) < 2 ** (62 - bits):
        # Sorting integers costs a fraction of sorting row numbers by integers, so the number rides along.
        ordered = (key << bits) | np.arange(n_rows, dtype=np.int64)
        ordered.sort()
        return ordered & ((1 << bits) - 1)
    return np.argsort(key)
