"""Debezium's change envelope, as it comes over Kafka or HTTP, as offered events.

Source: Debezium documentation, "Change events" of the PostgreSQL and MySQL connectors, and the JSON converter of Kafka
Connect with and without `schemas.enable`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import Any

import msgspec

from replenish.errors import EventFault
from replenish.ingest.cdc.connect_values import readable_row
from replenish.ingest.events.offered_event import OfferedEvent
from replenish.ingest.strict_json import strict_object

UPSERTS, DELETE, TRUNCATE, LOGICAL_MESSAGE = ("c", "u", "r"), "d", "t", "m"
NOT_SENT = "__debezium_unavailable_value"
"""In place of a large value that an update did not touch."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_POSITIONS: tuple[tuple[str, ...], ...] = (
    ("lsn",), ("file", "pos", "row"), ("change_lsn", "event_serial_no"), ("scn", "rs_id", "ssn"), ("ord", "h"),
)  # fmt: skip
"""By which `source` fields the connectors number changes: PostgreSQL, MySQL, SQL Server, Oracle, MongoDB."""
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def debezium_events(payload: bytes, key: bytes | None, *, source: str, feed_id: str, offset: str) -> list[OfferedEvent]:
    """The events of one Debezium message: one, or none for a tombstone or a logical message.

    An id is made of table, position in the source's log, operation and key, so that the same change read twice, even by
    a new connector on a new topic, is one event. Beside the row's columns a body has `__op`, `__table`,
    `__commit_time` (ISO 8601, UTC) and `__lsn` where the envelope tells them.

    Args:
        payload: The message's value; empty for a tombstone.
        key: The message's key; None where the topic has none.
        source: What the events name as their source.
        feed_id: The feed that takes them.
        offset: Where the message stands, e.g. `sales[3]@17`; the id where the connector gives no position.

    Raises:
        EventFault: The message is no change record, or leaves something out that the row needs.
    """
    if not payload.strip() or payload.strip() == b"null":
        return []
    message = strict_object(payload)
    schema = message.get("schema") if set(message) == {"schema", "payload"} else None
    envelope = message["payload"] if set(message) == {"schema", "payload"} else message
    if envelope is None:
        return []
    if not isinstance(envelope, dict) or not isinstance(envelope.get("op"), str):
        raise EventFault("bad_envelope", "a change record has an `op`", field="op")
    operation = envelope["op"]
    if operation == LOGICAL_MESSAGE:
        return []
    if operation == TRUNCATE:
        # The record names no rows, and what this topic delivered before is not known here.
        raise EventFault("unsupported_operation", "a truncate names no rows: delete them, or take a snapshot again")
    row = _row(envelope, schema, operation)
    origin = envelope.get("source")
    origin = origin if isinstance(origin, dict) else {}
    event_id = _event_id(origin, operation, key, row, offset)
    body = _encode({**row, **_lost_digits(payload, row, operation), **_reserved(origin, operation)})
    op = "delete" if operation == DELETE else "upsert"
    return [OfferedEvent(source, event_id, feed_id, op, body, offset=offset)]  # type: ignore[arg-type]


def _row(envelope: dict[str, Any], schema: object, operation: str) -> dict[str, Any]:
    if operation not in (*UPSERTS, DELETE):
        raise EventFault("unsupported_operation", f"`op` is one of c, r, u, d, t; is {operation[:20]}", field="op")
    side = "before" if operation == DELETE else "after"
    row = envelope.get(side)
    if not isinstance(row, dict):
        raise EventFault("bad_envelope", f"a change record of op {operation} has the row in `{side}`", field=side)
    for name, value in row.items():
        if value == NOT_SENT and operation != DELETE:
            raise EventFault(
                "toast_unknown", "the connector did not send this value: set REPLICA IDENTITY FULL", field=name
            )
    return readable_row({n: v for n, v in row.items() if v != NOT_SENT}, schema, side)


def _lost_digits(payload: bytes, row: dict[str, Any], operation: str) -> dict[str, msgspec.Raw]:
    """Numbers that a float does not keep (20.99999999999999999999 is 21 to it), as they are written."""
    floats = [name for name, value in row.items() if isinstance(value, float)]
    if not floats:
        return {}
    envelope = _raw_fields(payload)
    envelope = _raw_fields(envelope["payload"]) if set(envelope) == {"schema", "payload"} else envelope
    written = _raw_fields(envelope["before" if operation == DELETE else "after"])
    return {name: written[name] for name in floats if not _is_kept(written[name], row[name])}


def _is_kept(written: msgspec.Raw, value: float) -> bool:
    try:
        return Decimal(bytes(written).decode()) == Decimal(repr(value))
    except InvalidOperation:
        return False


def _event_id(origin: dict[str, Any], operation: str, key: bytes | None, row: dict[str, Any], offset: str) -> str:
    for names in _POSITIONS:
        # A position of the log, not of the topic: another connector or topic gives the same change the same id.
        if origin.get(names[0]) is not None:
            position = "-".join(str(origin[name]) for name in names if origin.get(name) is not None)
            break
    else:
        return offset
    named = _key_fields(key)
    digest = sha256(_encode(row if named is None else named)).hexdigest()[:16]
    return f"{table_name(origin)}:{position}:{operation}:{digest}"


def _key_fields(key: bytes | None) -> object:
    """The key's fields; a schema around them changes nothing. None where there is no readable key."""
    if not key:
        return None
    try:
        fields = strict_object(key)
    except EventFault:
        return key.hex()
    return fields["payload"] if set(fields) == {"schema", "payload"} else fields


def table_name(origin: dict[str, Any]) -> str:
    """`database.schema.table` of an envelope's `source`, without what it does not tell."""
    parts = (origin.get(name) for name in ("db", "schema", "table"))
    return ".".join(str(part) for part in parts if part)


def _reserved(origin: dict[str, Any], operation: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"__op": operation, "__table": table_name(origin)}
    millis = origin.get("ts_ms")
    if isinstance(millis, int) and not isinstance(millis, bool):
        micros = origin.get("ts_us")
        exact = micros if isinstance(micros, int) and micros // 1000 == millis else millis * 1000
        try:
            fields["__commit_time"] = (_EPOCH + timedelta(microseconds=exact)).isoformat()
        except OverflowError:
            raise EventFault("bad_time", "`source.ts_ms` is a time", field="source.ts_ms") from None
    if origin.get("lsn") is not None:
        fields["__lsn"] = str(origin["lsn"])
    return fields
