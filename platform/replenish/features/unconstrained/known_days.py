"""Sales, stock-outs and lost sales of every series and day as known at an origin that moves forward.

Days and origins share one axis of day numbers (see `bitemporal_windows`): origin `t` is the start of day `t`. A day
counts as sold out while the last stock count of it known says that nothing was left; one without a count is taken as in
stock. A shelf that was empty at noon and full at close is not seen as empty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replenish.bitemporal_windows import Changes, IntArray
from replenish.errors import OutOfRange
from replenish.features.unconstrained.product_limit import N_WEEKDAYS, unconstrained_milli
from replenish.units import MILLI


@dataclass(frozen=True, eq=False)
class Revision:
    """Cells whose estimate another origin sees otherwise; one-dimensional, of one length."""

    series: IntArray
    day: IntArray
    lost_milli: IntArray
    """By how much lost sales moved [thousandths of a unit]."""
    censored: IntArray
    """+1 where the day became censored, -1 where it no longer is, 0 else."""


class KnownDays:
    """The state of all series at one origin; `advance` brings it to a later one.

    Args:
        units: Changes of units sold.
        sold_out: Changes of the 0/1 flag "nothing left at close".
        n_series: Series numbers are 0 .. n_series - 1.
        first_day: No change speaks of an earlier day. Day 0 is a Monday.
        end_day: Nothing is asked at a later origin.
    """

    def __init__(self, units: Changes, sold_out: Changes, n_series: int, first_day: int, end_day: int) -> None:
        self._first_day, self.origin = first_day, first_day
        self._units, self._sold_out = _by_sight(units), _by_sight(sold_out)
        shape = (n_series, max(end_day - first_day, 0))
        self._sold, self._empty = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        self._lost, self._censored = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)

    def resume(self, origin: int, held: Revision) -> None:
        """Stand at an origin whose estimates were made before; `held` is the sum of all revisions up to it."""
        self._take_in(origin)
        place = held.series, held.day - self._first_day
        np.add.at(self._lost, place, held.lost_milli)
        np.add.at(self._censored, place, held.censored)

    def advance(self, origin: int) -> Revision:
        """Go to a later origin and say which cells it sees otherwise; days that nothing reaches are not looked at.

        Raises:
            OutOfRange: Time only goes on.
        """
        if origin < self.origin:
            raise OutOfRange("an origin before the one that is known", origin=origin, known=self.origin)
        first = self._take_in(origin) - self._first_day
        n_days = origin - self._first_day
        if first >= n_days:
            return Revision(*(np.zeros(0, dtype=np.int64) for _ in range(4)))
        # More came back than was sold: nothing was wanted on that day.
        sold = np.maximum(self._sold[:, :n_days], 0)
        has_begun = np.cumsum(sold, axis=1) > 0
        is_censored = (self._empty[:, :n_days] > 0) & has_begun
        milli = unconstrained_milli(sold, is_censored, has_begun, self._first_day % N_WEEKDAYS, first_estimated=first)
        lost = milli[:, first:] - sold[:, first:] * MILLI
        censored = is_censored[:, first:].astype(np.int64)
        more_lost, more_censored = lost - self._lost[:, first:n_days], censored - self._censored[:, first:n_days]
        series, day = np.nonzero((more_lost != 0) | (more_censored != 0))
        self._lost[:, first:n_days], self._censored[:, first:n_days] = lost, censored
        place = series, day
        return Revision(series, day + first + self._first_day, more_lost[place], more_censored[place])

    def _take_in(self, origin: int) -> int:
        """Add what origins after the present one, up to `origin`, see for the first time; the oldest day it is about.

        An estimate looks at days before its own only, so later days are all that can change.
        """
        oldest = origin
        for changes, totals in ((self._units, self._sold), (self._sold_out, self._empty)):
            seen = np.searchsorted(_sight(changes), [self.origin, origin], side="right")
            new = slice(*seen)
            np.add.at(totals, (changes.series[new], changes.event[new] - self._first_day), changes.delta[new])
            oldest = min(oldest, int(changes.event[new].min(initial=origin)))
        self.origin = origin
        return oldest


def _sight(changes: Changes) -> IntArray:
    """The first origin that sees each change: it is known, and its day is over."""
    return np.maximum(changes.known, changes.event + 1)


def _by_sight(changes: Changes) -> Changes:
    return changes.where(np.argsort(_sight(changes), kind="stable"))
