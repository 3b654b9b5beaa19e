"""Debezium's envelope in its two forms, from each kind of operation to the event."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from replenish.errors import EventFault
from replenish.ingest.cdc.debezium import debezium_events
from replenish.ingest.events.offered_event import OfferedEvent
from replenish.ingest.reasons import REASONS

SOURCE = {"db": "erp", "schema": "public", "table": "sales", "lsn": 22_801, "ts_ms": 1_736_510_400_123}
ROW = {"id": 1, "note": None}


def events(envelope: Any, key: Any = None, offset: str = "sales[0]@17") -> list[OfferedEvent]:
    encoded = None if key is None else json.dumps(key).encode()
    payload = envelope if isinstance(envelope, bytes) else json.dumps(envelope).encode()
    return debezium_events(payload, encoded, source="till", feed_id="erp.sales", offset=offset)


def change(op: str, **sides: Any) -> dict[str, Any]:
    return {"op": op, "source": SOURCE, "ts_ms": 5, **sides}


@pytest.mark.parametrize("op", ["c", "u", "r"])
def test_creates_updates_and_snapshot_reads_are_upserts_of_after(op: str) -> None:
    (event,) = events(change(op, before=None, after=ROW), {"id": 1})
    assert (event.op, event.source, event.feed_id, event.offset) == ("upsert", "till", "erp.sales", "sales[0]@17")
    body = json.loads(event.body)
    assert {name: body[name] for name in ROW} == ROW
    assert (body["__op"], body["__table"], body["__lsn"]) == (op, "erp.public.sales", "22801")
    assert body["__commit_time"] == "2025-01-10T12:00:00.123000+00:00"


@pytest.mark.parametrize("number", ["20.99999999999999999999", "1e-400", "1.0000000000000000000000001"])
@pytest.mark.parametrize("wrap", ["%s", '{"schema": null, "payload": %s}'])
def test_a_number_keeps_the_digits_that_a_float_would_lose(number: str, wrap: str) -> None:
    envelope = json.dumps(change("c", after={"id": 1, "units": 77})).replace("77", number)
    (event,) = events((wrap % envelope).encode())
    assert f'"units":{number}'.encode() in event.body


def test_a_delete_carries_before() -> None:
    (event,) = events(change("d", before=ROW, after=None))
    assert (event.op, json.loads(event.body)["id"]) == ("delete", 1)


def test_tombstones_and_logical_messages_are_no_events() -> None:
    assert events(b"") == events(b"null") == events({"schema": None, "payload": None}) == events(change("m")) == []


def test_one_change_has_one_id_with_schema_and_without_on_any_topic() -> None:
    bare = events(change("c", after=ROW), {"id": 1})
    wrapped = events(
        {"schema": {"fields": []}, "payload": change("c", after=ROW)},
        {"schema": {}, "payload": {"id": 1}},
        "other[9]@1",
    )
    assert (bare[0].id, bare[0].body) == (wrapped[0].id, wrapped[0].body)
    assert events(change("c", after=ROW), {"id": 2})[0].id != bare[0].id


def test_without_a_position_the_offset_is_the_id() -> None:
    assert events({"op": "c", "after": ROW}, {"id": 1})[0].id == "sales[0]@17"


def test_the_schema_turns_numbers_into_times_dates_and_decimals() -> None:
    fields = [
        {"field": "sold_at", "name": "io.debezium.time.MicroTimestamp"},
        {"field": "day", "name": "io.debezium.time.Date"},
        {"field": "amount", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}},
        {"field": "qty"},
    ]
    amount = b64encode((-(10**30) - 5).to_bytes(16, "big", signed=True)).decode()
    row = {"sold_at": 1_736_510_400_000_001, "day": 20_098, "amount": amount, "qty": 3}
    schema = {"fields": [{"field": "after", "fields": fields}]}
    body = json.loads(events({"schema": schema, "payload": change("c", after=row)})[0].body)
    assert (body["sold_at"], body["day"], body["qty"]) == ("2025-01-10T12:00:00.000001", "2025-01-10", 3)
    assert body["amount"] == "-" + str(10**28) + ".05"


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (b"{", "not_json"), ({"op": 1}, "bad_envelope"), ([], "not_json"), ({}, "bad_envelope"),
        (change("c"), "bad_envelope"), (change("d", before=None), "bad_envelope"),
        (change("t"), "unsupported_operation"), (change("?", after=ROW), "unsupported_operation"),
        (change("u", after={"note": "__debezium_unavailable_value"}), "toast_unknown"),
        ({"op": "c", "after": ROW, "source": {"ts_ms": 10**18}}, "bad_time"),
    ],
)  # fmt: skip
def test_poison_has_a_reason_of_the_closed_list(envelope: Any, reason: str) -> None:
    with pytest.raises(EventFault) as fault:
        events(envelope)
    assert fault.value.reason == reason
    assert reason in REASONS
