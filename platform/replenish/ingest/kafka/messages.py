"""What a Kafka message means: plain JSON, CloudEvents (binary and structured) or Debezium's change envelope.

Source: CloudEvents 1.0, "Kafka Protocol Binding": attributes as `ce_` headers, or the whole event in the value with
content type `application/cloudevents+json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from replenish.contracts.doors import KafkaSettings
from replenish.errors import EventFault
from replenish.ingest.cdc.debezium import debezium_events
from replenish.ingest.events.offered_event import EventOperation, OfferedEvent
from replenish.ingest.reserved_sources import is_reserved_source
from replenish.ingest.strict_json import strict_object
from replenish.stores.journal_entry import EVENT_DELETE, EVENT_UPSERT

ID_HEADERS = ("ce_id", "id")
OPERATION_HEADER = "op"
STRUCTURED = "application/cloudevents"
LONGEST_NAME = 512
"""Characters of an id or a source: identities are kept for ever."""

_OPERATIONS: dict[str, EventOperation] = {EVENT_UPSERT: "upsert", EVENT_DELETE: "delete"}
_RAW_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class KafkaMessage(NamedTuple):
    """One message as the client library gives it; a value of None is a tombstone."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def place(self) -> str:
        """Where it stands: `sales[3]@17`. Stable on redelivery, so it serves as the id of messages without one."""
        return f"{self.topic}[{self.partition}]@{self.offset}"


def events_of_message(message: KafkaMessage, settings: KafkaSettings) -> list[OfferedEvent]:
    """The events of one message: one, or none for what says nothing (Debezium's tombstones and heartbeats).

    Raises:
        EventFault: The message is malformed; its body is judged later, by the contract.
    """
    if settings.format == "debezium":
        key, value = message.key, message.value or b""
        return debezium_events(value, key, source=settings.name, feed_id=settings.feed, offset=message.place)
    if settings.format == "cloudevents":
        return [_cloud_event(message, settings)]
    return [_plain_event(message, settings)]


def message_id(message: KafkaMessage) -> str:
    """The id a message is filed under: of its headers where they hold a usable one, else its place."""
    for name, value in message.headers:
        if name.lower() in ID_HEADERS and value:
            text = value.decode("utf-8", "replace")
            if _is_name(text):
                return text
    return message.place


def _plain_event(message: KafkaMessage, settings: KafkaSettings) -> OfferedEvent:
    """The value is the event's fields; without one the key names the fact that is taken back."""
    headers = _header_texts(message)
    event_id = next((headers[name] for name in ID_HEADERS if name in headers), message.place)
    _check_name(event_id, "id")
    operation = headers.get(OPERATION_HEADER, "upsert")
    if operation not in ("upsert", "delete"):
        raise EventFault("bad_envelope", "is upsert or delete", field=OPERATION_HEADER)
    body = message.value
    if body is None:
        if not message.key:
            raise EventFault("bad_envelope", "a message without a value has the fact's key fields as its key")
        body, operation = message.key, "delete"
    return OfferedEvent(
        settings.name,
        event_id,
        settings.feed,
        operation,  # type: ignore[arg-type]
        body,
        headers.get("traceparent"),
        message.place,
        headers.get("dataschema"),
    )


def _cloud_event(message: KafkaMessage, settings: KafkaSettings) -> OfferedEvent:
    headers = _header_texts(message)
    content_type = headers.get("content-type", "").lower()
    if content_type.startswith(STRUCTURED):
        attributes, body = _structured(message, content_type)
    else:
        attributes = {name[3:]: value for name, value in headers.items() if name.startswith("ce_")}
        attributes.setdefault("datacontenttype", content_type or "application/json")
        body = message.value or b""
    if attributes.get("specversion") != "1.0":
        raise EventFault("unsupported_version", "must be 1.0", field="specversion")
    for name in ("id", "source"):
        _check_name(attributes.get(name, ""), name)
    if is_reserved_source(attributes["source"]):
        raise EventFault("bad_envelope", "is the platform's own", field="source")
    operation = _OPERATIONS.get(attributes.get("type", ""))
    if operation is None:
        raise EventFault("bad_envelope", f"must be one of {', '.join(_OPERATIONS)}", field="type")
    if "json" not in attributes.get("datacontenttype", "json").lower():
        raise EventFault("bad_envelope", "must be application/json", field="datacontenttype")
    subject = attributes.get("subject", settings.feed)
    if settings.feed not in (subject, f"events.{subject}"):
        raise EventFault("unknown_feed", f"this door feeds {settings.feed}", field="subject")
    return OfferedEvent(
        attributes["source"],
        attributes["id"],
        settings.feed,
        operation,
        body,
        attributes.get("traceparent"),
        message.place,
        attributes.get("dataschema"),
    )


def _structured(message: KafkaMessage, content_type: str) -> tuple[dict[str, str], bytes]:
    """Attributes and the bytes of `data`, as they were sent."""
    if not content_type.startswith(f"{STRUCTURED}+json"):
        raise EventFault("bad_envelope", f"must be {STRUCTURED}+json", field="content-type")
    value = message.value or b""
    fields = strict_object(value)
    if "data" not in fields:
        raise EventFault("bad_envelope", "is missing (data_base64 is not taken)", field="data")
    attributes: dict[str, str] = {}
    for name, item in fields.items():
        if name != "data":
            if not isinstance(item, str):
                raise EventFault("bad_envelope", "is a text", field=name[:64])
            attributes[name] = item
    return attributes, bytes(_RAW_FIELDS.decode(value)["data"])


def _header_texts(message: KafkaMessage) -> Mapping[str, str]:
    """Headers as texts by lower-case name; those that are no text are left aside unless the platform reads them."""
    texts: dict[str, str] = {}
    for name, value in message.headers:
        known = name.lower()
        if known in texts and texts[known].encode() != value:
            raise EventFault("bad_envelope", "a header is given twice with different values", field=known[:64])
        try:
            texts[known] = (value or b"").decode()
        except UnicodeDecodeError:
            if known.startswith("ce_") or known in (*ID_HEADERS, OPERATION_HEADER, "content-type"):
                raise EventFault("bad_envelope", "is text in UTF-8", field=known[:64]) from None
    return texts


def _check_name(value: str, field: str) -> None:
    if not _is_name(value):
        raise EventFault("bad_envelope", f"must be 1 to {LONGEST_NAME} printable characters", field=field)


def _is_name(value: str) -> bool:
    return 0 < len(value) <= LONGEST_NAME and value.isprintable()
