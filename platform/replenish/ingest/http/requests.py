"""One request from its first header to its answer: proven, read within limits, judged, committed, told."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, unquote

from replenish.errors import JournalOverloaded, RequestRefused, StoreError, StoreFull
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import OfferedEvent
from replenish.ingest.http.answers import HttpAnswer, answer_of, problem, refusal, request_verdict
from replenish.ingest.http.credentials import Credentials, Sender
from replenish.ingest.http.envelopes import RowReader
from replenish.ingest.http.limits import ClientGone, HttpLimits, InFlightBytes, Receive, decoded_body, read_raw_body
from replenish.ingest.http.metrics import DoorMetrics
from replenish.ingest.http.request_rows import layout_of, media_type_of, split_rows
from replenish.stores.event_run import LONGEST_RUN, EventRun, JoinedEntries
from replenish.stores.failpoints import failpoint
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal_entry import EventEntry, Receipt
from replenish.stores.packed_bodies import BodyPacker

Scope = MutableMapping[str, Any]
Read = list[OfferedEvent | EventEntry] | EventRun
"""Rows of one submission: each an event or a dead entry, or all of them a run."""
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

ROWS_PER_SUBMISSION = LONGEST_RUN
"""A greater request goes to the journal in pieces: while one is committed, the next is judged."""
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
        try:
            answer = await self._guarded(_Request(self, scope, feed_id, holds_changes), receive)
        except ClientGone:
            self.metrics.count_gone()
            return
        failpoint("http.before_answer")
        await send_answer(send, answer)
        self.metrics.count_request(route, answer.status, time.perf_counter() - started)

    def submit(self, piece: Sequence[EventEntry], *, is_whole: bool) -> asyncio.Future[list[Receipt]]:
        """Hand rows to the journal; who else is ready by now shares the commit.

        Args:
            piece: Judged rows.
            is_whole: They are the whole request: until they are written there is nothing else to do for it.

        Raises:
            JournalOverloaded: Too much waits already; nothing was taken.
        """
        receipts = asyncio.wrap_future(self.group.submit(piece, is_waking=not is_whole))
        if is_whole:
            asyncio.get_running_loop().call_soon(self.group.write_lone)
        return receipts

    async def _guarded(self, request: _Request, receive: Receive) -> HttpAnswer:
        try:
            answer = await request.answer(receive)
        except RequestRefused as refused:
            seq = None
            if refused.status == 400 and request.reader is not None:
                seq = await self._keep(request.reader, request.raw, refused)
            answer = refusal(refused, seq=seq)
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
        if answer.status in RETRY_AFTER_SECONDS:
            headers = (*headers, (b"retry-after", b"%d" % RETRY_AFTER_SECONDS[answer.status]))
        return answer._replace(headers=headers)

    async def _keep(self, reader: RowReader, raw: bytes, refused: RequestRefused) -> int | None:
        """A body that no row could be read from, as a dead letter; its place in the log."""
        reason = "not_json" if refused.code == "not_json" else "bad_envelope"
        entry = reader.unreadable(raw[:LONGEST_KEPT_BODY], reason, str(refused))
        receipts = await asyncio.wrap_future(self.group.submit([entry]))
        self.metrics.count_events([entry], receipts)
        return receipts[0].seq


class _Request:
    """The state of one request while it is read and judged."""

    def __init__(self, door: RequestDoor, scope: Scope, feed_id: str | None, holds_changes: bool) -> None:
        self._door = door
        self._holds_changes = holds_changes
        self._feed_id = feed_id
        self._headers = _headers_of(scope)
        self._query = scope.get("query_string", b"")
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
            body = await decoded_body(raw, headers.get("content-encoding", "").lower(), door.limits)
            if body is not raw:
                door.room.take(len(body))
                held += len(body)
                self.raw = body
            if ("ce-specversion" in headers or "ce-id" in headers) and media_type == "application/json":
                event = reader.read_binary(_binary_attributes(headers), body)
                return await self._settle([event], is_single=True)
            now = door.clock()
            is_tried = layout == "lines" and not self._holds_changes
            # Where others are at work, another thread would only take the processor from them.
            is_alone = door.room.held == held and door.group.pending_events == 0
            run = reader.read_run(body, now, door.packer if is_alone else None) if is_tried else None
            if run is not None:
                return await self._settle(run, is_single=False)
            rows = split_rows(body, layout, door.limits.rows)
            if self._holds_changes:
                changes = reader.read_changes(rows)
                starts = range(0, len(changes), ROWS_PER_SUBMISSION)
                some = (changes[start : start + ROWS_PER_SUBMISSION] for start in starts)
                return await self._settle(*some, is_single=len(rows) == 1)
            pieces = await _read_rows(
                reader, rows, now, is_tried=layout == "lines" and len(rows) <= ROWS_PER_SUBMISSION
            )
            is_single = len(rows) == 1 and (layout == "single" or (layout == "any" and body.lstrip()[:1] != b"["))
            return await self._settle(*pieces, is_single=is_single)
        finally:
            door.room.give_back(held)

    def _reader(self, sender: Sender) -> RowReader:
        named = parse_qs(self._query.decode("latin-1")).get("source", [])
        source = named[0] if named and sender.grants is None else sender.default_source or DEFAULT_SOURCE
        traceparent = self._headers.get("traceparent")
        return RowReader(self._door.door, sender, feed_id=self._feed_id, source=source, traceparent=traceparent)

    async def _settle(self, *pieces: Read, is_single: bool) -> HttpAnswer:
        entries, receipts = await self._commit(pieces)
        ids = [id_ for piece in pieces for id_ in _offered_ids(piece)]
        is_minimal = "return=minimal" in self._headers.get("prefer", "")
        verdict = request_verdict(ids, entries, receipts, is_minimal=is_minimal and not is_single)
        self._door.metrics.count_events(entries, receipts)
        answer = answer_of(verdict, is_single=is_single)
        return answer._replace(headers=((b"preference-applied", b"return=minimal"),)) if is_minimal else answer

    async def _commit(self, pieces: Sequence[Read]) -> tuple[Sequence[EventEntry], list[Receipt]]:
        """Judge and submit in pieces, one piece ahead of the journal at most."""
        entries: list[Sequence[EventEntry]] = []
        receipts: list[Receipt] = []
        waiting = None
        for read in pieces:
            piece = read if isinstance(read, EventRun) else self._judged(read)
            entries.append(piece)
            failpoint("http.judged")
            try:
                submitted = self._door.submit(piece, is_whole=len(pieces) == 1)
            except JournalOverloaded:
                # It may be this request's own piece that fills the queue: once that is through, try again.
                if waiting is None:
                    raise
                receipts += await waiting
                waiting = None
                submitted = self._door.submit(piece, is_whole=len(pieces) == 1)
            if waiting is not None:
                receipts += await waiting
            waiting = submitted
        if waiting is not None:
            receipts += await waiting
        return entries[0] if len(entries) == 1 else JoinedEntries(entries), receipts

    def _judged(self, events: list[OfferedEvent | EventEntry]) -> list[EventEntry]:
        offered = [e for e in events if type(e) is OfferedEvent]
        if not offered:
            return events  # type: ignore[return-value]
        judged = self._door.door.judge(offered)
        remaining = iter(judged)
        return [next(remaining) if type(e) is OfferedEvent else e for e in events]  # type: ignore[misc]


async def send_answer(send: Send, answer: HttpAnswer) -> None:
    """Write one answer."""
    headers = [(b"content-type", answer.media_type), (b"content-length", b"%d" % len(answer.body)), *answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _read_rows(reader: RowReader, rows: list[bytes], now: datetime, *, is_tried: bool) -> list[Read]:
    """The rows in pieces of one submission; between them other requests get their turn.

    Args:
        is_tried: The body was looked at as one run before, and is none.
    """
    pieces: list[Read] = []
    for start in range(0, len(rows), ROWS_PER_SUBMISSION):
        some = rows if len(rows) <= ROWS_PER_SUBMISSION else rows[start : start + ROWS_PER_SUBMISSION]
        run = None if is_tried else reader.read_run(b"\n".join([*some, b""]), now)
        pieces.append(reader.read(some, start + 1, len(rows), now) if run is None else run)
        if len(some) < len(rows):
            await asyncio.sleep(0)
    return pieces


def _offered_ids(events: Read) -> list[str]:
    if isinstance(events, EventRun):
        return events.ids
    return [e.id if type(e) is OfferedEvent or e.letter is None else e.id.rpartition("#")[0] for e in events]  # type: ignore[union-attr]


def _headers_of(scope: Scope) -> dict[str, str]:
    """Headers by lower-case name; one given twice is joined by a comma, which no credential or id survives."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    return headers


def _binary_attributes(headers: Mapping[str, str]) -> dict[str, str]:
    """The `ce-` headers without it, percent-decoded as the HTTP binding of CloudEvents has them."""
    attributes = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    return {**attributes, "datacontenttype": headers["content-type"]}
