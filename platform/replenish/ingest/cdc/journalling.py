"""Rows on their way into the journal: judged in pieces by a thread of their own, counted when durable."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime

from replenish.errors import JournalOverloaded
from replenish.ingest.cdc.row_events import RowEvent, judge_rows
from replenish.ingest.events.event_door import EventDoor
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal_entry import EventEntry, Receipt

PIECE_EVENTS = 10_000
"""Judging has a fixed cost per piece, of some milliseconds."""
MAX_UNDER_WAY = 3
"""Pieces that are judged or wait for the journal while the next is read."""
OVERLOAD_PAUSE_SECONDS = 0.05
OVERLOAD_ATTEMPTS = 1_200
"""A minute: others fill the journal's queue, and we wait for our turn."""


class Journalling:
    """Hands events to the journal in order; `wait` returns when all of them are durable. Used as a block.

    Reading, judging and committing are three threads: each of them waits for something other than Python most of its
    time (the source, the columns' arithmetic, the disk).
    """

    def __init__(
        self,
        door: EventDoor,
        group: GroupCommit,
        clock: Callable[[], datetime],
        pause: Callable[[float], object],
    ) -> None:
        self._door, self._group, self._clock, self._pause = door, group, clock, pause
        self._judging = ThreadPoolExecutor(1, "judge")
        self._under_way: deque[Future[Future[list[Receipt]]]] = deque()
        self.outcomes: Counter[str] = Counter()

    def __enter__(self) -> Journalling:
        return self

    def __exit__(self, *error: object) -> None:
        self._judging.shutdown(wait=True, cancel_futures=True)

    def send(self, events: Sequence[RowEvent], dead: Sequence[EventEntry] = ()) -> None:
        """Judge and submit; waits while too much is under way.

        Raises:
            StoreFull, WriterFailed, JournalOverloaded: As `GroupCommit` has them; what was sent may be sent again.
        """
        for first in range(0, len(events), PIECE_EVENTS):
            self._start(self._judge_and_submit, events[first : first + PIECE_EVENTS])
        for first in range(0, len(dead), PIECE_EVENTS):
            self._start(self._submit, dead[first : first + PIECE_EVENTS])

    def wait(self) -> None:
        """Wait until everything that was sent is durable; raises as `send`."""
        while self._under_way:
            self._count()

    def _start(self, work: Callable[..., Future[list[Receipt]]], piece: Sequence[object]) -> None:
        while len(self._under_way) >= MAX_UNDER_WAY:
            self._count()
        self._under_way.append(self._judging.submit(work, piece))

    def _judge_and_submit(self, events: Sequence[RowEvent]) -> Future[list[Receipt]]:
        return self._submit(judge_rows(events, self._door, self._clock()))

    def _submit(self, entries: Sequence[EventEntry]) -> Future[list[Receipt]]:
        for _ in range(OVERLOAD_ATTEMPTS):
            try:
                return self._group.submit(entries)
            except JournalOverloaded:
                self._pause(OVERLOAD_PAUSE_SECONDS)
        raise JournalOverloaded("the journal's queue stayed full for a minute: is its disk stuck?")

    def _count(self) -> None:
        self.outcomes.update(receipt.outcome for receipt in self._under_way.popleft().result().result())
