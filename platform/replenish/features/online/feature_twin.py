"""The online twin of one feature set: state per key, moved on in log order, read at `now` or at the last cut-off.

What is read of a key at `as_of` is what the offline evaluator gives for the ledger of all postings up to the twin's
`seq`, of which it counts those with a knowledge time up to `as_of`. Time only goes on: a key that was asked at an
instant answers no earlier one, and no key answers before the twin's own instant `stands_at`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime, time
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from replenish.errors import BrokenPromise, OutOfRange
from replenish.features.definitions.identity import feature_set_digest
from replenish.features.definitions.model import FeatureSet
from replenish.features.online.cutoff_clock import CutoffClock
from replenish.features.online.entity_state import EntityState
from replenish.features.online.postings import Plain, Posting, PostingBatch, instant_of_us, instant_us
from replenish.features.online.twin_plan import KEEP_ALL, FeatureVector, KeptHistory, plan_twin

EntityKey = tuple[Plain, ...]
"""Values of the set's entity columns, in its order."""

_BY_KEY = attrgetter("key")


class TwinAnswer(NamedTuple):
    """One vector, and what it is of."""

    values: FeatureVector
    """In the set's order of features; instants in microseconds, days as numbers since 1970-01-01."""
    as_of: datetime
    seq: int
    """All of the log up to here counts, and nothing of the key behind it."""


class FeatureTwin:
    """The state of all keys of a set. One thread feeds it, any may read: each call holds the state of a key at most.

    Args:
        feature_set: One that `definitions.meaning` found no mistake in.
        zone: IANA zone of the deployment.
        cutoff: Cut-off of an origin, in `zone`.
        stands_at: No question will be earlier than this instant, or for a daily set than the cut-off before it.
        limits: What is kept of history that no window bounds.
    """

    def __init__(
        self, feature_set: FeatureSet, zone: str, cutoff: time, stands_at: datetime, limits: KeptHistory = KEEP_ALL
    ) -> None:
        self.feature_set, self.limits = feature_set, limits
        self.feature_set_id = feature_set_digest(feature_set)
        self.plan = plan_twin(feature_set, limits)
        self.clock = CutoffClock(zone, cutoff)
        self.seq = 0
        """Batches up to this place of the log are taken in."""
        self.states_through = 0
        """States of a snapshot may hold the log up to here, each to its own place: batches up to it hold one record."""
        self.newest_known_us: int | None = None
        """Knowledge time of the newest posting that was taken in."""
        self._floor = self._asked_us(stands_at)
        self._states: dict[EntityKey, EntityState] = {}
        self._ahead: tuple[int, set[EntityKey]] = (0, set())
        """While a batch is taken in: its place, and the keys that have it already."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, key: EntityKey) -> bool:
        return key in self._states

    @property
    def stands_at(self) -> datetime:
        """No key answers before this instant."""
        return instant_of_us(self._floor)

    def keys(self) -> list[EntityKey]:
        """Every key of which something was said, in the order in which they came."""
        with self._lock:
            return list(self._states)

    def apply(self, batch: PostingBatch) -> int:
        """Take in what one place of the log changes; places up to `seq` are passed over. The number of postings.

        Raises:
            OutOfRange: A value to be summed is no integer, or a day's total leaves 64 bits.
            BrokenPromise: A posting is withdrawn that was never brought, or a key's postings do not stand together.
        """
        if batch.seq <= self.seq:
            return 0
        taken: set[EntityKey] = set()
        n_postings = 0
        self._ahead = (batch.seq, taken)
        for key, postings in groupby(batch.postings, key=_BY_KEY):
            own = list(postings)
            if key in taken:
                raise BrokenPromise("the postings of a key do not stand together", key=key, seq=batch.seq)
            with self._lock:
                self._take_in(key, own, batch.seq)
                taken.add(key)
            n_postings += len(own)
        with self._lock:
            self.seq, self._ahead = batch.seq, (0, set())
        return n_postings

    def stand_at(self, now: datetime) -> None:
        """Promise that no question will be earlier; states move on when they are next looked at."""
        floor = self._asked_us(now)
        with self._lock:
            self._floor = max(self._floor, floor)

    def answer(self, key: EntityKey, now: datetime) -> TwinAnswer:
        """The features of a key as known at `now`; of a daily set as known at the last cut-off before it.

        A key of which nothing is known has the values of an empty history.

        Raises:
            OutOfRange: The instant lies before the one that the key's state stands at.
            ForgottenHistory: A feature needs history that was dropped and has changed since.
        """
        as_of = self._asked_us(now)
        with self._lock:
            state = self._states.get(key)
            if state is None:
                state = EntityState(self.plan, self.clock, self._floor)
            values = state.features_at(as_of)
            seq, taken = self._ahead
            return TwinAnswer(values, instant_of_us(as_of), seq if key in taken else self.seq)

    def vector(self, key: EntityKey, as_of: datetime) -> FeatureVector:
        """The features of a key as known at exactly this instant; see `answer`.

        Raises:
            OutOfRange: The set is daily and the instant no cut-off, or it lies before the state's.
            ForgottenHistory: A feature needs history that was dropped and has changed since.
        """
        asked = instant_us(as_of)
        if self.feature_set.clock == "daily" and not self.is_cutoff(as_of):
            raise OutOfRange(
                "a daily set is asked at cut-offs only",
                feature_set=self.feature_set.name,
                as_of=as_of.isoformat(),
                last_cutoff=instant_of_us(self._asked_us(as_of)).isoformat(),
            )
        return self.answer(key, instant_of_us(asked)).values

    def is_cutoff(self, as_of: datetime) -> bool:
        """Whether an instant is the cut-off of its origin date."""
        with self._lock:
            return self.clock.is_cutoff(instant_us(as_of))

    def capture(self, keys: Iterable[EntityKey]) -> list[list[Any]]:
        """States of some keys as plain lists [key, state]; each says which place of the log it has."""
        captured: list[list[Any]] = []
        for key in keys:
            with self._lock:
                captured.append([key, self._states[key].to_plain()])
        return captured

    def restore(self, captured: Iterable[list[Any]], seq: int) -> None:
        """Take states of `capture`; the log is to be taken in from `seq` on, of which each state leaves out its own.

        Raises:
            BrokenPromise: The twin is not new.
        """
        if self._states or self.seq:
            raise BrokenPromise("only a new twin is restored", feature_set=self.feature_set.name)
        for key, plain in captured:
            self._states[tuple(key)] = EntityState.from_plain(plain, self.plan, self.clock)
        self.seq = seq
        self.states_through = max([seq, *(state.seq for state in self._states.values())])

    def _take_in(self, key: EntityKey, postings: list[Posting], seq: int) -> None:
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = EntityState(self.plan, self.clock, self._floor)
        elif state.seq >= seq:
            return
        elif state.as_of < self._floor:
            state.advance(self._floor)
        for posting in postings:
            state.apply(posting)
        state.seq = seq
        newest = max(posting.known_us for posting in postings)
        self.newest_known_us = max(newest, self.newest_known_us or newest)

    def _asked_us(self, now: datetime) -> int:
        asked = instant_us(now)
        return self.clock.last_cutoff(asked) if self.feature_set.clock == "daily" else asked
