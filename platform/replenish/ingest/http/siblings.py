"""Processes of one door that help one another: a busy one lets an idle sibling judge and pack whole requests.

Python runs on one core at a time, so one sender with many requests under way would keep one core busy and leave the
others idle. What a sibling does is a pure function of the request: reading rows as one run, their hashes, their
packing. Everything that counts stays where the request came in: proof of the sender, its place in the line, the commit,
the answer. Where a sibling says no, is slow or gone, the asking process judges by itself; nothing depends on help.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from replenish.errors import ReplenishError
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.http.cloud_event import KnownKinds
from replenish.ingest.http.credentials import Sender
from replenish.ingest.http.envelopes import RowReader
from replenish.ingest.http.sibling_messages import Frames, Question, Reply, encode_message, read_question, read_reply
from replenish.stores.event_run import LARGEST_RUN_BYTES, EventRun

SMALLEST_BYTES = 16 << 10
"""Of a body: a smaller one is judged sooner than sent."""
MOST_ASKED = 32
MOST_BYTES_ASKED = 16 << 20
"""Requests of another one that a sibling may have before it, and the bytes of their bodies."""
ANSWER_SECONDS = 1.0
"""A sibling that takes longer is left alone for a while."""
BUSY_SECONDS = 0.5
"""How long a sibling that had requests of its own is not asked again."""
IN_VAIN_SECONDS = 0.2
"""How long nobody is asked about a feed whose last request no sibling could judge."""
GONE_SECONDS = 1.0
"""How long one that could not be reached is not tried again."""


class _Answering(Frames):
    """The side that judges, one request a turn of its loop: its own senders wait for one of them at most."""

    def __init__(self, door: EventDoor, is_idle: Callable[[], bool]) -> None:
        super().__init__()
        self._door, self._is_idle, self._known = door, is_idle, KnownKinds()
        self._asked: deque[tuple[bytes, bytes]] = deque()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._asked.clear()

    def take(self, head: bytes, body: bytes) -> None:
        self._asked.append((head, body))
        if len(self._asked) == 1:
            asyncio.get_running_loop().call_soon(self._answer)

    def _answer(self) -> None:
        if not self._asked:
            return
        try:
            reply = judge(self._door, *self._asked[0], is_idle=self._is_idle(), known=self._known)
        except (msgspec.MsgspecError, ValueError):
            # Of another release, or no sibling at all.
            self.end()
            return
        except BaseException:
            # Nobody is to wait for a reply that does not come.
            self.end()
            raise
        self._asked.popleft()
        self.send(b"", reply)
        if self._asked:
            asyncio.get_running_loop().call_soon(self._answer)


class _Asking(Frames):
    """The side that asks."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[int, tuple[asyncio.Future[EventRun | None], int]] = {}
        self._n_asked = 0
        self.n_bytes_asked = 0
        self.busy_until = 0.0

    @property
    def n_waiting(self) -> int:
        """Questions without a reply."""
        return len(self._waiting)

    def ask(self, question: Question, body: bytes) -> asyncio.Future[EventRun | None]:
        """Holds the run the reply stands for; None where there is none."""
        self._n_asked += 1
        answered: asyncio.Future[EventRun | None] = asyncio.get_running_loop().create_future()
        self._waiting[self._n_asked] = answered, len(body)
        self.n_bytes_asked += len(body)
        self.send(encode_message(msgspec.structs.replace(question, nr=self._n_asked)), body)
        return answered

    def take(self, head: bytes, body: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        try:
            reply = read_reply(body)
            answered, n_bytes = self._waiting.pop(reply.nr)
        except (msgspec.MsgspecError, ValueError, KeyError):
            # Of another release, or no sibling at all.
            self.end()
            return
        self.n_bytes_asked -= n_bytes
        if not reply.is_idle:
            self.busy_until = max(self.busy_until, asyncio.get_running_loop().time() + BUSY_SECONDS)
        if answered.done():
            return
        try:
            answered.set_result(reply.run())
        except (msgspec.MsgspecError, ReplenishError, ValueError):
            answered.set_result(None)
            self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        waiting, self._waiting = self._waiting, {}
        for answered, _ in waiting.values():
            if not answered.done():
                answered.set_result(None)


class Sibling:
    """One sibling by the path of its socket; connected to when it is wanted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._asking: _Asking | None = None
        self._next_try = 0.0
        self._connecting: asyncio.Task[None] | None = None

    @property
    def n_asked(self) -> int:
        """Requests that it has not answered."""
        return self._asking.n_waiting if self._asking is not None else 0

    def may_be_asked(self) -> bool:
        """Whether it is there and, for all we know, idle; otherwise it may be a little later."""
        now = asyncio.get_running_loop().time()
        if self._asking is None or self._asking.transport is None:
            if now >= self._next_try and (self._connecting is None or self._connecting.done()):
                self._next_try = now + GONE_SECONDS
                self._connecting = asyncio.ensure_future(self._connect())
            return False
        has_room = self.n_asked < MOST_ASKED and self._asking.n_bytes_asked < MOST_BYTES_ASKED
        return has_room and now >= self._asking.busy_until

    def ask(self, question: Question, body: bytes) -> asyncio.Future[EventRun | None]:
        """Holds the run once it is judged; None where it is none, or the sibling is slow or gone.

        The caller has just learned that it may be asked.
        """
        loop, asking = asyncio.get_running_loop(), self._asking
        if asking is None or asking.transport is None:
            nobody: asyncio.Future[EventRun | None] = loop.create_future()
            nobody.set_result(None)
            return nobody
        answered = asking.ask(question, body)
        timer = loop.call_later(ANSWER_SECONDS, self._is_late, asking, answered)
        answered.add_done_callback(lambda _: timer.cancel())
        return answered

    def _is_late(self, asking: _Asking, answered: asyncio.Future[EventRun | None]) -> None:
        asking.busy_until = asyncio.get_running_loop().time() + GONE_SECONDS
        if not answered.done():
            answered.set_result(None)

    async def _connect(self) -> None:
        with suppress(OSError):
            _, self._asking = await asyncio.get_running_loop().create_unix_connection(_Asking, str(self._path))


class Siblings:
    """The other processes of this door.

    Args:
        door: Judges what they ask.
        own: Where they reach this process: a socket in a folder that only this user may enter.
        others: Where they are reached.
    """

    def __init__(self, door: EventDoor, own: Path, others: Sequence[Path]) -> None:
        self._door, self._own = door, own
        self._others = [Sibling(path) for path in others]
        self._server: asyncio.AbstractServer | None = None
        self._in_vain_until: dict[str | None, float] = {}
        self.is_idle: Callable[[], bool] = bool
        """Whether this process has no request of its own; it says so with every reply."""

    async def listen(self) -> None:
        """Answer siblings from now on. Where the socket cannot be made, they go on without this process."""
        with suppress(OSError):
            self._server = await asyncio.get_running_loop().create_unix_server(
                lambda: _Answering(self._door, lambda: self.is_idle()), str(self._own)
            )

    def ready_to_judge(self, feed_id: str | None, body: bytes) -> Sibling | None:
        """An idle sibling for a body; None where it is judged sooner here."""
        is_sizable = SMALLEST_BYTES <= len(body) <= LARGEST_RUN_BYTES
        if not is_sizable or asyncio.get_running_loop().time() < self._in_vain_until.get(feed_id, 0.0):
            return None
        ready = [sibling for sibling in self._others if sibling.may_be_asked()]
        return min(ready, key=lambda sibling: sibling.n_asked, default=None)

    def was_in_vain(self, feed_id: str | None) -> None:
        """What came for this feed was no plain run: what comes next most likely is none."""
        self._in_vain_until[feed_id] = asyncio.get_running_loop().time() + IN_VAIN_SECONDS


def judge(door: EventDoor, head: bytes, body: bytes, *, is_idle: bool, known: KnownKinds | None = None) -> bytes:
    """The reply to one question; whatever is not plainly sound its owner reads, and says what is wrong.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError: The question cannot be read.
    """
    asked = read_question(head)
    try:
        reader = RowReader(
            door,
            Sender(asked.grants),
            feed_id=asked.feed_id,
            source=asked.source,
            traceparent=asked.traceparent,
            known=known,
        )
        run = reader.read_run(body, asked.now)
    except (ReplenishError, KeyError):
        # Not this sender's to write; or a feed that this process, started earlier or later, does not have.
        run = None
    if run is None:
        return encode_message(Reply(asked.nr, is_idle))
    packed, like = run.packed(), run.like
    shared = (like.source, like.type, like.subject, like.dataschema, like.traceparent)
    return encode_message(Reply(asked.nr, is_idle, shared, *packed))
