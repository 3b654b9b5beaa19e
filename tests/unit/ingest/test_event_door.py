"""Single events at the door: judged by the contract, acknowledged when durable, refused with a reason."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from event_shop import TILL, EventShop, event, fields, key_of
from ingest_shop import HEADER, NOW, SALES, line

from replenish.ingest.events.event_door import EventDoor, raw_bytes, raw_text
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal_entry import EVENT_DEAD, EVENT_DELETE, EVENT_UPSERT

AHEAD = (NOW + timedelta(minutes=6)).isoformat()
FAULTS = [
    ({"units": "2"}, "not_a_number", "units"),
    ({"units": 2.5}, "not_a_number", "units"),
    ({"units": True}, "not_a_number", "units"),
    ({"units": [2]}, "not_a_number", "units"),
    ({"units": -1}, "below_minimum", "units"),
    ({"units": 10**12 + 1}, "out_of_range", "units"),
    ({"units": 10**15 + 0.0}, "out_of_range", "units"),
    ({"units": None}, "missing_required", "units"),
    ({"units": -1, "sku_id": ""}, "missing_required", "sku_id"),
    ({"sku_id": 7}, "not_text", "sku_id"),
    ({"revenue_cents": "x"}, "not_a_number", "revenue_cents"),
    ({"sold_at": "2025-01-10T12:00:00"}, "naive_time", "sold_at"),
    ({"sold_at": "2025-01-10"}, "bad_time", "sold_at"),
    ({"sold_at": "2025-02-30T12:00:00Z"}, "bad_time", "sold_at"),
    ({"sold_at": 1736506800}, "bad_time", "sold_at"),
    ({"sold_at": "0001-01-01T00:00:00Z"}, "bad_time", "sold_at"),
    ({"sold_at": "9999-12-31T23:59:59Z"}, "bad_time", "sold_at"),
    ({"sold_at": AHEAD}, "clock_skew", "sold_at"),
    ({"knowledge_time": AHEAD}, "clock_skew", "knowledge_time"),
    ({"knowledge_time": "2025-01-10T12:00:00"}, "naive_time", "knowledge_time"),
    ({"knowledge_time": 5}, "bad_time", "knowledge_time"),
]


@pytest.mark.parametrize(("change", "reason", "field"), FAULTS, ids=lambda v: str(v)[:40])
def test_a_broken_rule_makes_a_dead_letter_that_says_which(
    tmp_path: Path, change: dict[str, object], reason: str, field: str
) -> None:
    shop = EventShop(tmp_path)
    body = fields(**change)
    (verdict,) = shop.send(event("e1", body))
    assert (verdict.id, verdict.outcome, verdict.reason, verdict.field) == ("e1", "dead", reason, field)
    (letter,) = shop.journal.dead_letters()
    assert (letter.reason, letter.field, letter.file, letter.feed_id) == (reason, field, "e1", "events.sales")
    assert json.loads(str(letter.raw)) == body
    (record,) = shop.journal.records()
    assert (record.type, record.id.partition("#")[0], record.data["offset"]) == (EVENT_DEAD, "e1", "line 1")


@pytest.mark.parametrize(
    "change",
    [
        {"units": 2.0},
        {"units": 10**12},
        {"revenue_cents": None},
        {"sold_at": "2025-01-10 11:00:00.123456Z"},
        {"sold_at": "2025-01-10T11:00:00-11:30"},
        {"knowledge_time": (NOW + timedelta(minutes=4)).isoformat()},
        {"sale_id": "ü " * 300_000},
        {"till": {"nr": [1, 2]}, "note": "a\nb"},
    ],
    ids=lambda v: str(v)[:40],
)
def test_sound_events_are_accepted(tmp_path: Path, change: dict[str, object]) -> None:
    (verdict,) = EventShop(tmp_path).send(event("e1", fields(**change)))
    assert (verdict.outcome, verdict.seq, verdict.reason) == ("accepted", 1, None)


@pytest.mark.parametrize(
    "text", ["4.99999999999999999999", "1e-400", "5.0000000000000000000001", "1000000000000.00001"]
)
def test_a_number_is_whole_as_it_is_written_not_as_a_float_keeps_it(tmp_path: Path, text: str) -> None:
    body = json.dumps(fields(units=77)).replace("77", text).encode()
    (verdict,) = EventShop(tmp_path).send(event("e1", body))
    assert (verdict.outcome, verdict.reason, verdict.field) == ("dead", "not_a_number", "units")


@pytest.mark.parametrize(("text", "units"), [("50e-1", 5), ("5.000", 5), ("0.5E1", 5), ("-0.0", 0)])
def test_a_whole_number_may_be_written_with_a_point_or_an_exponent(tmp_path: Path, text: str, units: int) -> None:
    shop = EventShop(tmp_path)
    shop.send(event("e1", json.dumps(fields(units=77)).replace("77", text).encode()))
    shop.settle()
    assert shop.accepted()["units"].to_list() == [units]


def test_each_event_of_a_request_has_its_own_verdict(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    verdicts = shop.send(
        event("a", fields("a")), event("b", b"{"), event("c", fields("c")), event("d", fields(), feed_id="events.x")
    )
    assert [(v.id, v.outcome, v.reason) for v in verdicts] == [
        ("a", "accepted", None),
        ("b", "dead", "not_json"),
        ("c", "accepted", None),
        ("d", "dead", "unknown_feed"),
    ]
    assert [r.type for r in shop.journal.records()] == [EVENT_UPSERT, EVENT_DEAD, EVENT_UPSERT, EVENT_DEAD]


def test_an_event_that_comes_again_is_the_same_one(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    sound, bad = event("a", fields("a")), event("b", fields("b", units=-1))
    first = shop.send(sound, bad)
    again = shop.send(sound, bad)
    assert [(v.outcome, v.seq) for v in again] == [("duplicate", v.seq) for v in first]
    assert again[1].reason == "below_minimum"
    assert shop.journal.last_seq() == 2


def test_an_id_that_means_something_else_is_kept_and_told(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    shop.send(event("a", fields("a")))
    (verdict,) = shop.send(event("a", fields("a", units=9)))
    assert (verdict.outcome, verdict.reason) == ("conflict", "id_conflict")
    assert [letter.reason for letter in shop.journal.dead_letters()] == ["id_conflict"]


def test_a_good_event_is_accepted_after_a_bad_one_of_its_id(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    shop.send(event("a", fields("a", units=-1)))
    assert shop.send(event("a", fields("a")))[0].outcome == "accepted"


def test_a_delete_names_its_fact_and_needs_nothing_else(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    verdicts = shop.send(
        event("a", key_of("a"), op="delete"),
        event("b", key_of("b") | {"units": "nonsense"}, op="delete"),
        event("c", {"sale_id": "c"}, op="delete"),
    )
    assert [(v.outcome, v.reason) for v in verdicts] == [
        ("accepted", None),
        ("accepted", None),
        ("dead", "missing_required"),
    ]
    assert next(shop.journal.records()).type == EVENT_DELETE


def test_events_of_a_declared_feed_are_judged_by_its_rules(tmp_path: Path) -> None:
    shop = EventShop(tmp_path, TILL)
    row: dict[str, object] = dict(zip(HEADER.split(","), line("r", qty="2").split(","), strict=True))
    bodies = [
        row,
        row | {"qty": "many"},
        row | {"time": "2025-01-10T12:00:00+05:30"},
        {"shop": "S1"},
        row | {"op": "D", "qty": None},
        row | {"known": AHEAD.replace("+00:00", "")[:19].replace("T05", "T06")},
        row | {"till": 17},
    ]
    verdicts = shop.send(*(event(str(nr), body, feed_id="shop.till") for nr, body in enumerate(bodies)))
    reasons = [None, "not_a_number", "zone_contradiction", "missing_required", None, "clock_skew", None]
    assert [v.reason for v in verdicts] == reasons
    assert [v.outcome for v in verdicts] == ["accepted", "dead", "dead", "dead", "accepted", "dead", "accepted"]


def test_a_poison_message_is_kept_byte_by_byte(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    raw = b"\x00\xff not an event"
    with shop.door() as door:
        entry = door.dead("kafka", "sales[0]@7", "events.sales", raw, "poison", rule="no JSON", offset="sales[0]@7")
        assert door.dead("kafka", "sales[0]@7", "events.sales", raw, "poison").id == entry.id
    shop.journal.append_events([entry], now=NOW)
    (letter,) = shop.journal.dead_letters(reason="poison")
    assert raw_bytes(str(letter.raw)) == raw


@pytest.mark.parametrize("raw", [b"", b"text", "ü".encode(), b"\xff", b"a\0b", b"base64:x"])
def test_the_raw_of_a_letter_is_text_without_loss(raw: bytes) -> None:
    assert raw_bytes(raw_text(raw)) == raw


def test_offers_can_be_awaited(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    with shop.door() as door:
        verdicts = asyncio.run(door.offer_async([event("a", fields("a"))]))
    assert [v.outcome for v in verdicts] == ["accepted"]


@pytest.mark.parametrize(("named", "kept"), [("sales@1.0.0", "sales@1.0.0"), ("sales@0.9.0", "sales@1.1.0")])
def test_a_refused_event_is_kept_under_the_live_version_it_named(tmp_path: Path, named: str, kept: str) -> None:
    shop = EventShop(tmp_path)
    newest = {"sales": replace(SALES, version="1.1.0")}
    group = GroupCommit(shop.journal, lambda: NOW)
    door = EventDoor(shop.dataset, newest, group, lambda: NOW, {"sales": {"1.0.0": SALES}})
    (entry,) = door.judge([replace(event("a", fields(units=-1)), dataschema=named)])
    group.close()
    assert (entry.type, entry.dataschema) == (EVENT_DEAD, kept)
