"""The versions of one entity's facts that may be the latest one known, now or after a retraction.

A version is live from the later of its event time and its knowledge time until its reversal is known; of the live ones
the greatest (event time, knowledge time, rest of the fact key, version number) counts. A retraction brings an older one
back, so all that are live are kept, with two limits:

* Where every feature has a time-to-live, a version whose event time is older than the longest of them never counts
  again, since `as_of` never goes back. It is dropped, and what comes later about it is passed over. Always exact.
* Where a limit is set, of the older versions only the greatest is remembered (`GreatestDropped`), until a posting
  might have changed it; then an answer that needs it is refused.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from typing import Any

from replenish.errors import BrokenPromise
from replenish.features.online.dropped_history import GreatestDropped
from replenish.features.online.postings import Plain, Posting

Rank = tuple[int, int, tuple[Plain, ...], int]
"""Event time, knowledge time, rest of the fact key, version number."""
Identity = tuple[tuple[Plain, ...], int]

_DROP_EVERY_US = 7 * 86_400_000_000
"""By age, versions are dropped once in so much time: each time all of them are looked at."""


class LatestCandidates:
    """Versions that are visible; postings known later wait elsewhere.

    Args:
        places: Places of the values that are read among those of a posting.
        kept_versions: So many live versions are kept at least, and twice as many at most; None keeps all. With a
            limit the greatest dropped one is remembered.
    """

    __slots__ = (
        *("_alive", "_coming", "_dropped", "_dropped_values", "_floor", "_kept", "_places", "_stopped", "_versions"),
    )

    def __init__(self, places: tuple[int, ...], kept_versions: int | None = None) -> None:
        self._places, self._kept = places, kept_versions
        self._versions: dict[Identity, tuple[Rank, tuple[Plain, ...]]] = {}
        """Rank and values of every visible version that is not dropped, reversed ones too."""
        self._stopped: set[Identity] = set()
        """Identities whose reversal is visible, whether their version is already here or not."""
        self._alive: list[Rank] = []
        self._coming: list[Rank] = []
        """A heap of versions whose event time has not come."""
        self._floor: int | None = None
        """Versions of older event times are dropped."""
        self._dropped: GreatestDropped | None = None if kept_versions is None else GreatestDropped()
        self._dropped_values: tuple[Plain, ...] = ()

    def add(self, posting: Posting, as_of: int) -> None:
        """Take in a version or reversal that is visible now, or take a withdrawn one out."""
        identity = posting.fact, posting.version_nr
        is_version = posting.kind == "version"
        if self._floor is not None and posting.event_us < self._floor:
            self._add_below_floor(posting, is_alive=is_version and identity not in self._stopped)
            return
        if is_version and posting.is_withdrawn:
            rank = (posting.event_us, posting.known_us, *identity)
            if self._versions.pop(identity, (None,))[0] != rank:
                raise BrokenPromise(
                    "a version is withdrawn that was never brought", source=posting.source, version=rank
                )
            self._remove(rank)
        elif is_version:
            rank = (posting.event_us, posting.known_us, *identity)
            self._versions[identity] = rank, self._values(posting)
            self._enter(rank, as_of)
        elif posting.is_withdrawn:
            self._stopped.discard(identity)
            if identity in self._versions:
                self._enter(self._versions[identity][0], as_of)
        else:
            self._stopped.add(identity)
            if identity in self._versions:
                self._remove(self._versions[identity][0])

    def move_to(self, as_of: int) -> None:
        """Let time pass: versions whose event time has come enter."""
        while self._coming and self._coming[0][0] <= as_of:
            rank = heapq.heappop(self._coming)
            if self._versions.get((rank[2], rank[3]), (None,))[0] == rank:
                self._enter(rank, as_of)

    def drop_before(self, floor: int) -> None:
        """Drop the versions of older event times for good, once in a while: none of them will count again."""
        if self._floor is None or floor - self._floor >= _DROP_EVERY_US:
            self._drop_below(floor)

    def latest(self) -> tuple[int, tuple[Plain, ...]] | None:
        """Event time and values of the version that counts, or None.

        Raises:
            ForgottenHistory: No live version is kept, and which of the dropped ones counts is in doubt.
        """
        if self._alive:
            event_us, _, fact, version_nr = self._alive[-1]
            return event_us, self._versions[fact, version_nr][1]
        greatest = None if self._dropped is None else self._dropped.answer()
        return None if greatest is None else (greatest[0], self._dropped_values)

    def to_plain(self) -> list[Any]:
        """The state as lists and plain values."""
        dropped = None if self._dropped is None else [self._dropped.best, self._dropped.doubt, self._dropped_values]
        versions = list(self._versions.values())
        return [versions, list(self._stopped), self._alive, self._coming, self._floor, dropped]

    @classmethod
    def from_plain(cls, plain: list[Any], places: tuple[int, ...], kept_versions: int | None) -> LatestCandidates:
        """The state of `to_plain`."""
        made = cls(places, kept_versions)
        versions, stopped, alive, coming, made._floor, dropped = plain
        for said, values in versions:
            rank = _rank(said)
            made._versions[rank[2], rank[3]] = rank, tuple(values)
        made._stopped = {(tuple(fact), version_nr) for fact, version_nr in stopped}
        made._alive, made._coming = [_rank(rank) for rank in alive], [_rank(rank) for rank in coming]
        if dropped is not None:
            best, doubt, values = dropped
            doubt = None if doubt is None else tuple(doubt)
            made._dropped = GreatestDropped(None if best is None else _rank(best), doubt)
            made._dropped_values = tuple(values)
        return made

    def _values(self, posting: Posting) -> tuple[Plain, ...]:
        return tuple(posting.values[place] for place in self._places)

    def _enter(self, rank: Rank, as_of: int) -> None:
        """A version is live, or will be when its event time comes, unless its reversal is known."""
        if rank[0] > as_of:
            heapq.heappush(self._coming, rank)
        elif (rank[2], rank[3]) not in self._stopped:
            place = bisect_left(self._alive, rank)
            if place == len(self._alive) or self._alive[place] != rank:
                insort(self._alive, rank)
                if self._kept is not None and len(self._alive) > 2 * self._kept:
                    self._drop_below(self._alive[-self._kept][0])

    def _remove(self, rank: Rank) -> None:
        place = bisect_left(self._alive, rank)
        if place < len(self._alive) and self._alive[place] == rank:
            del self._alive[place]

    def _add_below_floor(self, posting: Posting, *, is_alive: bool) -> None:
        if self._dropped is None:
            return
        if posting.is_withdrawn or not is_alive:
            # Above every rank of this event time.
            self._dropped.suspect((posting.event_us + 1,))
            return
        rank = (posting.event_us, posting.known_us, posting.fact, posting.version_nr)
        self._remember(rank, self._values(posting))

    def _drop_below(self, floor: int) -> None:
        if self._floor is not None and floor <= self._floor:
            return
        self._floor = floor
        n_dropped = bisect_left(self._alive, (floor,))
        if n_dropped:
            greatest = self._alive[n_dropped - 1]
            self._remember(greatest, self._versions[greatest[2], greatest[3]][1])
            del self._alive[:n_dropped]
        gone = [identity for identity, (rank, _) in self._versions.items() if rank[0] < floor]
        for identity in gone:
            del self._versions[identity]
            self._stopped.discard(identity)

    def _remember(self, rank: Rank, values: tuple[Plain, ...]) -> None:
        if self._dropped is not None:
            self._dropped.drop(rank)
            if self._dropped.best is rank:
                self._dropped_values = values


def _rank(plain: list[Any]) -> Rank:
    return plain[0], plain[1], tuple(plain[2]), plain[3]
