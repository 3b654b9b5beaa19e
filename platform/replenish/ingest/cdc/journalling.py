"""Offered events on their way into the journal: judged in pieces, several under way, counted when durable."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from replenish.errors import JournalOverloaded
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import OfferedEvent
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal_entry import EventEntry, Receipt

PIECE_EVENTS = 5_000
MAX_UNDER_WAY = 2
"""Pieces that wait for the journal while the next is judged."""
OVERLOAD_PAUSE_SECONDS = 0.05
OVERLOAD_ATTEMPTS = 1_200
"""A minute: others fill the journal's queue, and we wait for our turn."""


class Journalling:
    """Hands events to the journal in order; `wait` returns when all of them are durable."""

    def __init__(self, door: EventDoor, group: GroupCommit, pause: Callable[[float], object]) -> None:
        self._door, self._group, self._pause = door, group, pause
        self._under_way: deque[Future[list[Receipt]]] = deque()
        self.outcomes: Counter[str] = Counter()

    def send(self, events: Sequence[OfferedEvent], dead: Sequence[EventEntry] = ()) -> None:
        """Judge and submit; waits while too much is under way.

        Raises:
            StoreFull, WriterFailed, JournalOverloaded: As `GroupCommit` has them; what was sent may be sent again.
        """
        for first in range(0, len(events), PIECE_EVENTS):
            self._submit(self._door.judge(events[first : first + PIECE_EVENTS]))
        for first in range(0, len(dead), PIECE_EVENTS):
            self._submit(list(dead[first : first + PIECE_EVENTS]))

    def wait(self) -> None:
        """Wait until everything that was sent is durable; raises as `send`."""
        while self._under_way:
            self._count()

    def _submit(self, entries: list[EventEntry]) -> None:
        while len(self._under_way) >= MAX_UNDER_WAY:
            self._count()
        for _ in range(OVERLOAD_ATTEMPTS):
            try:
                self._under_way.append(self._group.submit(entries))
            except JournalOverloaded:
                self._pause(OVERLOAD_PAUSE_SECONDS)
            else:
                return
        raise JournalOverloaded("the journal's queue stayed full for a minute: is its disk stuck?")

    def _count(self) -> None:
        self.outcomes.update(receipt.outcome for receipt in self._under_way.popleft().result())
