"""Group commit: whoever waits while one commit is on its way to disk shares the next one.

One thread writes. It takes what waits at once (nobody is held back to make a group bigger), up to 500 events or three
submissions of any size, commits it, and only then answers. The disk sets the pace: a commit takes some milliseconds,
and those who come meanwhile form the next group. Where nobody else waits, a submitter may write in its own thread.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import NamedTuple

from replenish.errors import DamagedLog, Fenced, JournalOverloaded, StoreError, WriterFailed
from replenish.stores.event_run import EventRun, JoinedEntries
from replenish.stores.failpoints import failpoint
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EventEntry, Receipt

MAX_GROUP_EVENTS = 500
FEWEST_SHARING = 3
"""So many submissions share a commit where they wait, however large each is. More would hold up all senders at once,
and nobody would be left whose next request is read meanwhile."""
ENTRY_OVERHEAD_BYTES = 300
SWIFT_SECONDS = 0.05
"""Where the last commit took longer, the next one is the thread's: nobody else is to wait for a slow disk."""
SWITCH_SECONDS = 0.0005
"""How long a busy thread may keep Python's lock from the writer, which gives it up at every statement and would wait
Python's usual 5 ms for it each time: measured beside a busy thread, 100 events a commit, 20,000 against 8,000 ev/s."""


class _Submission(NamedTuple):
    entries: Sequence[EventEntry]
    n_bytes: int
    future: Future[Sequence[Receipt]]


class GroupCommit:
    """The one writer of a process that takes single events; any thread may submit.

    Args:
        journal: Written by this object's thread only, and closed by its owner after `close()`.
        clock: The instant, with an offset; arrival time of each group.
        max_pending_events: As many may wait; a single larger submission is still taken when nothing waits.
        max_pending_bytes: Likewise, in bytes of bodies.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Callable[[], datetime],
        *,
        max_pending_events: int = 20_000,
        max_pending_bytes: int = 64 << 20,
        max_group_events: int = MAX_GROUP_EVENTS,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._limits = (max_pending_events, max_pending_bytes)
        self._max_group_events = max_group_events
        self._waiting: deque[_Submission] = deque()
        self._n_events = self._n_bytes = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._failure: StoreError | None = None
        sys.setswitchinterval(min(SWITCH_SECONDS, sys.getswitchinterval()))
        self._turn = threading.Lock()
        """Held by whoever writes: the thread, or a caller of `write_lone`."""
        self._is_swift = True
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> StoreError | None:
        """Why the writer stopped for good; None while it works."""
        return self._failure

    @property
    def pending_events(self) -> int:
        """Events that were submitted and not answered yet."""
        return self._n_events

    def submit(self, entries: Sequence[EventEntry], *, is_waking: bool = True) -> Future[Sequence[Receipt]]:
        """Hand over events; the future holds one receipt each, in order, once they are durable.

        The future fails with StoreFull (nothing was taken, try again later), Fenced or WriterFailed.

        Args:
            entries: What to write.
            is_waking: Without, the thread is not woken for them: the caller calls `write_lone` soon.

        Raises:
            JournalOverloaded: Too much waits already; nothing was taken.
            WriterFailed: The writer has stopped for good; end the process.
        """
        n_bytes = entries.n_bytes if isinstance(entries, EventRun) else sum(len(entry.body) for entry in entries)
        n_bytes += ENTRY_OVERHEAD_BYTES * len(entries)
        submission = _Submission(entries, n_bytes, Future())
        with self._changed:
            if self._failure is not None:
                raise WriterFailed("the journal's writer has stopped: end this process", cause=self._failure)
            if self._is_closed:
                raise WriterFailed("the journal's writer is closed: this process is stopping")
            max_events, max_bytes = self._limits
            is_full = self._n_events + len(entries) > max_events or self._n_bytes + n_bytes > max_bytes
            if self._n_events and is_full:
                raise JournalOverloaded(
                    "too many events wait for the journal; offer them again", waiting=self._n_events
                )
            self._waiting.append(submission)
            self._n_events += len(entries)
            self._n_bytes += n_bytes
            if is_waking:
                self._changed.notify()
        return submission.future

    def write_lone(self) -> None:
        """Write what waits: in the caller's own thread where it is one submission of usual size and nobody else is
        writing, in this process or another; else in the writer's.

        For a caller that would only wait: two threads' changing over costs more than a small commit takes.
        """
        if len(self._waiting) == 1 and self._is_swift and self._turn.acquire(blocking=False):
            try:
                group = self._taken()
                if group and self._commit(group, is_patient=False):
                    self._count_out(group)
                elif group:
                    with self._changed:
                        self._waiting.extendleft(reversed(group))
            finally:
                self._turn.release()
        with self._changed:
            if self._waiting:
                self._changed.notify()

    def count_open_letters(self) -> dict[tuple[str, str], int]:
        """(feed, reason) to the number of open dead letters in the journal, as any thread may ask."""
        return self._journal.count_dead_letters("open")

    def close(self) -> None:
        """Write what waits, answer everybody and stop; later submissions are refused. May be called twice."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        # A caller of `write_lone` may be in the middle of it, and puts back what another process made it give up.
        with self._turn:
            group = self._taken()
            if group:
                self._commit(group)
                self._count_out(group)

    def _run(self) -> None:
        while self._is_wanted():
            with self._turn:
                group = self._taken()
                if group:
                    self._commit(group)
                    self._count_out(group)

    def _is_wanted(self) -> bool:
        """Waits until there is something to write; False when closed and all is written."""
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            return bool(self._waiting)

    def _count_out(self, group: list[_Submission]) -> None:
        with self._changed:
            self._n_events -= sum(len(submission.entries) for submission in group)
            self._n_bytes -= sum(submission.n_bytes for submission in group)

    def _taken(self) -> list[_Submission]:
        """The submissions of the next commit; none where somebody else took them."""
        with self._changed:
            group: list[_Submission] = []
            n_events = 0
            while self._waiting:
                n_events += len(self._waiting[0].entries)
                if len(group) >= FEWEST_SHARING and n_events > self._max_group_events:
                    break
                group.append(self._waiting.popleft())
            return group

    def _commit(self, group: list[_Submission], *, is_patient: bool = True) -> bool:
        """Write and answer; False, with nothing done, where it may not wait and another process is writing."""
        if self._failure is not None:
            error = WriterFailed("the journal's writer has stopped: end this process", cause=self._failure)
            _fail(group, error)
            return True
        started = time.monotonic()
        parts = [submission.entries for submission in group]
        entries = parts[0] if len(parts) == 1 else JoinedEntries(parts)
        try:
            if is_patient:
                receipts = self._journal.append_events(entries, now=self._clock())
            else:
                with self._journal.not_waiting():
                    receipts = self._journal.append_events(entries, now=self._clock())
            failpoint("group.before_ack")
        except StoreError as error:
            if not is_patient and isinstance(error, JournalOverloaded):
                return False
            if isinstance(error, WriterFailed | DamagedLog | Fenced):
                self._failure = error
            _fail(group, error)
        except OSError as error:
            self._failure = WriterFailed("the journal's writer stopped; end this process", cause=error)
            _fail(group, self._failure)
        except BaseException as error:
            self._commit_one_by_one(group, error)
        else:
            self._is_swift = time.monotonic() - started < SWIFT_SECONDS
            first = 0
            for submission in group:
                end = first + len(submission.entries)
                if submission.future.set_running_or_notify_cancel():
                    submission.future.set_result(receipts[first:end])
                first = end
        return True

    def _commit_one_by_one(self, group: list[_Submission], error: BaseException) -> None:
        """An entry that cannot be written at all fails its own submission and not those it shared a commit with."""
        if len(group) == 1:
            _fail(group, error)
            return
        for submission in group:
            self._commit([submission])


def _fail(group: list[_Submission], error: BaseException) -> None:
    for submission in group:
        if submission.future.set_running_or_notify_cancel():
            submission.future.set_exception(error)
