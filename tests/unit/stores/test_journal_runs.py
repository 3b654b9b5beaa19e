"""Runs: many events in one row of the file are, to every reader, the single records they stand for."""

from __future__ import annotations

import hashlib
import struct
import threading
from datetime import timedelta
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replenish.errors import DamagedLog
from replenish.stores import packed_bodies
from replenish.stores.doctor.journal_file import check_journal_file
from replenish.stores.doctor.journal_restore import restore_journal
from replenish.stores.doctor.journal_sources import JournalFileSource, SegmentSource
from replenish.stores.event_run import SHORTEST_RUN, EventRun, JoinedEntries, in_runs
from replenish.stores.journal import Journal
from replenish.stores.journal_chain import next_chain, shared_header
from replenish.stores.journal_entry import EVENT_DELETE, EventEntry
from replenish.stores.journal_reader import JournalReader
from replenish.stores.journal_tables import SCHEMA_VERSION
from replenish.stores.packed_bodies import BodyPacker, pack_bodies, unpack_bodies
from replenish.stores.segments import log_entries, seal
from replenish.stores.trim import trim
from tests.unit.stores.log_entries_for_tests import NOW, dead_event, event, file_record, letter, root, settle

SECOND_SCHEMA = """
create table records (
    seq integer primary key check (seq > 0),
    source text not null, id text not null, type text not null, subject text not null,
    time text not null, dataschema text not null, data blob, traceparent text,
    epoch integer not null, body_digest blob not null, chain blob not null,
    canonical_digest blob, unique (source, id)
) strict;
create table dead_letters (
    nr integer primary key,
    seq integer not null references records (seq) deferrable initially deferred,
    feed_id text not null, file text not null, row_nr integer,
    reason text not null, field text, rule text, raw text,
    status text not null default 'open', first_seen text not null, last_seen text not null,
    attempts integer not null default 1
) strict;
create index dead_letters_by_seq on dead_letters (seq);
create table meta (name text primary key, value text not null) strict, without rowid;
create index records_but_events on records (seq, type)
    where (type < 'replenish.event.' or type > 'replenish.event/');
pragma user_version = 2;
"""
"""As the release before wrote it."""


def many(n: int, first: int = 0, **changes: object) -> list[EventEntry]:
    return [event(f"{nr}", {"nr": nr}, **changes) for nr in range(first, first + n)]


def change(path: Path, sql: str) -> None:
    """Change the file behind the journal's back."""

    def plain(bodies: bytes, ends: bytes) -> bytes:
        return unpack_bodies(bodies, struct.unpack("<I", ends[-4:])[0], seq=1)

    connection = apsw.Connection(str(path))
    connection.create_scalar_function("plain", plain, 2)
    connection.create_scalar_function(
        "spoiled", lambda bodies, ends: pack_bodies([plain(bodies, ends).replace(b'{"nr": 7}', b'{"nr": 8}')]), 2
    )
    connection.execute(sql)
    connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """1: a file; 2-41: a run; 42: a dead event; 43-62: a run of deletes; 63: a single event; 64: a file."""
    journal = Journal(tmp_path / "journal.sqlite")
    journal.append(file_record("a", offered=2), [letter(1)])
    journal.append_events([*many(40), dead_event("y"), *many(20, 40, type=EVENT_DELETE), event("z")], now=NOW)
    journal.append(file_record("b"))
    journal.close()
    return tmp_path / "journal.sqlite"


def test_a_run_is_read_as_single_records(path: Path) -> None:
    reader = JournalReader(path)
    assert apsw.Connection(str(path)).execute("select first_seq, last_seq from event_runs").fetchall() == [
        (2, 41),
        (43, 62),
    ]
    rows = list(reader.rows())
    assert [row.seq for row in rows] == list(range(1, 65))
    assert [record.data.get("nr") for record in reader.records(3, up_to_seq=6)] == [2, 3, 4]
    found = reader.find("till", "17")
    assert found is not None
    assert (found.seq, found.data, found.chain) == (19, {"nr": 17}, rows[18].chain.hex())
    assert reader.chain_at(50) == rows[49].chain
    assert reader.head().seq == reader.last_seq() == 64
    assert [e.seq for e in reader.event_bodies(39, 45)] == [40, 41, 42, 43, 44, 45]
    assert [e.seq for e in reader.event_bodies(39, types=(EVENT_DELETE,), limit=2)] == [43, 44]
    assert [row.seq for row in reader.rows(type=(EVENT_DELETE, "replenish.file.accepted"))] == [1, *range(43, 63), 64]
    assert reader.verify_chain() == 64
    assert reader.verify_chain(30, 50) == 21
    assert reader.check() == []
    assert check_journal_file(path, is_expected=True, is_thorough=True) == []


OFFERS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 30), st.sampled_from([0, 0, 0, 1]), st.booleans()),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(OFFERS)
def test_runs_and_single_rows_give_the_same_log(tmp_path_factory: pytest.TempPathFactory, offers) -> None:
    folder = tmp_path_factory.mktemp("logs")
    packed, plain = Journal(folder / "packed.sqlite"), Journal(folder / "plain.sqlite")
    for first, n, version, as_run in offers:
        entries = [event(f"{nr}", {"v": version}) for nr in range(first, first + n)]
        offer = EventRun(entries[0], [e.id for e in entries], [e.body for e in entries]) if as_run else entries
        receipts = packed.append_events(JoinedEntries([offer, [dead_event(f"d{first}")]]), now=NOW)
        single = [r for e in (*entries, dead_event(f"d{first}")) for r in plain.append_events([e], now=NOW)]
        assert receipts == single
    assert list(packed.rows()) == list(plain.rows())
    assert packed.verify_chain() == plain.verify_chain() == packed.last_seq()
    assert packed.check() == plain.check() == []


def test_offers_are_taken_apart_without_losing_order() -> None:
    entries = [*many(3), dead_event("y"), *many(2_500, 3), event("t", traceparent="00-1"), *many(9, 3_000)]
    parts = list(in_runs(JoinedEntries([entries, EventRun(entries[0], ["r"], [b"{}"])])))
    assert [type(part).__name__ for part in parts] == [
        "list", "list", "EventRun", "EventRun", "list", "EventRun", "list",
    ]  # fmt: skip
    assert [len(part) for part in parts] == [3, 1, 2_000, 500, 1, 9, 1]
    assert [entry for part in parts for entry in part][:-1] == entries
    assert SHORTEST_RUN > 3


@pytest.mark.parametrize(
    ("sql", "seq"),
    [
        ("update event_runs set bodies = spoiled(bodies, ends)", 9),
        ("update event_runs set ids = cast(replace(ids, '\"45\"', '\"99\"') as blob)", 48),
        ("update event_runs set subject = 'x' where first_seq = 43", 43),
        ("update event_runs set epoch = 2 where first_seq = 43", 43),
        ("update event_runs set chains = zeroblob(length(chains)) where first_seq = 43", 43),
        ("update event_runs set last_seq = 61 where first_seq = 43", 43),
        ("update event_runs set ids = x'5b' where first_seq = 43", 43),
        ("delete from event_runs where first_seq = 43", 43),
        ("insert into dead_letters select 9, 1, feed_id, file, row_nr, reason, field, rule, raw, status, first_seen,"
         " last_seen, attempts from dead_letters where nr = 1; update dead_letters set seq = 44 where nr = 9", 44),
    ],
)  # fmt: skip
def test_any_change_of_a_run_is_found_at_its_place(path: Path, sql: str, seq: int) -> None:
    change(path, sql)
    with pytest.raises(DamagedLog) as damage:
        JournalReader(path).verify_chain()
    assert damage.value.ids["seq"] == seq
    assert check_journal_file(path, is_expected=True, is_thorough=True)


def test_an_id_in_a_run_is_a_duplicate_or_a_conflict(path: Path) -> None:
    journal = Journal(path)
    offered = [*many(10), event("3", {"nr": "3"}), event("new")]
    receipts = journal.append_events(offered, now=NOW)
    assert receipts == [*(("duplicate", nr + 2) for nr in range(10)), ("conflict", 65), ("accepted", 66)]
    assert journal.append_events([event("45", {"nr": 45})], now=NOW)[0].outcome == "conflict"


def test_trimming_divides_a_run_and_leaves_its_identities(tmp_path: Path) -> None:
    layout, journal = root(tmp_path)
    journal.append_events(many(40), now=NOW)
    before = list(journal.rows())
    settle(journal, 30)
    seal(journal, layout, min_records=1, max_records=12)
    assert trim(journal, layout, now=NOW + timedelta(days=60)) == 30
    assert [e.seq for e in journal.event_bodies(0) if e.body is None] == list(range(1, 31))
    assert journal.verify_chain() == 41
    assert [entry.row for entry in log_entries(journal, layout)][:40] == before
    spelled = [event(f"{nr}", b'{"nr":%d}' % nr) for nr in range(40)]
    assert {r.outcome for r in journal.append_events(spelled, now=NOW)} == {"duplicate"}
    assert journal.append_events([event("5", {"nr": 6})], now=NOW)[0].outcome == "conflict"
    settle(journal, 41)
    assert trim(journal, layout, now=NOW + timedelta(days=60)) == 10
    assert journal.verify_chain() == 43


def test_a_restored_journal_has_the_entries_of_its_runs(path: Path, tmp_path: Path) -> None:
    restored = restore_journal(tmp_path / "new.sqlite", [JournalFileSource(path)], path)
    assert (restored.n_entries, restored.bodies_lost, restored.lost) == (64, [], None)
    assert list(JournalReader(tmp_path / "new.sqlite").rows()) == list(JournalReader(path).rows())


def test_a_damaged_body_costs_only_itself(path: Path, tmp_path: Path) -> None:
    change(path, "update event_runs set bodies = spoiled(bodies, ends)")
    restored = restore_journal(tmp_path / "new.sqlite", [JournalFileSource(path)], path)
    assert (restored.n_entries, restored.bodies_lost) == (64, [9])


@pytest.mark.parametrize("bodies", ["zeroblob(length(bodies))", "substr(bodies, 1, 9)", "x''"])
def test_bodies_that_cannot_be_unpacked_are_found_and_cost_no_identity(path: Path, tmp_path: Path, bodies: str) -> None:
    change(path, f"update event_runs set bodies = {bodies} where first_seq = 2")
    with pytest.raises(DamagedLog):
        JournalReader(path).verify_chain()
    assert check_journal_file(path, is_expected=True, is_thorough=True)
    restored = restore_journal(tmp_path / "new.sqlite", [JournalFileSource(path)], path)
    assert (restored.n_entries, restored.bodies_lost) == (64, list(range(2, 42)))


def test_a_log_is_continued_behind_the_link_that_is_verified(path: Path, tmp_path: Path) -> None:
    change(path, "delete from records where seq > 62; delete from identities where seq > 62")
    change(path, "update event_runs set chain = zeroblob(32)")
    journal = Journal(path)
    assert journal.append_events(many(9, 100), now=NOW)[0] == ("accepted", 63)
    assert journal.check() == []
    restored = restore_journal(tmp_path / "new.sqlite", [JournalFileSource(path)], path)
    assert (restored.n_entries, restored.lost, restored.beyond) == (71, None, None)


def test_the_same_bytes_again_are_known_where_bodies_are_damaged_and_others_are_kept(path: Path) -> None:
    change(path, "update event_runs set bodies = zeroblob(length(bodies)) where first_seq = 2")
    journal = Journal(path)
    assert journal.append_events(many(5), now=NOW) == [("duplicate", seq) for seq in range(2, 7)]
    offered = [event("7", b'{"nr":7}'), event("8", {"nr": 9}), event("other")]
    assert [r.outcome for r in journal.append_events(offered, now=NOW)] == ["conflict", "conflict", "accepted"]
    assert len(journal.letter_rows(65, 66)) == 2


LIST_FAULTS = [
    "delete from identities where id = '3'",
    "update identities set id = 'zzz' where id = '3'",
    "update identities set seq = seq + 1 where id = '3'",
    "delete from identities where id = 'z'",
    "update identities set seq = 2 where id = 'z'",
    "insert into identities select nr, 'never offered', 5 from sources where name = 'till'",
    "delete from identities",
]


@pytest.mark.parametrize("sql", LIST_FAULTS)
def test_a_list_of_identities_that_is_not_that_of_the_log_is_found_and_made_anew(
    path: Path, tmp_path: Path, sql: str
) -> None:
    rows = list(JournalReader(path).rows())
    change(path, sql)
    assert JournalReader(path).check()
    (finding,) = check_journal_file(path, is_expected=True, is_thorough=True)
    assert finding.kind == "journal_identities"
    new = tmp_path / "new.sqlite"
    assert restore_journal(new, [JournalFileSource(path)], path).n_entries == 64
    assert check_journal_file(new, is_expected=True, is_thorough=True) == []
    journal = Journal(new)
    assert list(journal.rows()) == rows
    assert {r.outcome for r in journal.append_events([*many(40), event("z")], now=NOW)} == {"duplicate"}
    assert journal.append_events([event("never offered")], now=NOW)[0].outcome == "accepted"


def test_an_event_that_was_taken_twice_meanwhile_keeps_both_places(path: Path, tmp_path: Path) -> None:
    change(path, "delete from identities where id in ('3', 'z')")
    journal = Journal(path)
    assert [r.seq for r in journal.append_events([event("3", {"nr": 3}), event("z")], now=NOW)] == [65, 66]
    journal.close()
    assert [f.kind for f in check_journal_file(path, is_expected=True, is_thorough=True)] == ["journal_identities"]
    new = tmp_path / "new.sqlite"
    assert restore_journal(new, [JournalFileSource(path)], path).n_entries == 66
    assert check_journal_file(new, is_expected=True, is_thorough=True) == []
    journal = Journal(new)
    assert journal.check() == []
    assert list(journal.rows()) == list(JournalReader(path).rows())
    assert [r.seq for r in journal.append_events([event("3", {"nr": 3}), event("z")], now=NOW)] == [5, 63]


def test_odd_ids_are_found_in_the_list(tmp_path: Path) -> None:
    odd = ["a\x00b", 'x",', "back\\slash", "\u2028", "é", "e\u0301", "", "[", "\U0001f600", "1e3", "null"]
    journal = Journal(tmp_path / "journal.sqlite")
    journal.append_events([event(id_, {"nr": nr}) for nr, id_ in enumerate(odd)], now=NOW)
    assert apsw.Connection(str(journal.path)).execute("select count(*) from event_runs").fetchone() == (1,)
    assert journal.verify_identities() == len(odd)


def test_a_restored_journal_is_trimmed_again(tmp_path: Path) -> None:
    layout, journal = root(tmp_path)
    journal.append_events(many(20), now=NOW)
    settle(journal, 20)
    seal(journal, layout, min_records=1)
    assert trim(journal, layout, now=NOW + timedelta(days=60)) == 20
    journal.close()
    new = tmp_path / "new.sqlite"
    restored = restore_journal(new, [SegmentSource(layout.segments), JournalFileSource(layout.journal)], layout.journal)
    assert restored.bodies_lost == []
    assert trim(Journal(new), layout, now=NOW + timedelta(days=60)) == 20


def test_plain_bodies_of_the_release_before_are_read_as_they_are(path: Path) -> None:
    rows = list(JournalReader(path).rows())
    change(path, "update event_runs set bodies = plain(bodies, ends); pragma user_version = 3")
    old = JournalReader(path)
    assert list(old.rows()) == rows and old.check() == []
    old.close()
    journal = Journal(path)
    assert list(journal.rows()) == rows
    assert apsw.Connection(str(path)).pragma("user_version") == SCHEMA_VERSION
    assert journal.append_events(many(40), now=NOW)[0].outcome == "duplicate"


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=40))
def test_packed_bodies_come_back_as_they_were(bodies: list[bytes]) -> None:
    plain = b"".join(bodies)
    stored = pack_bodies(bodies)
    assert len(stored) <= len(plain)
    assert unpack_bodies(stored, len(plain), seq=1) == plain


def test_bodies_packed_on_a_thread_are_the_same_bytes() -> None:
    packer = BodyPacker()
    like, ids = event(1), [f"e-{nr}" for nr in range(300)]
    for nr in range(3):
        bodies = [f'{{"nr": {nr}, "text": "{i % 17:01000d}"}}'.encode() for i in range(300)]
        packing = packer.begin(bodies, sum(map(len, bodies)))
        assert packing is not None
        assert EventRun(like, ids, bodies, packing).packed() == EventRun(like, ids, bodies).packed()
    assert packer.begin(bodies[:10], sum(map(len, bodies[:10]))) is None


def test_a_packer_at_work_takes_no_second_run(monkeypatch: pytest.MonkeyPatch) -> None:
    may_end, bodies = threading.Event(), [bytes(1_000)] * 300
    monkeypatch.setattr(packed_bodies, "_packed", lambda plain: plain if may_end.wait(10) else b"")
    packer = BodyPacker()
    first = packer.begin(bodies, 300_000)
    assert first is not None
    assert packer.begin(bodies, 300_000) is None
    may_end.set()
    assert len(first.result()) == 300_000
    assert packer.begin(bodies, 300_000) is not None


def second_schema(path: Path) -> None:
    """A file of the release before: three events and a file."""
    connection = apsw.Connection(str(path))
    connection.execute(SECOND_SCHEMA)
    chain = bytes(32)
    for seq in range(1, 4):
        body = b'{"nr":%d}' % seq
        sha = hashlib.sha256(body).digest()
        shared = shared_header(1, NOW.isoformat(), "till", "replenish.event.upsert", "events.sales", "sales@1.0.0")
        chain = next_chain(chain, sha, seq, f"{seq}", shared, None)
        connection.execute(
            "insert into records values (?, 'till', ?, 'replenish.event.upsert', 'events.sales', ?, 'sales@1.0.0', ?,"
            " null, 1, ?, ?, null)",
            (seq, f"{seq}", NOW.isoformat(), body, sha, chain),
        )
    connection.close()


def test_a_file_of_the_release_before_is_read_brought_up_and_continued(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    second_schema(path)
    assert check_journal_file(path, is_expected=True, is_thorough=True) == []
    reader = JournalReader(path)
    assert (reader.verify_chain(), reader.find("till", "2").seq, reader.check()) == (3, 2, [])  # type: ignore[union-attr]
    reader.close()
    journal = Journal(path)
    again = [event(f"{nr}", {"nr": nr}) for nr in range(1, 21)]
    assert [r.outcome for r in journal.append_events(again, now=NOW)] == ["duplicate"] * 3 + ["accepted"] * 17
    assert journal.verify_chain() == 20
    assert journal.check() == []


def test_a_process_of_the_release_before_cannot_write_beside(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    second_schema(path)
    old = apsw.Connection(str(path))
    Journal(path).append_events(many(20, 100), now=NOW)
    with pytest.raises(apsw.ConstraintError, match="older release"):
        old.execute(
            "insert into records values (24, 'till', '100', 'replenish.event.upsert', 'events.sales', 'x', 'y', null,"
            " null, 1, x'', x'', null)"
        )
