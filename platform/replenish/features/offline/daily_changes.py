"""Net changes of the daily totals of one measure, ordered by (entity, event day, instant at which they are known)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from replenish.bitemporal_windows import IntArray
from replenish.features.offline.query_axis import QueryAxis, sorted_rows

_LIMB_BITS = 21
SQUARE_PARTS = tuple(f"square_{nr}" for nr in range(5))
"""What squares that leave int64 are made of: the part of number n counts `2**(21 n)`; see `square_of`."""

LEAST_NEEDED = 0.9
"""Where fewer than this share of the postings can be seen by a query, the others are dropped first."""

NEVER = int(np.iinfo(np.int64).max)
"""The instant after all instants."""


@dataclass(frozen=True, eq=False)
class DailyChanges:
    """Rows of shape (n_changes,), one per (entity, event, known), in that order; see `daily_changes`.

    `known` is never before the cut-off after the event day, nor before the oldest query: what is known earlier is not
    told apart, since no window holds a day that is not over. Some rows may be later than every query.
    """

    entity: IntArray
    event: IntArray
    """Event day."""
    known: IntArray
    """From this instant on the change is visible [us]."""
    total: IntArray
    """Change of D, the sum of the values."""
    count: IntArray
    """Change of N, the number of facts that say something."""
    is_first: npt.NDArray[np.bool_]
    """The first row of its (entity, event)."""

    def __len__(self) -> int:
        return len(self.entity)

    @cached_property
    def total_after(self) -> IntArray:
        """D of the row's day once the row is known."""
        return _running_in_groups(self.total, self.is_first)

    @cached_property
    def count_after(self) -> IntArray:
        """N of the row's day once the row is known."""
        return _running_in_groups(self.count, self.is_first)

    @cached_property
    def is_observed_after(self) -> npt.NDArray[np.bool_]:
        """Whether the row's day is observed once the row is known; a return may stand on a day without a sale."""
        return (self.count_after != 0) | (self.total_after != 0)

    @cached_property
    def known_until(self) -> IntArray:
        """When the day's next change becomes known [us]; `NEVER` for its last."""
        until = np.full(len(self), NEVER, dtype=np.int64)
        until[:-1] = np.where(self.is_first[1:], NEVER, self.known[1:])
        return until

    def statistic(self, name: str) -> IntArray:
        """Changes of an additive statistic of the days.

        `total` and `count` are D and N; `square`, `active` and `observed` the change of D**2, of D != 0 and of whether
        N or D is not 0.
        Of totals whose squares leave int64 there are `SQUARE_PARTS`.
        """
        match name:
            case "total":
                return self.total
            case "count":
                return self.count
            case "square":
                # f(after) - f(before) without the second array of squares.
                return self.total * (2 * self.total_after - self.total)
            case "active":
                after = self.total_after
                return (after != 0).astype(np.int64) - (after != self.total)
            case "observed":
                was_observed = (self.count_after != self.count) | (self.total_after != self.total)
                return self.is_observed_after.astype(np.int64) - was_observed
            case _ if name in SQUARE_PARTS:
                part, after = SQUARE_PARTS.index(name), self.total_after
                return _square_part(part, after) - _square_part(part, after - self.total)
            case _:
                raise ValueError(f"no such statistic: {name}")


def square_of(parts: Sequence[IntArray]) -> npt.NDArray[np.object_]:
    """Sums of squares as Python integers, from the sums of their parts; exact for all totals of int64."""
    summed = [part.astype(object) * 2 ** (_LIMB_BITS * nr) for nr, part in enumerate(parts)]
    return np.sum(summed, axis=0)


def _square_part(number: int, total: IntArray) -> IntArray:
    """One of the parts of (a x**2 + b x + c)**2 with x = 2**21; over 3660 days it stays far below 2**62."""
    size = np.abs(total)
    mask = (1 << _LIMB_BITS) - 1
    a, b, c = size >> 2 * _LIMB_BITS, size >> _LIMB_BITS & mask, size & mask
    return (c * c, 2 * b * c, 2 * a * c + b * b, 2 * a * b, a * a)[number]


def daily_changes(
    axis: QueryAxis, entity: IntArray, event: IntArray, known: IntArray, total: IntArray, count: IntArray
) -> DailyChanges:
    """Net changes of daily totals that a query of the axis may see, from postings in any order.

    Args:
        axis: The queries.
        entity: Entity of each posting.
        event: Its event day.
        known: Its knowledge time [us].
        total: What it adds to D.
        count: What it adds to N.
    """
    newest_origin = int(axis.origin.max()) if len(axis) else 0
    is_needed = (known <= axis.newest) & (event < newest_origin) & (len(axis) > 0)
    if np.count_nonzero(is_needed) < LEAST_NEEDED * len(known):
        # A few rows that nobody sees do no harm, and copying all others costs more than they do.
        rows = np.flatnonzero(is_needed)
        entity, event, known, total, count = (column[rows] for column in (entity, event, known, total, count))
    known = np.maximum(known, np.maximum(axis.calendar.instant_of(event + 1), axis.oldest))
    day_key = _day_key(entity, event)
    rows = sorted_rows(day_key)
    day_key, known = day_key[rows], known[rows]
    is_first = _differs(day_key)
    swaps = _order_within_groups(is_first, known)
    if swaps is not None:
        rows, known = rows[swaps], known[swaps]
    starts = np.flatnonzero(is_first | _differs(known))
    if len(starts) == len(known):
        return DailyChanges(entity[rows], event[rows], known, total[rows], count[rows], is_first)
    heads = rows[starts]
    sums = [np.add.reduceat(column[rows], starts) for column in (total, count)]
    return DailyChanges(entity[heads], event[heads], known[starts], sums[0], sums[1], is_first[starts])


def _day_key(entity: IntArray, event: IntArray) -> IntArray:
    if not len(event):
        return entity
    first = int(event.min())
    return entity * (int(event.max()) - first + 1) + (event - first)


def _differs(values: IntArray) -> npt.NDArray[np.bool_]:
    """Whether each value differs from the one before; the first does."""
    differs = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=differs[1:])
    return differs


def _order_within_groups(is_first: npt.NDArray[np.bool_], known: IntArray) -> IntArray | None:
    """Row numbers that bring `known` into order within each group; None where it is so already."""
    falls = ~is_first
    falls[1:] &= known[1:] < known[:-1]
    if not falls.any():
        return None
    group = np.cumsum(is_first, dtype=np.int64) - 1
    is_wrong = np.zeros(int(group[-1]) + 1, dtype=bool)
    is_wrong[group[falls]] = True
    wrong = np.flatnonzero(is_wrong[group])
    rows = np.arange(len(known), dtype=np.int64)
    rows[wrong] = wrong[np.lexsort((known[wrong], group[wrong]))]
    return rows


def _running_in_groups(delta: IntArray, is_first: npt.NDArray[np.bool_]) -> IntArray:
    running = np.cumsum(delta, dtype=np.int64)
    first = np.flatnonzero(is_first)
    before = running[first] - delta[first]
    return running - np.repeat(before, np.diff(np.append(first, len(delta))))
