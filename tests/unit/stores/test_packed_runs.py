"""Runs that another process packed, and several runs written at once: the log is what single events would make it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import apsw
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replenish.errors import DamagedLog, Fenced
from replenish.stores.event_run import EventRun, JoinedEntries, PackedRun
from replenish.stores.journal import Journal
from replenish.stores.journal_chain import GENESIS
from replenish.stores.journal_entry import EVENT_DELETE, EventEntry
from replenish.stores.journal_runs import RUNS_PER_STATEMENT, TAIL
from replenish.stores.layout import RootLayout
from replenish.stores.standby import open_standby
from tests.unit.stores.log_entries_for_tests import NOW, dead_event, event, file_record

PACKABLE = [b'{"nr": %d, "text": "%s"}' % (nr, b"tea" * 40) for nr in range(12)]
RANDOM = [b"".join(sha256(b"%d %d" % (nr, part)).digest() for part in range(3)) for nr in range(12)]
"""No packing makes them shorter."""
ODD_IDS = ["[", "]", ",", "ü\u2028ж", "0", "00", "null", "\x7f", "'", "1e3", "-0"]
ESCAPED_IDS = ["back\\slash", 'quotation "mark"', '","', "a\nb", "nul\x00", "\\u0041", "A", "/"]


def run_of(n: int, first: int = 0, **changes: object) -> EventRun:
    return as_run([event(f"{nr}", {"nr": nr}, **changes) for nr in range(first, first + n)])


def as_run(entries: Sequence[EventEntry]) -> EventRun:
    return EventRun(entries[0], [entry.id for entry in entries], [entry.body for entry in entries])


def packed_elsewhere(run: EventRun) -> EventRun:
    return EventRun.of_packed(run.like._replace(id="", body=b""), run.packed())


def identities(journal: Journal) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(journal.path))
    query = "select name, id, seq from sources join identities on source_nr = nr order by seq"
    return connection.execute(query).fetchall()


def n_rows(journal: Journal, table: str) -> int:
    return len(apsw.Connection(str(journal.path)).execute(f"select 1 from {table}").fetchall())


class Pair:
    """Two journals: one takes offers as they come, the other one the same events a few at a time, a row each."""

    def __init__(self, folder: Path, *, at_once: int = 1) -> None:
        self.packed, self.plain = Journal(folder / "packed.sqlite"), Journal(folder / "plain.sqlite")
        self._at_once = at_once

    def offer(self, *parts: Sequence[EventEntry]) -> list[str]:
        """The outcomes, which are the same in both."""
        receipts = list(self.packed.append_events(JoinedEntries(parts), now=NOW))
        events = [entry for part in parts for entry in part]
        starts = range(0, len(events), self._at_once)
        pieces = (events[start : start + self._at_once] for start in starts)
        assert receipts == [receipt for piece in pieces for receipt in self.plain.append_events(piece, now=NOW)]
        return [receipt.outcome for receipt in receipts]

    def are_alike(self) -> bool:
        packed, plain = self.packed, self.plain
        assert list(packed.rows()) == list(plain.rows())
        assert identities(packed) == identities(plain)
        assert packed.verify_chain() == plain.verify_chain() == packed.last_seq() == len(identities(packed))
        assert packed.check() == plain.check() == []
        return True


@pytest.mark.parametrize("bodies", [PACKABLE, RANDOM], ids=["packed", "plain"])
def test_a_run_that_was_packed_elsewhere_reads_as_the_run_it_stands_for(bodies: list[bytes]) -> None:
    entries = [event(f"{nr} ж", body, traceparent="00-1") for nr, body in enumerate(bodies)]
    run = as_run(entries)
    assert (len(run.packed().bodies) < sum(map(len, bodies))) == (bodies is PACKABLE)
    for read in (
        lambda it: list(it),
        lambda it: [it[nr] for nr in (0, 5, -1)],
        lambda it: [*it[2:9], *it[9:], len(it[3:3])],
        lambda it: [bytes(body) for body in it.bodies],
        lambda it: (len(it), it.n_bytes, it.ids, it.packed()),
        lambda it: it[2:9].packed(),
    ):
        # Each on a run of its own: what was read before may not matter.
        assert read(packed_elsewhere(run)) == read(run)
    assert list(packed_elsewhere(run)) == entries
    with pytest.raises(IndexError):
        packed_elsewhere(run)[12]


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.binary(max_size=80)), min_size=1))
def test_whatever_ids_and_bodies_are_they_come_back(pairs: list[tuple[str, bytes]]) -> None:
    entries = [event(id_, body) for id_, body in pairs]
    again = packed_elsewhere(as_run(entries))
    assert list(again) == entries
    assert (again.n_bytes, again.ids) == (sum(len(e.body) for e in entries), [e.id for e in entries])


@pytest.mark.parametrize(
    "parts",
    [
        {"ids": b'["0"]'},
        {"ids": b"[]"},
        {"ends": bytes(44)},
        {"ends": bytes(47)},
        {"ends": b""},
        {"digests": [bytes(32)] * 11},
        {"ids": b"[]", "ends": b"", "digests": []},
    ],
)
def test_parts_of_different_lengths_are_refused(parts: dict[str, object]) -> None:
    packed = as_run([event(f"{nr}", body) for nr, body in enumerate(PACKABLE)]).packed()
    with pytest.raises(DamagedLog):
        EventRun.of_packed(event(""), packed._replace(**parts))  # type: ignore[arg-type]


@pytest.mark.parametrize("ids", [b"", b"[", b"{}", b"[1,2]", b"null"])
def test_ids_that_are_no_array_of_texts_are_refused(ids: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        EventRun.of_packed(event(""), run_of(12).packed()._replace(ids=ids))


def test_a_digest_of_another_length_is_refused() -> None:
    packed = run_of(12).packed()
    with pytest.raises(DamagedLog):
        EventRun.of_packed(event(""), packed._replace(digests=packed.digests[:-31]))


def test_bodies_that_cannot_be_unpacked_are_told_when_they_are_asked_for() -> None:
    packed = as_run([event(f"{nr}", body) for nr, body in enumerate(PACKABLE)]).packed()
    run = EventRun.of_packed(event(""), packed._replace(bodies=b"\xff" * 20))
    assert len(run) == 12
    with pytest.raises(DamagedLog):
        list(run)


@pytest.mark.parametrize("n", [1, RUNS_PER_STATEMENT, RUNS_PER_STATEMENT + 1, 2 * RUNS_PER_STATEMENT + 1])
def test_runs_of_one_commit_are_written_as_their_events_would_be(tmp_path: Path, n: int) -> None:
    pair = Pair(tmp_path, at_once=7)
    assert set(pair.offer(*(run_of(8, 8 * nr) for nr in range(n)))) == {"accepted"}
    assert (n_rows(pair.packed, "event_runs"), n_rows(pair.plain, "event_runs")) == (n, 0)
    assert pair.are_alike()
    # And behind them.
    assert set(pair.offer(run_of(8, 8 * n), run_of(9, 8 * n + 8))) == {"accepted"}
    assert pair.are_alike()


def test_runs_of_several_sources_feeds_and_types_keep_their_order(tmp_path: Path) -> None:
    pair = Pair(tmp_path, at_once=7)
    pair.offer(run_of(8, source="b"))
    pair.offer(
        run_of(8, source="a"),
        run_of(9, 8, source="b", type=EVENT_DELETE),
        run_of(10, 8, source="a", traceparent="00-1"),
        run_of(8, source="new"),
        run_of(8, 18, source="a", dataschema="sales@1.1.0"),
        run_of(8, 17, source="b", subject="events.stock"),
        run_of(8, 25, source="b"),
    )
    assert n_rows(pair.packed, "event_runs") == 8
    assert n_rows(pair.packed, "sources") == 3
    assert pair.are_alike()


def test_runs_between_single_events_keep_their_order(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    outcomes = pair.offer(
        [event("s1"), dead_event("d1")],
        run_of(8),
        run_of(8, 8),
        [dead_event("d2")],
        run_of(3, 16),
        [*run_of(9, 19), event("s2", source="other")],
        run_of(8, 28),
    )
    assert outcomes.count("dead") == 2
    assert n_rows(pair.packed, "event_runs") == 4
    assert pair.are_alike()
    pair.packed.append(file_record("a"))
    pair.plain.append(file_record("a"))
    assert pair.are_alike()


def test_a_run_that_was_packed_elsewhere_is_written_as_one_from_here(tmp_path: Path) -> None:
    pair = Pair(tmp_path, at_once=7)
    runs = [as_run([event(f"{k}-{nr}", body) for nr, body in enumerate(b)]) for k, b in enumerate([PACKABLE, RANDOM])]
    pair.offer(packed_elsewhere(runs[0]), run_of(8), packed_elsewhere(runs[1]))
    assert n_rows(pair.packed, "event_runs") == 3
    assert pair.are_alike()


@pytest.mark.parametrize("is_known", [False, True], ids=["new source", "known source"])
@pytest.mark.parametrize("ids", [ODD_IDS, ESCAPED_IDS], ids=["odd", "escaped"])
@pytest.mark.parametrize("source", ["till", "t\\ill", 'a "source"', "é"])
def test_ids_and_sources_with_any_characters_are_taken(
    tmp_path: Path, source: str, ids: list[str], is_known: bool
) -> None:
    pair = Pair(tmp_path, at_once=7)
    if is_known:
        pair.offer([event("first", source=source)])
    odd = as_run([event(id_, source=source) for id_ in ids])
    usual = run_of(8, 100, source=source)
    others = as_run([event(f"é{nr}/{{}}", source=source) for nr in range(8)])
    pair.offer(usual, packed_elsewhere(odd), others)
    assert n_rows(pair.packed, "event_runs") == 3
    assert n_rows(pair.packed, "sources") == 1
    assert pair.are_alike()
    assert {*pair.offer(others, odd)} == {"duplicate"}
    assert pair.are_alike()


@pytest.mark.parametrize("body", [{"nr": 0}, {"nr": "other"}], ids=["the same", "another body"])
@pytest.mark.parametrize("nr", [0, 7, 8, 8 * RUNS_PER_STATEMENT - 1, 8 * RUNS_PER_STATEMENT, 8 * 18 - 1])
def test_a_known_id_anywhere_among_runs_is_a_duplicate_or_a_conflict(tmp_path: Path, nr: int, body: object) -> None:
    pair = Pair(tmp_path, at_once=7)
    is_same = body == {"nr": 0}
    pair.offer([event(f"{nr}", {"nr": nr} if is_same else body)])
    outcomes = pair.offer(*(packed_elsewhere(run_of(8, first)) for first in range(0, 8 * 18, 8)))
    assert outcomes == ["accepted"] * nr + ["duplicate" if is_same else "conflict"] + ["accepted"] * (8 * 18 - nr - 1)
    assert pair.are_alike()


def test_an_id_twice_in_one_offer_is_taken_once(tmp_path: Path) -> None:
    pair = Pair(tmp_path, at_once=7)
    twice = as_run([event(f"{nr % 8}", {"nr": nr % 9}) for nr in range(10)])
    outcomes = pair.offer(twice, run_of(8, 20), run_of(8, 27), run_of(8, source="other"))
    assert (outcomes.count("duplicate"), outcomes.count("conflict")) == (1, 2)
    assert pair.are_alike()


def test_a_run_of_known_ids_is_unpacked_to_be_compared(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    entries = [event(f"{nr}", body) for nr, body in enumerate(PACKABLE)]
    journal.append_events(as_run(entries), now=NOW)
    before = list(journal.rows())
    assert [r.outcome for r in journal.append_events(packed_elsewhere(as_run(entries)), now=NOW)] == ["duplicate"] * 12
    assert list(journal.rows()) == before
    changed = [entry._replace(body=b"{}") if nr == 3 else entry for nr, entry in enumerate(entries)]
    receipts = list(journal.append_events(packed_elsewhere(as_run(changed)), now=NOW))
    assert [r.outcome for r in receipts] == ["duplicate"] * 3 + ["conflict"] + ["duplicate"] * 8
    assert [r.seq for r in receipts] == [1, 2, 3, 13, *range(5, 13)]
    assert [row.data for row in journal.rows()][:12] == PACKABLE
    assert journal.verify_chain() == 13
    assert journal.check() == []


OFFERS = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["till", "other", "third"]),
            st.integers(0, 40),
            st.integers(1, 14),
            st.sampled_from([0, 0, 0, 1]),
            st.sampled_from(["run", "run", "elsewhere", "single"]),
        ),
        min_size=1,
        max_size=5,
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=25, deadline=None)
@given(OFFERS)
def test_any_offers_make_the_log_that_single_events_make(tmp_path_factory: pytest.TempPathFactory, offers) -> None:
    pair = Pair(tmp_path_factory.mktemp("logs"))
    for offer in offers:
        parts: list[Sequence[EventEntry]] = []
        for source, first, n, version, kind in offer:
            entries = [event(f"{nr}", {"v": version}, source=source) for nr in range(first, first + n)]
            run = as_run(entries)
            parts.append(entries if kind == "single" else run if kind == "run" else packed_elsewhere(run))
        pair.offer(*parts)
    assert pair.are_alike()


def tail_of(path: Path) -> tuple[object, ...]:
    rows = apsw.Connection(str(path)).execute(TAIL).fetchall()
    assert len(rows) == 1
    return rows[0]


def test_the_tail_is_one_row_whatever_the_log_ends_with(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    assert tail_of(journal.path) == (None, None, None, None)
    with journal.transaction() as tail:
        assert (tail.seq, tail.chain) == (0, GENESIS)
    for entries in ([event("a")], run_of(8), [event("b")]):
        journal.append_events(entries, now=NOW)
        last = list(journal.rows())[-1]
        assert tail_of(journal.path) == (last.seq, last.chain, last.epoch, None)
    assert journal.last_seq() == 10


def test_the_tail_says_that_this_is_a_standby(tmp_path: Path) -> None:
    standby = open_standby(RootLayout(tmp_path))
    *nothing, mark = tail_of(standby.path)
    assert nothing == [None, None, None]
    assert mark is not None
    with pytest.raises(Fenced, match="promote it"):
        standby.append_events(run_of(8), now=NOW)
    assert standby.last_seq() == 0
    with standby.transaction(as_standby=True) as tail:
        assert (tail.seq, tail.chain) == (0, GENESIS)


def test_ends_are_32_bits_little_endian() -> None:
    packed = run_of(9).packed()
    assert isinstance(packed, PackedRun)
    assert struct.unpack("<9I", packed.ends) == tuple(9 * nr for nr in range(1, 10))


def test_a_run_beside_single_events_is_written_without_unpacking_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise AssertionError("nobody asked for the bodies")

    run = packed_elsewhere(as_run([event(f"{nr}", body) for nr, body in enumerate(PACKABLE)]))
    parts = [[event("first", {"nr": 1}), dead_event("dead")], run, [event("last", {"nr": 2})]]
    monkeypatch.setattr("replenish.stores.event_run.unpack_bodies", refuse)
    receipts = Journal(tmp_path / "journal.sqlite").append_events(JoinedEntries(parts), now=NOW)
    assert [receipt.outcome for receipt in receipts] == ["accepted", "dead", *["accepted"] * 13]
    assert [receipt.seq for receipt in receipts] == list(range(1, 16))
