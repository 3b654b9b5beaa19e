"""Sealing and trimming: what is sealed reads back as it was, and what is trimmed is still known."""

from __future__ import annotations

import gzip
import hashlib
import json
from datetime import timedelta
from pathlib import Path

import pytest

from replenish.errors import DamagedLog
from replenish.stores.journal import Journal
from replenish.stores.layout import RootLayout
from replenish.stores.segments import log_entries, log_records, read_segment, seal, sealed_segments
from replenish.stores.trim import trim
from tests.unit.stores.log_entries_for_tests import NOW, dead_event, event, file_record, letter, root, settle

LATER = NOW + timedelta(days=31)


@pytest.fixture
def log(tmp_path: Path) -> tuple[RootLayout, Journal]:
    """Nine records: a file with letters, six events of which one is dead, one settling the first five, an event."""
    layout, journal = root(tmp_path)
    journal.append(file_record("a", offered=2), [letter(1), letter(2)])
    body = json.dumps({"name": "Ä\u2028"}, ensure_ascii=False).encode()
    journal.append_events([event("x"), dead_event("y"), event("z", body), event("u"), event("v"), event("w")], now=NOW)
    settle(journal, 5)
    journal.append_events([event("t")], now=NOW)
    return layout, journal


def test_segments_follow_one_another_and_hold_what_the_journal_holds(log: tuple[RootLayout, Journal]) -> None:
    layout, journal = log
    sealed = seal(journal, layout, min_records=1, max_records=4)
    assert [(s.first_seq, s.last_seq, s.n, s.epoch) for s in sealed] == [(1, 4, 4, 1), (5, 8, 4, 1), (9, 9, 1, 1)]
    assert sealed_segments(layout.segments) == sealed
    entries = [entry for segment in sealed for entry in read_segment(segment)]
    assert entries == list(log_entries(journal, layout))
    assert [len(entry.letters) for entry in entries][:3] == [2, 0, 1]
    assert seal(journal, layout, min_records=1) == []


def test_few_records_wait_for_the_next_time(log: tuple[RootLayout, Journal]) -> None:
    layout, journal = log
    assert seal(journal, layout, min_records=10) == []
    assert len(seal(journal, layout, min_records=9)) == 1


def test_an_interrupted_attempt_never_counts_and_is_made_again(log: tuple[RootLayout, Journal]) -> None:
    layout, journal = log
    layout.segments.mkdir()
    (layout.segments / "000000000001-000000000003.jsonl.gz").write_bytes(b"half a segment")
    (layout.segments / ".000000000001-000000000009.jsonl.gz.draft").write_bytes(b"less")
    sealed = seal(journal, layout, min_records=1)
    assert sorted(path.name for path in layout.segments.iterdir()) == [
        # Without a manifest it is nothing, yet nobody but a person may say so: it could be a damaged whole one.
        "000000000001-000000000003.jsonl.gz",
        "000000000001-000000000009.jsonl.gz",
        "000000000001-000000000009.manifest.json",
    ]
    assert len(list(read_segment(sealed[0]))) == 9


def test_a_lost_manifest_never_costs_the_bodies_in_its_segment(log: tuple[RootLayout, Journal]) -> None:
    layout, journal = log
    segment = seal(journal, layout, min_records=1)[0]
    whole = segment.path.read_bytes()
    assert trim(journal, layout, now=LATER) == 4
    next(layout.segments.glob("*.manifest.json")).unlink()
    with pytest.raises(DamagedLog, match="never sealed"):
        seal(journal, layout, min_records=1)
    assert segment.path.read_bytes() == whole


def test_a_damaged_segment_is_refused(log: tuple[RootLayout, Journal]) -> None:
    layout, journal = log
    segment = seal(journal, layout, min_records=1)[0]
    whole = segment.path.read_bytes()
    other = gzip.compress(gzip.decompress(whole).replace(b"not_json", b"not_yaml"))
    for content in (whole[:-9], whole[:50] + bytes([whole[50] ^ 1]) + whole[51:], b"", other):
        segment.path.write_bytes(content)
        with pytest.raises(DamagedLog):
            list(read_segment(segment))
    segment.path.write_bytes(other)
    # Even where the manifest was mended to fit, the chain does not.
    with pytest.raises(DamagedLog, match="not what was written"):
        list(read_segment(segment._replace(sha256=hashlib.sha256(other).hexdigest())))


def test_a_missing_segment_and_a_journal_of_another_log_are_refused(log: tuple[RootLayout, Journal]) -> None:
    layout, journal = log
    seal(journal, layout, min_records=1, max_records=4)
    other = Journal(layout.root / "other" / "journal.sqlite")
    other.append_events([event(f"{n}") for n in range(20)], now=NOW)
    with pytest.raises(DamagedLog, match="does not continue"):
        seal(other, layout, min_records=1)
    (layout.segments / "000000000005-000000000008.manifest.json").unlink()
    with pytest.raises(DamagedLog, match="missing"):
        seal(journal, layout, min_records=1)


def test_trimming_takes_sealed_settled_old_bodies_only(log: tuple[RootLayout, Journal]) -> None:
    layout, journal = log
    assert trim(journal, layout, now=LATER) == 0
    seal(journal, layout, min_records=1, max_records=8)
    assert trim(journal, layout, now=NOW + timedelta(days=29)) == 0
    assert trim(journal, layout, now=LATER) == 4
    assert [e.seq for e in journal.event_bodies(0) if e.body is None] == [2, 3, 4, 5]
    assert trim(journal, layout, now=LATER) == 0
    settle(journal, 9)
    assert trim(journal, layout, now=LATER) == 3
    assert trim(journal, layout, now=LATER) == 0


def test_a_trimmed_log_verifies_dedupes_and_reads_as_before(log: tuple[RootLayout, Journal]) -> None:
    layout, journal = log
    before = list(log_records(journal, layout))
    settle(journal, 9)
    seal(journal, layout, min_records=1, max_records=4)
    assert trim(journal, layout, now=LATER) == 7
    assert journal.check() == []
    assert list(log_records(journal, layout, up_to_seq=9)) == before
    assert list(log_records(journal, layout, after_seq=4, up_to_seq=6)) == before[4:6]
    again = [event("x"), event("u", b'{ "id":"u" }'), dead_event("y"), event("v", {"other": 1})]
    assert [r.outcome for r in journal.append_events(again, now=NOW)] == ["duplicate"] * 3 + ["conflict"]


def test_nothing_is_trimmed_whose_segment_is_not_what_was_sealed(log: tuple[RootLayout, Journal]) -> None:
    layout, journal = log
    segment = seal(journal, layout, min_records=1)[0]
    segment.path.write_bytes(segment.path.read_bytes()[:-1])
    with pytest.raises(DamagedLog):
        trim(journal, layout, now=LATER)
    assert all(e.body for e in journal.event_bodies(0))


def test_a_damaged_journal_is_not_sealed(log: tuple[RootLayout, Journal]) -> None:
    layout, journal = log
    journal.connection.execute("update dead_letters set raw = 'other' where nr = 1")
    with pytest.raises(DamagedLog):
        seal(journal, layout, min_records=1)
    assert sealed_segments(layout.segments) == []


def test_a_reader_finds_what_is_sealed_and_trimmed_while_it_reads(log: tuple[RootLayout, Journal]) -> None:
    layout, journal = log
    settle(journal, journal.last_seq())
    seal(journal, layout, min_records=1)
    n = journal.last_seq()
    for batch in range(3):
        journal.append_events([event(f"late{batch}-{nr}") for nr in range(20)], now=NOW)
    assert trim(journal, layout, now=NOW + timedelta(days=60)) > 0
    reading = log_entries(journal, layout)
    read = [next(reading) for _ in range(n)]
    settle(journal, journal.last_seq())
    seal(journal, layout, min_records=1, max_records=20)
    assert trim(journal, layout, now=NOW + timedelta(days=60)) == 60
    read += reading
    assert len(read) == n + 60
    assert all(entry.row.data is not None for entry in read)
