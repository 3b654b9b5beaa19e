"""Single events into the journal: many alike as one run, links computed in the same pass, duplicates told apart.

The usual batch holds only new events, so it is inserted without a look first; the key of the identities refuses a
batch with a known one, which is then taken apart by `sort_out`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, NamedTuple, cast

import apsw

from replenish.errors import DamagedLog
from replenish.stores.event_run import EventRun, in_runs
from replenish.stores.journal_chain import (
    LetterRow,
    LettersDigest,
    LogRow,
    canonical_digest,
    next_chain,
    shared_header,
)
from replenish.stores.journal_entry import (
    EVENT_DEAD,
    RUN_TYPES,
    DeadLetter,
    EventEntry,
    Outcome,
    Receipt,
    RepeatedConflict,
)
from replenish.stores.journal_identity import insert_record_row, known_places
from replenish.stores.journal_runs import insert_runs, next_run

ID_CONFLICT = "id_conflict"
INSERT_LETTER = (
    "insert into dead_letters (nr, seq, feed_id, file, row_nr, reason, field, rule, raw, first_seen, last_seen)"
    " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_KNOWN_SINGLE = (
    "select seq, type, subject, data, body_digest, canonical_digest from records"
    " where seq in (select value from json_each(?))"
)


class Tail(NamedTuple):
    """What the next record is appended to, read inside the transaction."""

    seq: int
    chain: bytes
    epoch: int
    """Of the writer, not of the last record."""


class Known(NamedTuple):
    """What is needed of a record that is there already to tell a repetition from another event."""

    seq: int
    type: str
    subject: str
    data: bytes | None
    body_digest: bytes
    canonical: bytes | None


class Sorted(NamedTuple):
    """A batch taken apart: `new` entries to insert; `receipts` in offered order; `repeated` dead records by seq."""

    new: list[EventEntry]
    receipts: list[Receipt]
    repeated: list[int]


def insert_events(connection: apsw.Connection, entries: Sequence[EventEntry], tail: Tail, time: str) -> None:
    """Insert new events behind `tail`, in order, with their dead letters; many alike in a row as one run.

    Raises:
        apsw.ConstraintError: One of the identities is there already; the caller has to roll back.
    """
    seq, chain, epoch = tail
    for are_runs, group in groupby(in_runs(entries), key=_is_run):
        parts = list(group)
        if are_runs:
            chain = insert_runs(connection, cast(list[EventRun], parts), seq, chain, epoch, time)
            seq += sum(map(len, parts))
            continue
        for part in parts:
            chain = _insert_singles(connection, list(part), Tail(seq, chain, epoch), time)
            seq += len(part)


def _is_run(part: Sequence[EventEntry]) -> bool:
    return isinstance(part, EventRun)


def _insert_singles(connection: apsw.Connection, entries: Sequence[EventEntry], tail: Tail, time: str) -> bytes:
    """Insert events one row each; the chain at the last of them."""
    seq, chain, epoch = tail
    letters: list[tuple[Any, ...]] = []
    next_nr = 0
    for source, id_, kind, subject, dataschema, body, traceparent, letter in entries:
        seq += 1
        digest = hashlib.sha256(body).digest()
        of_letters = "-"
        if letter is not None:
            next_nr = next_nr + 1 if letters else next_letter_nr(connection)
            row = LetterRow(next_nr, seq, *_fields_of(letter))
            letters.append((*row, time, time))
            of_letters = LettersDigest([row]).hex
        shared = shared_header(epoch, time, source, kind, subject, dataschema)
        chain = next_chain(chain, digest, seq, id_, shared, traceparent, of_letters)
        insert_record_row(
            connection,
            LogRow(seq, source, id_, kind, subject, time, dataschema, body, traceparent, epoch, digest, chain),
        )
    connection.executemany(INSERT_LETTER, letters)
    return chain


def insert_letters(
    connection: apsw.Connection, letters: Iterable[DeadLetter], seq: int, time: str
) -> tuple[LettersDigest, int]:
    """Insert the dead letters of record `seq`; their digest and number. Held in memory one at a time."""
    digest, nr, first = LettersDigest(), 0, next_letter_nr(connection)

    def rows() -> Iterable[tuple[Any, ...]]:
        nonlocal nr
        for letter in letters:
            row = LetterRow(first + nr, seq, *_fields_of(letter))
            digest.add(row)
            nr += 1
            yield (*row, time, time)

    connection.executemany(INSERT_LETTER, rows())
    return digest, nr


def sort_out(connection: apsw.Connection, entries: Sequence[EventEntry], tail: Tail) -> Sorted:
    """Which entries are new, and what becomes of each: a known identity is a duplicate, or a conflict.

    A conflict is replaced by a dead event, whose id names the body, so that the same conflict twice is one.
    """
    known = _probe(connection, [(entry.source, entry.id) for entry in entries])
    new: list[EventEntry] = []
    receipts: list[Receipt] = []
    repeated: list[int] = []

    def take(entry: EventEntry, outcome: Outcome) -> None:
        seq = tail.seq + len(new) + 1
        new.append(entry)
        digest = hashlib.sha256(entry.body).digest()
        known[entry.source, entry.id] = Known(seq, entry.type, entry.subject, entry.body, digest, None)
        receipts.append(Receipt(outcome, seq))

    for entry in entries:
        first = known.get((entry.source, entry.id))
        if first is None:
            take(entry, "dead" if entry.type == EVENT_DEAD else "accepted")
            continue
        receipt: type[Receipt] = Receipt
        if not is_same(first, entry) and not is_same(_with_body(connection, known, first, entry), entry):
            dead = conflict_of(entry, first.seq)
            known |= {} if (dead.source, dead.id) in known else _probe(connection, [(dead.source, dead.id)])
            again = known.get((dead.source, dead.id))
            if again is None:
                take(dead, "conflict")
                continue
            first, receipt = again, RepeatedConflict
        if first.type == EVENT_DEAD:
            repeated.append(first.seq)
        receipts.append(receipt("duplicate", first.seq))
    return Sorted(new, receipts, repeated)


def is_same(known: Known, entry: EventEntry) -> bool:
    """Whether the entry says again what the record says: same kind, feed and JSON value.

    Dead events always do, whatever their offset: their id names what was refused and why.
    """
    if known.type != entry.type or known.type == EVENT_DEAD:
        return known.type == entry.type
    if known.subject != entry.subject:
        return False
    if known.data == entry.body or known.body_digest == hashlib.sha256(entry.body).digest():
        return True
    canonical = known.canonical if known.data is None else canonical_digest(known.data)
    return canonical == canonical_digest(entry.body)


def conflict_of(entry: EventEntry, first_seq: int) -> EventEntry:
    """The dead event for an entry whose id stands for another body, first journalled at `first_seq`."""
    raw = entry.body.decode(errors="replace")
    if entry.letter is not None and entry.letter.raw is not None:
        raw = entry.letter.raw
    mark = hashlib.sha256(b"%b%b%b" % (entry.type.encode(), raw.encode(), f"{entry.dataschema}{ID_CONFLICT}".encode()))
    rule = f"one id stands for one event; this one was first journalled at seq {first_seq}"
    letter = DeadLetter(entry.subject, entry.id, None, ID_CONFLICT, "id", rule, raw)
    body = json.dumps({"conflicts_with": first_seq, "raw_sha256": hashlib.sha256(raw.encode()).hexdigest()})
    id_ = f"{entry.id}#{mark.hexdigest()[:16]}"
    return entry._replace(id=id_, type=EVENT_DEAD, body=body.encode(), letter=letter)


def next_letter_nr(connection: apsw.Connection) -> int:
    """The number of the next dead letter; given here and not by SQLite, since the chain covers it."""
    return cast(int, connection.execute("select coalesce(max(nr), 0) + 1 from dead_letters").fetchall()[0][0])


def _fields_of(letter: DeadLetter) -> tuple[str, str, int | None, str, str | None, str | None, str | None]:
    return letter.feed_id, letter.file, letter.row_nr, letter.reason, letter.field, letter.rule, letter.raw


def _probe(connection: apsw.Connection, identities: list[tuple[str, str]]) -> dict[tuple[str, str], Known]:
    """What is there of the identities, whatever way it is kept."""
    places = known_places(connection, identities)
    if not places:
        return {}
    found = connection.execute(_KNOWN_SINGLE, (json.dumps(list(places)),))
    known = {places[seq]: Known(seq, *rest) for seq, *rest in found}

    def select(query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return connection.execute(query, values).fetchall()

    for first in sorted(places):
        if places[first] in known:
            continue
        run = next_run(select, first - 1, first, with_bodies=False)
        for seq, id_, _ in () if run is None else run.parts():
            if run is not None and seq in places:
                known[run.source, id_] = Known(seq, run.type, run.subject, None, *run.digests_at(seq))
    return known


def _with_body(
    connection: apsw.Connection, known: dict[tuple[str, str], Known], first: Known, entry: EventEntry
) -> Known:
    """The record with its body, where it lies in a run; its neighbours in `known` get theirs along.

    Unchanged where the run cannot be unpacked: what is offered is kept as a conflict, and the damage, which the doctor
    finds, stops nobody else.
    """
    if first.data is not None or first.canonical is not None or first.type not in RUN_TYPES:
        return first

    def select(query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return connection.execute(query, values).fetchall()

    with suppress(DamagedLog):
        run = next_run(select, first.seq - 1, first.seq)
        for seq, id_, body in () if run is None else run.parts():
            near = known.get((entry.source, id_))
            if near is not None and near.seq == seq:
                known[entry.source, id_] = near._replace(data=body)
    return known[entry.source, entry.id]
