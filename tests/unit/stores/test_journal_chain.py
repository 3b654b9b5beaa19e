"""The chain: any change of what was written is found, at its place; an older file gets its chain on opening."""

from pathlib import Path

import apsw
import pytest

from replenish.errors import DamagedLog, StoreError
from replenish.stores.journal import Journal
from replenish.stores.journal_reader import JournalReader
from tests.unit.stores.log_entries_for_tests import NOW, dead_event, event, file_record, letter

OLD_SCHEMA = """
create table records (
    seq integer primary key autoincrement, source text not null, id text not null, type text not null,
    subject text not null, time text not null, dataschema text not null, data text not null, unique (source, id)
) strict;
create index records_by_type on records (type, seq);
create table dead_letters (
    nr integer primary key autoincrement, seq integer not null references records (seq), feed_id text not null,
    file text not null, row_nr integer, reason text not null, field text, rule text, raw text
) strict;
create index dead_letters_by_seq on dead_letters (seq);
insert into records values (1, 'feed', 'a', 'replenish.file.accepted', 'a.csv', '2025-02-04T06:00:00+00:00',
    'sales@1.0.0', '{"offered":3,"parts":[]}');
insert into records values (2, 'feed', 'b', 'replenish.file.dead', 'b.csv', '2025-02-05T06:00:00+00:00',
    'sales@1.0.0', '{"fault":"ä"}');
insert into dead_letters values (1, 1, 'feed', 'a.csv', 4, 'late', 'f', 'r', '{}');
insert into dead_letters values (2, 2, 'feed', 'b.csv', null, 'no_header', null, 'r', null);
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of six records: two files with letters, events, a dead one."""
    journal = Journal(tmp_path / "journal.sqlite")
    journal.append(file_record("a", offered=2), [letter(1), letter(2)])
    journal.append_events([event("x"), dead_event("y"), event("z")], now=NOW)
    journal.append(file_record("b"), [letter(7)])
    journal.append(file_record("c"))
    journal.close()
    return tmp_path / "journal.sqlite"


def change(path: Path, sql: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(sql)
    connection.close()


def test_an_untouched_log_verifies_whole_and_in_parts(path: Path) -> None:
    reader = JournalReader(path)
    assert reader.verify_chain() == 6
    assert reader.verify_chain(3, 5) == 3
    assert reader.check() == []


@pytest.mark.parametrize(
    ("sql", "seq"),
    [
        ("update records set data = '{}' where seq = 2", 2),
        ("update records set data = cast('{\"id\": \"q\"}' as blob) where seq = 2", 2),
        ("update records set time = '2025-02-04T06:00:01+00:00' where seq = 4", 4),
        ("update records set subject = 'other' where seq = 5", 5),
        ("update records set epoch = 2 where seq = 6", 6),
        ("update records set traceparent = '-' where seq = 6", 6),
        ("update records set chain = (select chain from records where seq = 1) where seq = 3", 3),
        ("update dead_letters set raw = 'other' where nr = 2", 1),
        ("update dead_letters set reason = 'late' where seq = 3", 3),
        ("update dead_letters set nr = 9 where seq = 5", 5),
        ("delete from dead_letters where nr = 2", 1),
        ("insert into dead_letters select 9, 6, feed_id, file, row_nr, reason, field, rule, raw, status, first_seen,"
         " last_seen, attempts from dead_letters where nr = 1", 6),
        ("update records set seq = 99 where seq = 2; update records set seq = 2 where seq = 4;"
         "update records set seq = 4 where seq = 99", 2),
        ("pragma foreign_keys = off; delete from records where seq = 2", 2),
    ],
)  # fmt: skip
def test_any_change_is_found_at_its_place(path: Path, sql: str, seq: int) -> None:
    change(path, sql.replace("data = '{}'", "data = cast('{}' as blob)"))
    with pytest.raises(DamagedLog) as damage:
        JournalReader(path).verify_chain()
    assert damage.value.ids["seq"] == seq
    assert JournalReader(path).check()


def test_what_changes_later_by_right_is_not_covered(path: Path) -> None:
    change(path, "update dead_letters set status = 'discarded', attempts = 4")
    assert JournalReader(path).verify_chain() == 6


def test_a_range_that_is_not_there_is_no_sound_range(path: Path) -> None:
    with pytest.raises(DamagedLog):
        JournalReader(path).verify_chain(1, 7)


def test_a_file_that_is_no_database_is_named_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"garbage " * 1_000)
    for opening in (Journal, lambda p: JournalReader(p).last_seq()):
        with pytest.raises(DamagedLog, match="replenish doctor"):
            opening(path)
    assert path.read_bytes() == b"garbage " * 1_000


def test_a_lost_journal_beside_its_segments_is_not_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    (tmp_path / "segments" / "1-2.manifest.json").write_text("{}")
    with pytest.raises(DamagedLog, match="sealed segments"):
        Journal(tmp_path / "journal.sqlite")


def test_an_older_file_keeps_its_records_and_gets_its_chain(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    change(path, OLD_SCHEMA)
    journal = Journal(path)
    assert [(r.seq, r.id, r.data) for r in journal.records()] == [
        (1, "a", {"offered": 3, "parts": []}),
        (2, "b", {"fault": "ä"}),
    ]
    kept = [(d.nr, d.seq, d.reason) for d in journal.dead_letters()]
    assert kept == [(1, 1, "late"), (2, 2, "no_header")]
    assert [d.first_seen for d in journal.dead_letters()] == [r.time for r in journal.records()]
    assert journal.append_events([event("x")], now=NOW)[0].seq == 3
    assert Journal(path).verify_chain() == 3


def test_an_older_file_with_a_hole_is_refused_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    change(path, OLD_SCHEMA + "delete from dead_letters where seq = 1; delete from records where seq = 1;")
    with pytest.raises(DamagedLog):
        Journal(path)
    assert apsw.Connection(str(path)).execute("select count(*) from records").fetchall() == [(1,)]


def test_a_file_of_a_newer_release_is_refused(path: Path) -> None:
    change(path, "pragma user_version = 99")
    with pytest.raises(StoreError, match="newer release"):
        Journal(path)
