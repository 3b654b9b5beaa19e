"""The journal: one identity, one place in the log, dead letters in the same transaction."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest

from replenish.errors import WriteConflict
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import DeadLetter, JournalRecord

NOW = datetime(2025, 2, 4, 6, tzinfo=UTC)


def _record(id: str = "a", **data: object) -> JournalRecord:
    return JournalRecord("feed", id, "replenish.file.accepted", "a.csv", NOW, "sales@1.0.0", dict(data))


def _letter(row_nr: int, reason: str = "not_a_number") -> DeadLetter:
    return DeadLetter("feed", "a.csv", row_nr, reason, "units", "units is an integer", '{"qty":"x"}')


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.sqlite")


def test_a_record_comes_back_as_it_was_appended(journal: Journal) -> None:
    seq = journal.append(_record(offered=3, reasons={"late": 1}), [_letter(2)])
    found = journal.find("feed", "a")
    assert found is not None
    assert (found.seq, found.time, found.data) == (seq, NOW, {"offered": 3, "reasons": {"late": 1}})
    kept = replace(_letter(2), nr=1, seq=seq, first_seen=NOW, last_seen=NOW)
    assert journal.dead_letters() == [kept]


def test_the_same_event_twice_is_one_record(journal: Journal) -> None:
    first = journal.append(_record(offered=3), [_letter(2)])
    assert journal.append(_record(offered=3), [_letter(2)]) == first
    assert len(list(journal.records())) == 1
    assert len(journal.dead_letters()) == 1


def test_one_identity_with_another_body_is_refused(journal: Journal) -> None:
    journal.append(_record(offered=3))
    with pytest.raises(WriteConflict):
        journal.append(_record(offered=4))


def test_a_taken_place_is_refused_and_leaves_nothing(journal: Journal) -> None:
    expected = journal.last_parts_seq()
    journal.append(_record("other"))
    with pytest.raises(WriteConflict):
        journal.append(_record("mine"), [_letter(1)], expected_parts_seq=expected)
    assert journal.find("feed", "mine") is None
    assert journal.dead_letters() == []


def test_a_failing_dead_letter_takes_its_record_back(journal: Journal) -> None:
    def letters():  # type: ignore[no-untyped-def]
        yield _letter(1)
        raise RuntimeError("the disc is full")

    with pytest.raises(RuntimeError):
        journal.append(_record(), letters())
    assert list(journal.records()) == []


def test_places_rise_and_are_read_behind_a_watermark(journal: Journal) -> None:
    seqs = [journal.append(_record(name)) for name in "abc"]
    assert seqs == sorted(set(seqs))
    assert [r.id for r in journal.records(after_seq=seqs[0])] == ["b", "c"]
    assert [r.id for r in journal.records(type="replenish.decision.executed")] == []


def test_a_reader_sees_the_log_while_a_writer_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    Journal(path).append(_record())
    writer = apsw.Connection(str(path))
    writer.execute("begin immediate")
    assert [r.id for r in Journal(path).records()] == ["a"]
    writer.execute("rollback")


def test_dead_letters_are_counted_by_feed_and_reason(journal: Journal) -> None:
    journal.append(_record(), [_letter(1), _letter(2), _letter(3, "below_minimum")])
    assert journal.count_dead_letters() == {("feed", "not_a_number"): 2, ("feed", "below_minimum"): 1}
