"""Single events in the journal: each once, in one sequence, with a receipt that tells what became of it."""

import hashlib
from pathlib import Path

import apsw
import pytest

from replenish.errors import StoreFull, WriteConflict
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import (
    EVENT_DEAD,
    EVENT_DELETE,
    LETTER_DISCARDED,
    LETTER_REDRIVEN,
    EventEntry,
    Receipt,
)
from replenish.stores.journal_reader import last_parts_seq
from replenish.stores.journal_tables import NOT_EVENT
from tests.unit.stores.log_entries_for_tests import FEED, NOW, dead_event, event, file_record, letter


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.sqlite")


def offer(journal: Journal, *entries: EventEntry) -> list[tuple[str, int]]:
    return [tuple(receipt) for receipt in journal.append_events(entries, now=NOW)]


def test_new_events_get_places_in_offered_order(journal: Journal) -> None:
    journal.append(file_record("a"))
    assert offer(journal, event("x"), dead_event("y"), event("z")) == [("accepted", 2), ("dead", 3), ("accepted", 4)]
    assert [(r.seq, r.id.partition("#")[0]) for r in journal.records(after_seq=1)] == [(2, "x"), (3, "y"), (4, "z")]
    found = journal.find("till", "x")
    assert found is not None
    assert (found.data, found.time, found.epoch) == ({"id": "x"}, NOW, 1)


def test_the_same_event_again_gets_the_receipt_of_the_first(journal: Journal) -> None:
    offer(journal, event("x"), event("y"))
    assert offer(journal, event("z"), event("y"), event("x")) == [("accepted", 3), ("duplicate", 2), ("duplicate", 1)]
    # The batch after a repetition is looked up first: another way to the same answers.
    assert offer(journal, event("w"), event("z")) == [("accepted", 4), ("duplicate", 3)]
    assert offer(journal, event("v")) == [("accepted", 5)]


def test_repetitions_inside_one_batch_are_told_apart(journal: Journal) -> None:
    assert offer(journal, event("x"), event("x"), event("x", {"other": 1})) == [
        ("accepted", 1),
        ("duplicate", 1),
        ("conflict", 2),
    ]


def test_another_spelling_of_the_same_value_is_no_conflict(journal: Journal) -> None:
    offer(journal, event("x", b'{"a":1,"b":[2,{"c":null}]}'))
    assert offer(journal, event("x", b'{ "b": [2, {"c": null}], "a": 1 }')) == [("duplicate", 1)]


@pytest.mark.parametrize("body", [b'{"a":true}', b'{"a":"1"}', b'{"a":1,"b":null}', b'{"a":[1]}'])
def test_an_id_with_another_body_is_a_dead_letter(journal: Journal, body: bytes) -> None:
    offer(journal, event("x", b'{"a":1}'))
    assert offer(journal, event("x", body)) == [("conflict", 2)]
    kept = journal.dead_letters()[0]
    assert (kept.seq, kept.reason, kept.field, kept.feed_id) == (2, "id_conflict", "id", FEED)
    assert kept.file == "x", "as of every refused event: its id"
    assert kept.raw == body.decode()
    assert journal.find("till", "x").data == {"a": 1}  # type: ignore[union-attr]


def test_a_delete_under_the_id_of_an_upsert_is_a_conflict(journal: Journal) -> None:
    offer(journal, event("x"))
    assert offer(journal, event("x", type=EVENT_DELETE)) == [("conflict", 2)]


def test_the_same_conflict_twice_is_one_dead_letter_tried_twice(journal: Journal) -> None:
    offer(journal, event("x"))
    assert offer(journal, event("x", {"b": 1}), event("x", {"b": 1}), event("x", {"c": 1})) == [
        ("conflict", 2),
        ("duplicate", 2),
        ("conflict", 3),
    ]
    assert offer(journal, event("x", {"b": 1})) == [("duplicate", 2)]
    assert [kept.attempts for kept in journal.dead_letters()] == [3, 1]


def test_a_dead_event_offered_again_is_a_duplicate_of_the_dead(journal: Journal) -> None:
    offer(journal, dead_event("x"))
    again = dead_event("x")._replace(body=b'{"offset":"somewhere else"}')
    assert offer(journal, again) == [("duplicate", 1)]
    assert [(kept.attempts, kept.status) for kept in journal.dead_letters()] == [(2, "open")]
    assert offer(journal, event("x")) == [("accepted", 2)]


def test_a_resend_under_a_new_contract_version_is_a_duplicate(journal: Journal) -> None:
    offer(journal, event("x"))
    assert offer(journal, event("x", dataschema="sales@1.1.0")) == [("duplicate", 1)]


def test_ids_are_told_apart_by_source_and_may_hold_any_text(journal: Journal) -> None:
    names = ["", "'; drop table records; --", "ä#1", "x" * 5_000, '"', "\\u0041", "A"]
    offer(journal, *(event(name) for name in names))
    assert [r.outcome for r in journal.append_events([event(n) for n in names], now=NOW)] == ["duplicate"] * len(names)
    assert offer(journal, event("A", source="other")) == [("accepted", len(names) + 1)]


def test_a_batch_longer_than_a_statement_is_whole_and_in_order(journal: Journal) -> None:
    receipts = journal.append_events([event(f"{n}") for n in range(1_000)], now=NOW)
    assert receipts == [Receipt("accepted", n + 1) for n in range(1_000)]
    assert [int(row.id) for row in journal.event_bodies(0)] == list(range(1_000))
    assert journal.verify_chain() == 1_000


def test_places_stay_contiguous_over_a_batch_that_was_taken_back(journal: Journal) -> None:
    offer(journal, event("a"))
    with pytest.raises(UnicodeEncodeError):
        offer(journal, event("b"), event("\ud800"))
    with pytest.raises(WriteConflict):
        journal.append(file_record("c"), expected_parts_seq=99)
    assert offer(journal, event("d")) == [("accepted", 2)]
    assert journal.verify_chain() == 2


def test_a_full_disk_takes_nothing_and_the_journal_goes_on_when_there_is_space(journal: Journal) -> None:
    offer(journal, event("a"))
    pages = journal.connection.pragma("page_count")
    journal.connection.pragma("max_page_count", pages)
    with pytest.raises(StoreFull):
        offer(journal, *(event(f"b{n}", {"x": hashlib.shake_128(b"%d" % n).hexdigest(500)}) for n in range(50)))
    assert journal.last_seq() == 1
    journal.connection.pragma("max_page_count", 100_000)
    assert offer(journal, event("b1")) == [("accepted", 2)]


def test_another_process_in_between_is_seen(journal: Journal) -> None:
    other = Journal(journal.path)
    offer(journal, event("a"))
    assert offer(other, event("b"), event("a")) == [("accepted", 2), ("duplicate", 1)]
    assert offer(journal, event("c"), event("b")) == [("accepted", 3), ("duplicate", 2)]
    assert journal.verify_chain() == 3


def test_reading_goes_on_while_another_writes(journal: Journal) -> None:
    offer(journal, *(event(f"{n}") for n in range(1_200)))
    rows = journal.open_reader().records()
    first = next(rows)
    writer = apsw.Connection(str(journal.path))
    writer.execute("begin immediate; update meta set value = 'x'")
    assert [first.seq, *(row.seq for row in rows)] == list(range(1, 1_201))
    writer.execute("rollback")


def test_event_bodies_are_cut_by_place_feed_and_number(journal: Journal) -> None:
    offer(journal, event("a"), event("b", subject="events.stock"), dead_event("c"), event("d"), event("e"))
    assert [e.id for e in journal.event_bodies(1, 4, FEED, types=("replenish.event.upsert",))] == ["d"]
    assert [e.seq for e in journal.event_bodies(0, limit=2)] == [1, 2]
    assert next(journal.event_bodies(0)).body == b'{"id": "a"}'


def test_records_of_several_types_come_in_log_order(journal: Journal) -> None:
    journal.append(file_record("a"))
    offer(journal, event("x"), dead_event("y"))
    journal.append(file_record("b", "replenish.events.settled"))
    both = ("replenish.events.settled", "replenish.file.accepted")
    assert [r.seq for r in journal.records(type=both)] == [1, 4]
    assert [r.seq for r in journal.records(type=(EVENT_DEAD, *both), up_to_seq=3)] == [1, 3]
    assert journal.last_parts_seq() == 4


def test_letters_are_closed_by_the_record_that_says_so(journal: Journal) -> None:
    journal.append(file_record("a"), [letter(1), letter(2), letter(3)])
    journal.append(file_record("r", LETTER_REDRIVEN, nrs=[1]))
    journal.append(file_record("d", LETTER_DISCARDED, nrs=[1, 3], reason="test data"))
    assert [kept.status for kept in journal.dead_letters()] == ["redriven", "open", "discarded"]
    assert [kept.nr for kept in journal.dead_letters(status="open")] == [2]
    assert journal.count_dead_letters("open") == {("feed", "not_a_number"): 1}


def test_looking_for_other_records_does_not_read_the_events(journal: Journal) -> None:
    journal.append(file_record("a"))
    offer(journal, *(event(f"{n}") for n in range(200)))
    asked: list[str] = []
    journal.connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, lambda trace: asked.append(trace["sql"]))
    assert last_parts_seq(journal.connection) == 1
    plans = [row[3] for row in journal.connection.execute("explain query plan " + asked[0], ("a", "b"))]
    assert any("records_but_events" in plan for plan in plans)
    assert NOT_EVENT.strip() in asked[0]
