"""One request from its first header to its answer: proven, read within limits, judged, committed, told."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any

from replenish.errors import JournalOverloaded, RequestRefused, StoreError, StoreFull
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import OfferedEvent
from replenish.ingest.http.answers import HttpAnswer, Send, answer_of, problem, refusal, request_verdict, send_answer
from replenish.ingest.http.cloud_event import KnownKinds
from replenish.ingest.http.credentials import Credentials, Sender
from replenish.ingest.http.envelopes import RowReader
from replenish.ingest.http.limits import ClientGone, HttpLimits, InFlightBytes, Receive, decoded_body, read_raw_body
from replenish.ingest.http.metrics import DoorMetrics
from replenish.ingest.http.request_headers import binary_attributes, headers_of, named_source
from replenish.ingest.http.request_pieces import ROWS_PER_SUBMISSION, Read, offered_ids, read_pieces
from replenish.ingest.http.request_rows import layout_of, media_type_of, split_rows
from replenish.ingest.http.siblings import Question, Siblings
from replenish.ingest.http.turn import turn_of
from replenish.stores.event_run import EventRun, JoinedEntries, pack_runs
from replenish.stores.failpoints import failpoint
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal_entry import EventEntry, Receipt
from replenish.stores.packed_bodies import BodyPacker

Scope = MutableMapping[str, Any]

DEFAULT_SOURCE = "http"
RETRY_AFTER_SECONDS = {408: 1, 429: 1, 503: 10, 507: 30}
LONGEST_KEPT_BODY = 1 << 20
"""Bytes of an unreadable body that its dead letter keeps."""


@dataclass(frozen=True)
class RequestDoor:
    """What every request needs; one per process."""

    door: EventDoor
    group: GroupCommit
    credentials: Credentials
    limits: HttpLimits
    room: InFlightBytes
    metrics: DoorMetrics
    clock: Callable[[], datetime]
    on_writer_failed: Callable[[], None]
    packer: BodyPacker = field(default_factory=BodyPacker)
    known: KnownKinds = field(default_factory=KnownKinds)
    siblings: Siblings | None = None
    """Other processes of this door that may help."""

    async def serve(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        route: str,
        feed_id: str | None,
        holds_changes: bool = False,
    ) -> None:
        """Answer one POST; whatever happens, nothing is acknowledged that is not committed.

        Args:
            route: Its name in the metrics.
            feed_id: The feed of the address; None where each event names its own.
            holds_changes: The rows are Debezium messages.
        """
        started = time.perf_counter()
        request = _Request(self, scope, feed_id, holds_changes)
        try:
            answer = await self._guarded(request, receive)
        except ClientGone:
            self.metrics.count_gone()
            return
        finally:
            request.turn.hand_over()
            request.forget()
        failpoint("http.before_answer")
        await send_answer(send, answer)
        self.metrics.count_request(route, answer.status, time.perf_counter() - started)

    def submit(self, piece: Sequence[EventEntry], *, is_lone: bool) -> asyncio.Future[Sequence[Receipt]]:
        """Hand rows to the journal; who else is ready by now shares the commit.

        Args:
            piece: Judged rows.
            is_lone: Until they are written there is nothing else to do for their sender.

        Raises:
            JournalOverloaded: Too much waits already; nothing was taken.
        """
        receipts = asyncio.wrap_future(self.group.submit(piece, is_waking=not is_lone))
        if is_lone:
            asyncio.get_running_loop().call_soon(self.group.write_lone)
        return receipts

    async def _guarded(self, request: _Request, receive: Receive) -> HttpAnswer:
        try:
            answer = await self._answered_or_kept(request, receive)
        except JournalOverloaded:
            answer = problem(429, "overloaded", "the journal has no room at this moment; send the same events again")
        except StoreFull:
            answer = problem(507, "disk_full", "the disk is full; events that got no verdict are to be sent again")
        except StoreError:
            # Failed for good, fenced off or damaged: not a matter of trying again in this process.
            answer = problem(503, "writer_failed", "the journal cannot be written; the door closes")
            self.on_writer_failed()
        except OSError as error:
            status, title = (507, "disk_full") if error.errno == errno.ENOSPC else (503, "not_written")
            answer = problem(status, title, "the journal could not be written; send the same events again")
        headers = answer.headers
        if not request.is_read:
            # What is left of the body would be taken for the next request.
            headers = (*headers, (b"connection", b"close"))
            request.turn.end_line()
        if answer.status in RETRY_AFTER_SECONDS:
            headers = (*headers, (b"retry-after", b"%d" % RETRY_AFTER_SECONDS[answer.status]))
        return answer._replace(headers=headers)

    async def _answered_or_kept(self, request: _Request, receive: Receive) -> HttpAnswer:
        """A refused body that no row could be read from is kept as a dead letter."""
        try:
            return await request.answer(receive)
        except RequestRefused as refused:
            if refused.status != 400 or request.reader is None:
                return refusal(refused)
            reason = "not_json" if refused.code == "not_json" else "bad_envelope"
            letter = request.reader.unreadable(request.raw[:LONGEST_KEPT_BODY], reason, str(refused))
            _, receipts = await request.commit([[letter]])
            self.metrics.count_events([letter], receipts)
            return refusal(refused, seq=receipts[0].seq)


class _Request:
    """The state of one request while it is read and judged."""

    def __init__(self, door: RequestDoor, scope: Scope, feed_id: str | None, holds_changes: bool) -> None:
        self._door = door
        self._holds_changes = holds_changes
        self._feed_id = feed_id
        self._headers = headers_of(scope)
        self._query = scope.get("query_string", b"")
        self.turn = turn_of(scope)
        self.reader: RowReader | None = None
        """Set once the sender is proven: from then on an unreadable body is kept."""
        self.raw = b""
        self.is_read = False

    async def answer(self, receive: Receive) -> HttpAnswer:
        door, headers = self._door, self._headers
        sender = door.credentials.sender_by_headers(headers)
        media_type = media_type_of(headers.get("content-type", ""))
        layout = layout_of(media_type)
        declared = headers.get("content-length", "")
        raw = await read_raw_body(receive, int(declared) if declared.isdigit() else None, door.limits, door.room)
        held = len(raw)
        self.raw, self.is_read = raw, True
        try:
            failpoint("http.received")
            sender = sender or door.credentials.sender_by_signature(headers, raw)
            self.reader = reader = self._reader(sender)
            self.raw = body = await self._decoded(raw)
            held += len(body) if body is not raw else 0
            if ("ce-specversion" in headers or "ce-id" in headers) and media_type == "application/json":
                event = reader.read_binary(binary_attributes(headers), body)
                return await self._settle([event], is_single=True)
            now = door.clock()
            is_tried = layout == "lines" and not self._holds_changes
            # Where others are at work, another thread would only take the processor from them.
            is_alone = door.room.held == held and door.group.pending_events == 0 and self.turn.is_lone()
            run = await self._judged_by_sibling(sender, body, now) if is_tried and not is_alone else None
            if run is None and is_tried:
                run = reader.read_run(body, now, door.packer if is_alone else None)
            if run is not None:
                return await self._settle(run, is_single=False)
            rows = split_rows(body, layout, door.limits.rows)
            if self._holds_changes:
                changes = reader.read_changes(rows)
                starts = range(0, len(changes), ROWS_PER_SUBMISSION)
                some = (changes[start : start + ROWS_PER_SUBMISSION] for start in starts)
                return await self._settle(*some, is_single=len(rows) == 1)
            pieces = await read_pieces(
                reader, rows, now, is_tried=layout == "lines" and len(rows) <= ROWS_PER_SUBMISSION
            )
            is_single = len(rows) == 1 and (layout == "single" or (layout == "any" and body.lstrip()[:1] != b"["))
            return await self._settle(*pieces, is_single=is_single)
        finally:
            door.room.give_back(held)

    def forget(self) -> None:
        """It is answered: while a slow reader takes the answer, nothing of the body is held."""
        self.raw, self.reader = b"", None

    async def _decoded(self, raw: bytes) -> bytes:
        """The body after its content encoding; if that is another one, room is taken for it."""
        door, encoding = self._door, self._headers.get("content-encoding", "").lower()
        body = await decoded_body(raw, encoding, door.limits)
        if body is raw:
            return raw
        try:
            door.room.take(len(body))
        except RequestRefused:
            # It may be the requests before it on its own connection that take the room.
            del body
            if not await self.turn.come_first():
                raise
            body = await decoded_body(raw, encoding, door.limits)
            door.room.take(len(body))
        return body

    async def _judged_by_sibling(self, sender: Sender, body: bytes, now: datetime) -> EventRun | None:
        """What an idle sibling makes of the rows, the next request of the connection being read meanwhile."""
        siblings = self._door.siblings
        sibling = None if siblings is None else siblings.ready_to_judge(self._feed_id, body)
        if siblings is None or sibling is None:
            return None
        question = Question(self._feed_id, self._source(sender), self._headers.get("traceparent"), now, sender.grants)
        judged = sibling.ask(question, body)
        self.turn.let_next_begin()
        run = await judged
        # What it says is looked at as far as that is cheap.
        if run is None or not sender.may_write(run.like.source, run.like.subject) or not run.n_bytes < len(body):
            siblings.was_in_vain(self._feed_id)
            return None
        self._door.metrics.count_helped()
        return run

    def _source(self, sender: Sender) -> str:
        """What rows without a source are filed under."""
        named = named_source(self._query) if sender.grants is None else None
        return named or sender.default_source or DEFAULT_SOURCE

    def _reader(self, sender: Sender) -> RowReader:
        source, traceparent = self._source(sender), self._headers.get("traceparent")
        door = self._door
        return RowReader(
            door.door, sender, feed_id=self._feed_id, source=source, traceparent=traceparent, known=door.known
        )

    async def _settle(self, *pieces: Read, is_single: bool) -> HttpAnswer:
        entries, receipts = await self.commit(pieces)
        ids = [id_ for piece in pieces for id_ in offered_ids(piece)]
        is_minimal = "return=minimal" in self._headers.get("prefer", "")
        verdict = request_verdict(ids, entries, receipts, is_minimal=is_minimal and not is_single)
        self._door.metrics.count_events(entries, receipts)
        answer = answer_of(verdict, is_single=is_single)
        return answer._replace(headers=((b"preference-applied", b"return=minimal"),)) if is_minimal else answer

    async def commit(self, pieces: Sequence[Read]) -> tuple[Sequence[EventEntry], Sequence[Receipt]]:
        """Judge and submit in pieces, one piece ahead of the journal at most."""
        entries: list[Sequence[EventEntry]] = []
        receipts: list[Sequence[Receipt]] = []
        waiting = None
        is_lone = len(pieces) == 1 and self.turn.is_lone()
        await self.turn.come_up()
        for read in pieces:
            piece = read if isinstance(read, EventRun) else self._judged(read)
            entries.append(piece)
            failpoint("http.judged")
            # While the journal's thread waits for the disk; it would have to wait for Python's lock behind us.
            pack_runs(piece)
            try:
                submitted = self._door.submit(piece, is_lone=is_lone)
            except JournalOverloaded:
                # It may be this request, or those before it, that fill the queue: once they are through, try again.
                if waiting is not None:
                    receipts.append(await waiting)
                    waiting = None
                elif not await self.turn.come_first():
                    raise
                submitted = self._door.submit(piece, is_lone=is_lone)
            if waiting is not None:
                receipts.append(await waiting)
            waiting = submitted
        self.turn.hand_over()
        if waiting is not None:
            receipts.append(await waiting)
        if len(entries) == 1:
            return entries[0], receipts[0]
        return JoinedEntries(entries), list(chain.from_iterable(receipts))

    def _judged(self, events: list[OfferedEvent | EventEntry]) -> list[EventEntry]:
        offered = [e for e in events if type(e) is OfferedEvent]
        if not offered:
            return events  # type: ignore[return-value]
        judged = self._door.door.judge(offered)
        remaining = iter(judged)
        return [next(remaining) if type(e) is OfferedEvent else e for e in events]  # type: ignore[misc]
