"""Rows on their way into the journal: judged in batches by a thread of their own, counted when durable."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime
from operator import attrgetter

from replenish.errors import JournalOverloaded
from replenish.ingest.cdc.row_events import RowBatch, judge_rows
from replenish.ingest.events.event_door import EventDoor
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal_entry import EventEntry, Receipt

COMMIT_EVENTS = 5_000
"""Events of one commit: the first are written while the last are judged, and others get their turn in between."""
MAX_UNDER_WAY = 4
"""Batches that are judged or wait for the journal while the next is read."""
OVERLOAD_PAUSE_SECONDS = 0.05
OVERLOAD_ATTEMPTS = 1_200
"""A minute: others fill the journal's queue, and we wait for our turn."""
_outcome_of = attrgetter("outcome")


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
        self._under_way: deque[Future[list[Future[Sequence[Receipt]]]]] = deque()
        self.outcomes: Counter[str] = Counter()

    def __enter__(self) -> Journalling:
        return self

    def __exit__(self, *error: object) -> None:
        self._judging.shutdown(wait=True, cancel_futures=True)

    def send(self, batch: RowBatch, dead: Sequence[EventEntry] = ()) -> None:
        """Judge and submit; waits while too much is under way.

        Raises:
            StoreFull, WriterFailed, JournalOverloaded: As `GroupCommit` has them; what was sent may be sent again.
        """
        while len(self._under_way) >= MAX_UNDER_WAY:
            self._count()
        self._under_way.append(self._judging.submit(self._judge_and_submit, batch, dead))

    def wait(self) -> None:
        """Wait until everything that was sent is durable; raises as `send`."""
        while self._under_way:
            self._count()

    def _judge_and_submit(self, batch: RowBatch, dead: Sequence[EventEntry]) -> list[Future[Sequence[Receipt]]]:
        entries = judge_rows(batch, self._door, self._clock())
        entries = [*entries, *dead] if dead else entries
        submitted: list[Future[Sequence[Receipt]]] = []
        for first in range(0, len(entries), COMMIT_EVENTS):
            submitted.append(self._submit(entries[first : first + COMMIT_EVENTS], submitted))
        return submitted

    def _submit(
        self, entries: Sequence[EventEntry], before: Sequence[Future[Sequence[Receipt]]]
    ) -> Future[Sequence[Receipt]]:
        for _ in range(OVERLOAD_ATTEMPTS):
            try:
                return self._group.submit(entries)
            except JournalOverloaded:
                unfinished = [future for future in before if not future.done()]
                if unfinished:
                    # The queue is full of our own: there is room as soon as the next of them is written.
                    wait(unfinished, OVERLOAD_PAUSE_SECONDS, FIRST_COMPLETED)
                else:
                    self._pause(OVERLOAD_PAUSE_SECONDS)
        raise JournalOverloaded("the journal's queue stayed full for a minute: is its disk stuck?")

    def _count(self) -> None:
        for receipts in self._under_way.popleft().result():
            self.outcomes.update(map(_outcome_of, receipts.result()))
