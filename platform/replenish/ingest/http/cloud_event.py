"""CloudEvents 1.0 envelopes: their attributes, what each must be, and the decoders that read them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec

from replenish.contracts.event_struct import EventStruct
from replenish.errors import EventFault
from replenish.ingest.events.offered_event import EventOperation
from replenish.ingest.reasons import UNKNOWN_FEED
from replenish.ingest.strict_json import MAX_TEXT_BYTES
from replenish.stores.journal_entry import EVENT_DELETE, EVENT_UPSERT

OPERATIONS: dict[str, EventOperation] = {EVENT_UPSERT: "upsert", EVENT_DELETE: "delete"}
LONGEST_ID = 512
"""Characters of an id or a source: identities are kept for ever and are looked up with every event."""
BAD_ENVELOPE = "bad_envelope"

_ATTRIBUTE = re.compile(r"[a-z0-9]{1,64}")
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
VERSIONED = re.compile(r"[a-z0-9_]+@[0-9.]+")
JSON_TYPE = re.compile(r"application/([\w.+-]+\+)?json(\s*;.*)?", re.IGNORECASE)


Whole64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Envelope(msgspec.Struct):
    """Attributes of one CloudEvent; None where not given."""

    id: str | None = None
    source: str | None = None
    specversion: str | None = None
    type: str | None = None
    subject: str | None = None
    time: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    traceparent: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"")


class PlainEnvelope(Envelope):
    """The same around data without nested values, in one pass."""

    data: dict[str, Whole64 | float | str | bool | None] | msgspec.UnsetType = msgspec.UNSET  # type: ignore[assignment]


class _Named(msgspec.Struct):
    id: str | None = None
    source: str | None = None


_DECODE_NAMED = msgspec.json.Decoder(_Named).decode
ATTRIBUTES = frozenset(Envelope.__struct_fields__)
DECODE_ENVELOPE = msgspec.json.Decoder(Envelope).decode
DECODE_PLAIN = msgspec.json.Decoder(PlainEnvelope).decode
TYPE_OF = {op: kind for kind, op in OPERATIONS.items()}
DECODE_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class RowKind(NamedTuple):
    """What rows with the same source, type and subject have in common."""

    feed_id: str
    source: str
    op: EventOperation
    dataschema: str
    shape: EventStruct | None
    """How contract-shaped data is checked; None for declared feeds, whose rows are judged together."""
    n_quotes: int
    """Quotation marks of the four attributes, the id and the name `data`: with these alone no name is given twice."""


MOST_KNOWN_KINDS = 1_024
Attributes = tuple[str | None, str | None, str | None, str | None]
"""`specversion`, `type`, `subject` and `source` of a row."""


class KnownKinds:
    """Kinds that rows had before, by the feed and source of their request: looked at closely once, not at each request.

    Whether a sender may write such rows is not told here.
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[str | None, str, Attributes], RowKind] = {}

    def find(self, feed_id: str | None, source: str, attributes: Attributes) -> RowKind | None:
        """The kind, where it was kept."""
        return self._kinds.get((feed_id, source, attributes))

    def keep(self, feed_id: str | None, source: str, attributes: Attributes, kind: RowKind) -> None:
        """Keep a kind whose attributes are all sound."""
        if len(self._kinds) >= MOST_KNOWN_KINDS:
            self._kinds.clear()
        self._kinds[feed_id, source, attributes] = kind


def check_attributes(fields: Mapping[str, msgspec.Raw]) -> None:
    """Refuse attributes that CloudEvents do not have: other names, nested values, data in base64.

    Raises:
        EventFault: `bad_envelope`.
    """
    for name, value in fields.items():
        if name == "data_base64":
            raise envelope_fault(name, "is not taken: send the event's fields as a JSON object in data")
        if name not in ATTRIBUTES and (not _ATTRIBUTE.fullmatch(name) or bytes(value)[:1] in (b"{", b"[")):
            raise envelope_fault(name[:64], "is no attribute: lower-case letters and digits, with a simple value")


ROW_SHAPE = (
    ': a row is {"id": "till-7/1", "data": {...the fields...}}, or the fields with an "id" of the sender\'s among them'
)
"""What a sender has to know who sent a row without an id."""


def check_name(field: str, value: str | None) -> None:
    """Refuse an id or a source that is missing, too long or holds what cannot be printed.

    Raises:
        EventFault: `bad_envelope`.
    """
    if not value:
        raise envelope_fault(field, f"is missing{ROW_SHAPE if field == 'id' else ''}")
    if len(value) > LONGEST_ID or not value.isprintable():
        raise envelope_fault(field, f"must be at most {LONGEST_ID} printable characters")


def envelope_fault(field: str, rule: str) -> EventFault:
    """The fault of one attribute, to be raised by the caller."""
    return EventFault(BAD_ENVELOPE, rule, field=field)


def feed_of(feeds: Collection[str], subject: str | None, named: str | None) -> str:
    """The feed of a row.

    Args:
        feeds: All that take single events.
        subject: What the row says.
        named: What the address of its request says.

    Raises:
        EventFault: `bad_envelope`, `unknown_feed`.
    """
    if subject is None:
        if named is None:
            raise envelope_fault("subject", f"must name the feed, one of {', '.join(feeds)}")
        return named
    for feed_id in (subject, f"events.{subject}"):
        if feed_id in feeds:
            if named not in (None, feed_id):
                raise envelope_fault("subject", f"names another feed than the address, which says {named}")
            return feed_id
    raise EventFault(UNKNOWN_FEED, f"must name a feed, one of {', '.join(feeds)}", field="subject")


def trace_context(traceparent: str | None) -> str | None:
    """The W3C trace context where it is one, else None."""
    return traceparent if traceparent is not None and _TRACEPARENT.fullmatch(traceparent) else None


def lenient_identity(row: bytes) -> tuple[str | None, str | None]:
    """Id and source of a row that cannot be accepted, where a lenient reader finds them: for the sender's sake."""
    if len(row) > MAX_TEXT_BYTES:
        # Without making the values between them.
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            named = _DECODE_NAMED(row)
            return named.id, named.source
        return None, None
    try:
        value = json.loads(row)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(value, dict):
        return None, None
    id_, source = value.get("id"), value.get("source")
    return id_ if isinstance(id_, str) else None, source if isinstance(source, str) else None


def without_id(fields: Mapping[str, msgspec.Raw]) -> bytes:
    """The object of these fields as JSON, the id left out."""
    rest = (json.dumps(name).encode() + b":" + bytes(value) for name, value in fields.items() if name != "id")
    return b"{" + b",".join(rest) + b"}"
