"""Rows as offered events: CloudEvents 1.0 (structured, binary), the same with less around it, and plain rows.

A usual row costs one decode. Whatever is unusual (unknown attributes, a name given twice, a fault) is read again
strictly, so that nothing is accepted that the strict way would refuse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from replenish.errors import EventFault, RequestRefused
from replenish.ingest.cdc.debezium import debezium_events
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import OfferedEvent
from replenish.ingest.http.cloud_event import (
    ATTRIBUTES,
    BAD_ENVELOPE,
    DECODE_ENVELOPE,
    DECODE_OBJECT,
    DECODE_PLAIN,
    JSON_TYPE,
    LONGEST_ID,
    OPERATIONS,
    TYPE_OF,
    VERSIONED,
    Attributes,
    Envelope,
    KnownKinds,
    PlainEnvelope,
    RowKind,
    check_attributes,
    check_name,
    envelope_fault,
    feed_of,
    lenient_identity,
    trace_context,
    without_id,
)
from replenish.ingest.http.credentials import Sender
from replenish.ingest.http.plain_runs import FEWEST_ROWS, first_envelope, line_ends, plain_rows
from replenish.ingest.strict_json import MAX_TEXT_BYTES, strict_object
from replenish.stores.event_run import LONGEST_RUN, EventRun
from replenish.stores.journal_entry import EVENT_UPSERT, EventEntry
from replenish.stores.packed_bodies import BodyPacker

_encode = msgspec.json.Encoder().encode


class RowReader:
    """Reads the rows of one request.

    Args:
        door: Knows the feeds and makes dead letters.
        sender: Whose events these may be.
        feed_id: The feed of the route; None where each event has to name its own in `subject`.
        source: What rows without a source are filed under.
        traceparent: Trace context of the request, for rows without one of their own.
        known: What requests before have shown.
    """

    def __init__(
        self,
        door: EventDoor,
        sender: Sender,
        *,
        feed_id: str | None,
        source: str,
        traceparent: str | None = None,
        known: KnownKinds | None = None,
    ) -> None:
        self._door = door
        self._sender = sender
        self._feed_id = feed_id
        self._source = source
        self._known = KnownKinds() if known is None else known
        self._kinds: dict[Attributes, RowKind] = {}
        """Those that the sender may write."""
        self._traceparent = trace_context(traceparent)
        self._n_rows = 1

    def read(self, rows: Sequence[bytes], first_nr: int, n_rows: int, now: datetime) -> list[OfferedEvent | EventEntry]:
        """One event or dead entry a row, in order. `first_nr` counts from 1, `n_rows` is the whole request's.

        Raises:
            RequestRefused: 403, a row that is not this sender's to write: nothing of the request may be used.
        """
        self._n_rows = n_rows
        # A row longer than a text may be is cut off there: it is for the strict reader, which counts before it builds.
        decode, kinds = DECODE_PLAIN, self._kinds
        events: list[OfferedEvent | EventEntry] = []
        for nr, row in enumerate(rows, first_nr):
            try:
                e = decode(row[: MAX_TEXT_BYTES + 1])
                entry = self._sound(e, kinds[e.specversion, e.type, e.subject, e.source], row, now)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, EventFault):
                entry = None
            events.append(self._read_strictly(row, nr) if entry is None else entry)
        return events

    def read_run(self, body: bytes, now: datetime, packer: BodyPacker | None = None) -> EventRun | None:
        """Rows with their line ends as one run of accepted events, packed meanwhile; None: read them one by one.

        Raises:
            RequestRefused: 403, the rows are not this sender's to write: nothing of the request may be used.
        """
        is_run = FEWEST_ROWS <= body.count(b"\n") <= LONGEST_RUN and body.endswith(b"\n")
        ends = line_ends(body) if is_run else []
        first = first_envelope(body[: ends[0]]) if is_run else None
        kind = None if first is None else self._run_kind(first.envelope)
        if first is None or kind is None or kind.shape is None:
            return None
        plain = plain_rows(body, ends, first.fields, kind.shape, now, packer)
        shared = (kind.source, "", TYPE_OF[kind.op], kind.feed_id, kind.dataschema, b"", self._traceparent)
        return None if plain is None else EventRun(EventEntry(*shared), *plain)

    def _run_kind(self, e: Envelope) -> RowKind | None:
        attributes = (e.specversion, e.type, e.subject, e.source)
        kind = self._known.find(self._feed_id, self._source, attributes)
        if kind is not None:
            self._permit(kind.source, kind.feed_id)
            return kind
        # The strict reading of one row says whether its kind may be sent at all, and keeps it.
        self._checked(msgspec.structs.replace(e, id="1"), b"{}", b"", 1)
        return self._kinds.get(attributes)

    def _sound(self, e: PlainEnvelope, kind: RowKind, row: bytes, now: datetime) -> EventEntry | None:
        """The entry of a usual row; None where anything about it has to be looked at more closely.

        Its data, written again, gives the same bytes: so no name stands there twice, no number was rounded, and there
        is nothing between the values. No backslash: so no control characters and no half characters.
        """
        id_ = e.id
        if e.data is msgspec.UNSET:
            return None
        body = _encode(e.data)
        head = len(row) - len(body) - 1
        n_quotes = kind.n_quotes
        if e.traceparent is not None or e.time is not None:
            n_quotes += 4 * ((e.traceparent is not None) + (e.time is not None))
        if (
            kind.shape is None
            or id_ is None
            or not 0 < len(id_) <= LONGEST_ID
            or not id_.isprintable()
            or e.datacontenttype is not None
            or e.dataschema is not None
            or not row.startswith(body, head)
            or row.count(b'"', 0, head) != n_quotes
            or b"\\" in row
            or b"\x7f" in row
            or len(row) > MAX_TEXT_BYTES
        ):
            return None
        kind.shape.read(e.data, now)  # type: ignore[arg-type]
        trace = self._traceparent if e.traceparent is None else trace_context(e.traceparent)
        return EventEntry(kind.source, id_, TYPE_OF[kind.op], kind.feed_id, kind.dataschema, body, trace)

    def read_binary(self, attributes: Mapping[str, str], body: bytes) -> OfferedEvent | EventEntry:
        """The event whose attributes came as `ce-` headers (names without it) and whose data is the body."""
        try:
            given = {name: value for name, value in attributes.items() if name in ATTRIBUTES - {"data"}}
            envelope = msgspec.convert(given, Envelope, strict=False)
        except msgspec.ValidationError as error:
            return self._dead(body, 1, BAD_ENVELOPE, "ce-", str(error), attributes.get("id"), attributes.get("source"))
        return self._checked(envelope, body, body, 1)

    def read_changes(self, rows: Sequence[bytes]) -> list[OfferedEvent | EventEntry]:
        """The events of Debezium messages, one a row; a tombstone gives none.

        Raises:
            RequestRefused: 403, the feed is not this sender's to write.
        """
        feed_id = str(self._feed_id)
        self._permit(self._source, feed_id)
        events: list[OfferedEvent | EventEntry] = []
        for nr, row in enumerate(rows, 1):
            # Where the connector tells no position, the message itself is what makes it the same one again.
            offset = f"sha256:{hashlib.sha256(row).hexdigest()}"
            try:
                events += debezium_events(row, None, source=self._source, feed_id=feed_id, offset=offset)
            except EventFault as fault:
                events.append(self._dead(row, nr, fault.reason, fault.field, fault.rule, None, None))
        return events

    def unreadable(self, raw: bytes, reason: str, rule: str) -> EventEntry:
        """A whole body that no row could be read from."""
        return self._dead(raw, None, reason, None, rule, None, None)

    def _read_strictly(self, row: bytes, nr: int) -> OfferedEvent | EventEntry:
        try:
            strict_object(row)
            fields = DECODE_OBJECT(row)
            if self._feed_id is not None and not ({"data", "specversion", "data_base64"} & fields.keys()):
                return self._plain(fields, row, nr)
            check_attributes(fields)
            return self._checked(DECODE_ENVELOPE(row), bytes(fields.get("data", b"")), row, nr)
        except EventFault as fault:
            reason, field, rule = fault.reason, fault.field, fault.rule
        except msgspec.ValidationError as error:
            reason, field, rule = BAD_ENVELOPE, None, str(error)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            reason, field, rule = "not_json", None, str(error)
        id_, source = lenient_identity(row)
        return self._dead(row, nr, reason, field, rule, id_, source)

    def _checked(self, e: Envelope, body: bytes, row: bytes, nr: int) -> OfferedEvent | EventEntry:
        """The event of an envelope whose every attribute is looked at."""
        try:
            if self._feed_id is None and e.specversion is None:
                raise envelope_fault("specversion", "is missing")
            if e.specversion not in (None, "1.0"):
                raise EventFault("unsupported_version", "must be 1.0", field="specversion")
            check_name("id", e.id)
            source = e.source if e.source is not None else self._source
            if e.source is None and e.specversion is not None:
                raise envelope_fault("source", "is missing")
            check_name("source", source)
            if e.datacontenttype is not None and not JSON_TYPE.fullmatch(e.datacontenttype):
                raise envelope_fault("datacontenttype", "must be application/json")
            if not body:
                raise envelope_fault("data", "is missing")
            kind = self._kind(e, source)
        except EventFault as fault:
            return self._dead(row, nr, fault.reason, fault.field, fault.rule, e.id, e.source)
        return OfferedEvent(
            kind.source,
            str(e.id),
            kind.feed_id,
            kind.op,
            body,
            trace_context(e.traceparent) or self._traceparent,
            _offset(nr),
            e.dataschema if e.dataschema is not None and VERSIONED.fullmatch(e.dataschema) else None,
        )

    def _kind(self, e: Envelope, source: str) -> RowKind:
        if e.type is None and self._feed_id is None:
            raise envelope_fault("type", "is missing")
        op = OPERATIONS.get(e.type or EVENT_UPSERT)
        if op is None:
            raise envelope_fault("type", f"must be one of {', '.join(OPERATIONS)}")
        feed_id = feed_of(self._door.feeds, e.subject, self._feed_id)
        self._permit(source, feed_id)
        attributes = (e.specversion, e.type, e.subject, e.source)
        dataschema, shape = self._door.contract_shape(feed_id, op) or ("", None)
        n_quotes = 4 * (sum(value is not None for value in attributes) + 1) + 2
        kind = RowKind(feed_id, source, op, dataschema, shape, n_quotes)
        self._kinds[attributes] = kind
        self._known.keep(self._feed_id, self._source, attributes, kind)
        return kind

    def _plain(self, fields: dict[str, msgspec.Raw], row: bytes, nr: int) -> OfferedEvent | EventEntry:
        """A row of the contract's own fields, beside them `id`, which is taken out unless the feed reads one."""
        feed_id = str(self._feed_id)
        self._permit(self._source, feed_id)
        id_ = msgspec.json.decode(fields["id"], type=str) if "id" in fields else self._webhook_row_id(nr)
        try:
            check_name("id", id_)
        except EventFault as fault:
            return self._dead(row, nr, fault.reason, fault.field, fault.rule, id_, None)
        reads_id = any(rule.column == "id" for rule in self._door.feeds[feed_id].columns.values())
        body = without_id(fields) if "id" in fields and not reads_id else row
        return OfferedEvent(self._source, str(id_), feed_id, "upsert", body, self._traceparent, _offset(nr))

    def _webhook_row_id(self, nr: int) -> str | None:
        webhook_id = self._sender.webhook_id
        return webhook_id if webhook_id is None or self._n_rows == 1 else f"{webhook_id}/{nr}"

    def _permit(self, source: str, feed_id: str) -> None:
        if not self._sender.may_write(source, feed_id):
            raise RequestRefused(403, "not_yours", "this sender may not write that", source=source, feed=feed_id)

    def _dead(
        self,
        raw: bytes,
        nr: int | None,
        reason: str,
        field: str | None,
        rule: str | None,
        id_: str | None,
        source: str | None,
    ) -> EventEntry:
        """The dead entry of a row; under its own id where it has one, else under its digest."""
        feed_id = self._feed_id or "http"
        usable = isinstance(id_, str) and 0 < len(id_) <= LONGEST_ID and id_.isprintable()
        name = str(id_) if usable else f"sha256:{hashlib.sha256(raw).hexdigest()}"
        owner = self._source
        if source is not None and 0 < len(source) <= LONGEST_ID and source.isprintable():
            # Whose letter it is must be proven as for an accepted event.
            grants = self._sender.grants
            owner = source if grants is None or source in grants else self._source
        return self._door.dead(owner, name, feed_id, raw, reason, field, rule, _offset(nr))


def _offset(nr: int | None) -> str:
    return "request body" if nr is None else f"request row {nr}"
