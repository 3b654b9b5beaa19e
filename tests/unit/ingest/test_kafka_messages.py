"""What a Kafka message means, format by format, without a broker."""

from __future__ import annotations

import json

import pytest

from replenish.contracts.doors import KafkaSettings, MessageFormat
from replenish.errors import EventFault
from replenish.ingest.kafka.messages import KafkaMessage, events_of_message, message_id

CE = (("ce_specversion", b"1.0"), ("ce_id", b"7"), ("ce_source", b"pos"), ("ce_type", b"replenish.event.delete"))


def settings(format_: MessageFormat) -> KafkaSettings:
    return KafkaSettings("till", "b:1", ("sales",), "events.sales", format=format_)


def message(value: bytes | None, *headers: tuple[str, bytes | None], key: bytes | None = None) -> KafkaMessage:
    return KafkaMessage("sales", 3, 17, key, value, headers)


def test_a_plain_message_is_named_by_its_place_or_its_header() -> None:
    event = events_of_message(message(b"{}"), settings("json"))[0]
    assert (event.source, event.id, event.op, event.offset) == ("till", "sales[3]@17", "upsert", "sales[3]@17")
    named = events_of_message(message(b"{}", ("ID", b"x"), ("op", b"delete")), settings("json"))[0]
    assert (named.id, named.op) == ("x", "delete")


def test_a_tombstone_takes_back_the_fact_that_its_key_names() -> None:
    event = events_of_message(message(None, key=b'{"sale_id": "r1"}'), settings("json"))[0]
    assert (event.op, event.body) == ("delete", b'{"sale_id": "r1"}')


def test_cloud_events_keep_the_bytes_of_their_data() -> None:
    binary = events_of_message(message(b'{"units": 1.50}', *CE), settings("cloudevents"))[0]
    assert (binary.source, binary.id, binary.op, binary.body) == ("pos", "7", "delete", b'{"units": 1.50}')
    whole = (
        b'{"specversion":"1.0","id":"8","source":"pos","type":"replenish.event.upsert","subject":"sales",'
        b'"data":{"units": 1.50}}'
    )
    structured = events_of_message(
        message(whole, ("Content-Type", b"application/cloudevents+json")), settings("cloudevents")
    )[0]
    assert (structured.id, structured.body) == ("8", b'{"units": 1.50}')


def test_debezium_is_read_as_over_http() -> None:
    change = {"op": "c", "after": {"id": 1}, "source": {"lsn": 5, "db": "erp", "schema": "public", "table": "sales"}}
    event = events_of_message(message(json.dumps(change).encode(), key=b'{"id": 1}'), settings("debezium"))[0]
    assert event.id.startswith("erp.public.sales:5:c:")
    assert events_of_message(message(None, key=b'{"id": 1}'), settings("debezium")) == []


@pytest.mark.parametrize(
    ("format_", "value", "headers", "reason"),
    [
        ("json", b"{}", [("op", b"merge")], "bad_envelope"),
        ("json", b"{}", [("id", b"")], "bad_envelope"),
        ("json", b"{}", [("id", b"\xff")], "bad_envelope"),
        ("json", b"{}", [("id", b"a"), ("Id", b"b")], "bad_envelope"),
        ("json", b"{}", [("id", b"a" * 513)], "bad_envelope"),
        ("json", None, [], "bad_envelope"),
        ("cloudevents", b"{}", [], "unsupported_version"),
        ("cloudevents", b"{}", [*CE, ("ce_subject", b"stock_counts")], "unknown_feed"),
        ("cloudevents", b"{}", [*CE[:3], ("ce_type", b"com.shop.sale")], "bad_envelope"),
        ("cloudevents", b"{}", [*CE[:1], ("ce_source", b"replenish.settle"), *CE[2:]], "bad_envelope"),
        ("cloudevents", b"{}", [*CE, ("ce_datacontenttype", b"application/avro")], "bad_envelope"),
        ("cloudevents", b"{}", [("content-type", b"application/cloudevents+avro")], "bad_envelope"),
        ("cloudevents", b"{}", [("content-type", b"application/cloudevents+json")], "bad_envelope"),
        ("debezium", b"{}", [], "bad_envelope"),
    ],
)
def test_malformed_messages_say_why(
    format_: MessageFormat, value: bytes | None, headers: list[tuple[str, bytes]], reason: str
) -> None:
    broken = message(value, *headers)
    with pytest.raises(EventFault) as fault:
        events_of_message(broken, settings(format_))
    assert fault.value.reason == reason
    assert message_id(broken)
