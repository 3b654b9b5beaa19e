"""All that is known of one entity, moved on posting by posting; features are read from it in a fraction of a ms.

The state stands at an instant `as_of` that never goes back. A posting known by then counts at once; one that is known
later waits. So postings may come in any order of knowledge, and what is read at `as_of` is what the offline evaluator
gives for the ledger of all postings that have come.
"""

from __future__ import annotations

import heapq
from typing import Any

from replenish.errors import BrokenPromise, OutOfRange
from replenish.features.online.cutoff_clock import CutoffClock
from replenish.features.online.day_totals import DayTotals
from replenish.features.online.latest_candidates import LatestCandidates
from replenish.features.online.postings import Plain, Posting, instant_of_us
from replenish.features.online.twin_plan import FeatureVector, MeasurePlan, TwinPlan

_BASE_KINDS = ("version", "reversal")


class EntityState:
    """Features of one entity at `as_of`, kept up to date."""

    __slots__ = ("_clock", "_days", "_latest", "_n_waited", "_plan", "_waiting", "as_of", "seq")

    def __init__(self, plan: TwinPlan, clock: CutoffClock, as_of: int) -> None:
        self._plan, self._clock, self.as_of = plan, clock, as_of
        self.seq = 0
        """Place in the log of the newest posting that was taken in."""
        origin = clock.origin_of(as_of)
        self._days = [plan.new_days(measure, origin) for measure in plan.measures]
        self._latest = [plan.new_candidates(latest) for latest in plan.latest]
        self._waiting: list[tuple[int, int, Posting]] = []
        """A heap of postings known after `as_of`: knowledge time, number, posting."""
        self._n_waited = 0

    def apply(self, posting: Posting) -> None:
        """Take in a posting of this entity, or take a withdrawn one out.

        Raises:
            OutOfRange: A value to be summed is no integer, or a day's total leaves 64 bits.
            BrokenPromise: A posting is withdrawn that was never brought.
        """
        if posting.known_us <= self.as_of:
            self._post(posting)
        elif not posting.is_withdrawn:
            self._n_waited += 1
            heapq.heappush(self._waiting, (posting.known_us, self._n_waited, posting))
        else:
            self._withdraw_waiting(posting._replace(is_withdrawn=False))

    def advance(self, as_of: int) -> None:
        """Let time pass up to an instant: days end, event times come, waiting postings are known.

        Raises:
            OutOfRange: The instant lies before the one that the state stands at.
        """
        if as_of == self.as_of:
            return
        if as_of < self.as_of:
            raise OutOfRange(
                "the twin does not go back in time: ask the offline evaluator",
                as_of=instant_of_us(as_of).isoformat(),
                stands_at=instant_of_us(self.as_of).isoformat(),
            )
        self.as_of = as_of
        origin = self._clock.origin_of(as_of)
        for days in self._days:
            days.move_to(origin)
        while self._waiting and self._waiting[0][0] <= as_of:
            self._post(heapq.heappop(self._waiting)[2])
        for plan, latest in zip(self._plan.latest, self._latest, strict=True):
            latest.move_to(as_of)
            if plan.longest_us is not None:
                latest.drop_before(as_of - plan.longest_us)

    def features_at(self, as_of: int) -> FeatureVector:
        """All features, as known at an instant; time passes up to it.

        Raises:
            OutOfRange: The instant lies before the one that the state stands at.
            ForgottenHistory: A feature needs history that was dropped and has changed since.
        """
        self.advance(as_of)
        values: list[Plain] = [None] * self._plan.n_features
        for measure, days in zip(self._plan.measures, self._days, strict=True):
            found: list[Any] = []
            for names, first, last in measure.windows:
                found += days.statistics(names, first, last)
            for place, back in measure.day_totals:
                values[place] = days.total_of(back)
            for place, finish in measure.features:
                values[place] = finish(found, days)
        for plan, candidates in zip(self._plan.latest, self._latest, strict=True):
            latest = candidates.latest()
            if latest is not None:
                age = as_of - latest[0]
                for place, column, life in plan.features:
                    if life is None or age <= life:
                        values[place] = latest[1][column]
        for place, above, below in self._plan.ratios:
            values[place] = _ratio(values[above], values[below])
        return tuple(values)

    def to_plain(self) -> list[Any]:
        """The state as lists and plain values."""
        days = [one.to_plain() for one in self._days]
        waiting = [posting for _, _, posting in sorted(self._waiting, key=lambda item: item[:2])]
        return [self.as_of, self.seq, days, [one.to_plain() for one in self._latest], waiting]

    @classmethod
    def from_plain(cls, plain: list[Any], plan: TwinPlan, clock: CutoffClock) -> EntityState:
        """The state of `to_plain`, of a set with the same id and limits."""
        as_of, seq, days, latest, waiting = plain
        made = cls(plan, clock, as_of)
        made.seq = seq
        made._days = [
            DayTotals.from_plain(one, measure.demands, plan.limits.days)
            for one, measure in zip(days, plan.measures, strict=True)
        ]
        made._latest = [
            LatestCandidates.from_plain(one, of.places, plan.kept_versions(of))
            for one, of in zip(latest, plan.latest, strict=True)
        ]
        for said in waiting:
            posting = Posting(*said)
            key, fact, values = (tuple(one) for one in (posting.key, posting.fact, posting.values))
            made.apply(posting._replace(key=key, fact=fact, values=values))
        return made

    def _post(self, posting: Posting) -> None:
        measures, latest = self._plan.readers[posting.source]
        for nr, measure in measures:
            if measure.takes(posting.values):
                total, count = _change(measure, posting)
                if total or count:
                    self._add(nr, posting, total, count)
        if posting.kind in _BASE_KINDS:
            for nr, one in latest:
                if one.takes(posting.values):
                    self._latest[nr].add(posting, self.as_of)

    def _add(self, nr: int, posting: Posting, total: int, count: int) -> None:
        try:
            self._days[nr].add(posting.event_day, total, count)
        except OverflowError as error:
            raise OutOfRange("the total of a day leaves 64 bits", source=posting.source, entity=posting.key) from error

    def _withdraw_waiting(self, posting: Posting) -> None:
        for place, (_, _, waiting) in enumerate(self._waiting):
            if waiting == posting:
                del self._waiting[place]
                heapq.heapify(self._waiting)
                return
        raise BrokenPromise("a posting is withdrawn that was never brought", posting=posting)


def _change(measure: MeasurePlan, posting: Posting) -> tuple[int, int]:
    """What a posting adds to D and N of its day."""
    sign = -posting.sign if posting.is_withdrawn else posting.sign
    value: Plain = 0
    if measure.value_place is not None:
        value = posting.values[measure.value_place]
        if value is None:
            return 0, 0
    count = sign if posting.kind in measure.counted_kinds else 0
    if not measure.demands.needs_total or posting.kind not in measure.summed_kinds:
        return 0, count
    if not isinstance(value, int):
        raise OutOfRange("only integers are summed", source=posting.source, column=measure.value, value=value)
    return sign * int(value), count


def _ratio(numerator: Plain, denominator: Plain) -> float | None:
    if numerator is None or denominator is None or denominator == 0:
        return None
    return float(numerator) / float(denominator)
