"""The event log of one deployment: accepted files, single events and dead letters, durable once written.

SQLite in WAL mode with `synchronous=FULL`: what `append` returned for survives a power cut. Writers take turns (one
transaction at a time), readers never wait. The columns are the CloudEvents 1.0 attributes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw

from replenish.errors import StoreError, WriteConflict
from replenish.stores.journal_entry import DeadLetter, JournalRecord

BUSY_TIMEOUT_MS = 30_000

_SCHEMA = """
create table if not exists records (
    seq integer primary key autoincrement,
    source text not null, id text not null, type text not null, subject text not null,
    time text not null, dataschema text not null, data text not null,
    unique (source, id)
) strict;
create index if not exists records_by_type on records (type, seq);
create table if not exists dead_letters (
    nr integer primary key autoincrement,
    seq integer not null references records (seq),
    feed_id text not null, file text not null, row_nr integer,
    reason text not null, field text, rule text, raw text
) strict;
create index if not exists dead_letters_by_seq on dead_letters (seq);
"""
_INSERT_RECORD = "insert into records (source, id, type, subject, time, dataschema, data) values (?, ?, ?, ?, ?, ?, ?)"
_INSERT_LETTER = (
    "insert into dead_letters (seq, feed_id, file, row_nr, reason, field, rule, raw) values (?, ?, ?, ?, ?, ?, ?, ?)"
)
_SELECT_RECORD = "select source, id, type, subject, time, dataschema, data, seq from records"
_SELECT_LETTER = "select feed_id, file, row_nr, reason, field, rule, raw from dead_letters"


class Journal:
    """The log at one path; created where there is none. Safe to open in several processes."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = apsw.Connection(str(path))
        self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        self._connection.execute("pragma journal_mode=wal")
        self._connection.execute("pragma synchronous=full")
        self._connection.execute("pragma foreign_keys=on")
        self._assert_durable(path)
        self._connection.execute(_SCHEMA)

    def close(self) -> None:
        """Give the file back; the object cannot be used afterwards."""
        self._connection.close()

    def append(self, record: JournalRecord, dead: Iterable[DeadLetter] = (), *, expected_seq: int | None = None) -> int:
        """Write the record and its dead letters in one transaction and return its place in the log.

        A record equal in all but its time is there already: nothing is written, its place is returned.

        Raises:
            WriteConflict: The same source and id with another body, or `expected_seq` was given and is taken.
        """
        with self._writing():
            known = self.find(record.source, record.id)
            if known is not None:
                return self._same(known, record)
            if expected_seq is not None and expected_seq != self.next_seq():
                raise WriteConflict("another writer took this place in the journal", seq=expected_seq)
            self._connection.execute(_INSERT_RECORD, _row_of(record))
            seq = self._connection.last_insert_rowid()
            self._connection.executemany(
                _INSERT_LETTER,
                ((seq, d.feed_id, d.file, d.row_nr, d.reason, d.field, d.rule, d.raw) for d in dead),
            )
        return seq

    def next_seq(self) -> int:
        """The place the next record will get, if nobody else writes first."""
        return int(self._value("select coalesce(max(seq), 0) from records")) + 1

    def find(self, source: str, id: str) -> JournalRecord | None:
        """The record of this identity, or None."""
        row = self._connection.execute(_SELECT_RECORD + " where source = ? and id = ?", (source, id)).fetchone()
        return None if row is None else _record_of(row)

    def records(self, after_seq: int = 0, type: str | None = None) -> Iterator[JournalRecord]:
        """Records behind `after_seq` in log order; with `type` those of one type."""
        if type is None:
            rows = self._connection.execute(_SELECT_RECORD + " where seq > ? order by seq", (after_seq,))
        else:
            rows = self._connection.execute(
                _SELECT_RECORD + " where type = ? and seq > ? order by seq", (type, after_seq)
            )
        return (_record_of(row) for row in rows)

    def dead_letters(self, feed_id: str | None = None, *, seq: int | None = None) -> list[DeadLetter]:
        """Dead letters, oldest first; of one feed, or of one record, where given."""
        rows = self._connection.execute(
            _SELECT_LETTER + " where (?1 is null or feed_id = ?1) and (?2 is null or seq = ?2) order by nr",
            (feed_id, seq),
        )
        return [DeadLetter(*row) for row in rows]

    def count_dead_letters(self) -> dict[tuple[str, str], int]:
        """(feed, reason) to the number of dead letters, without reading them."""
        rows = self._connection.execute(
            "select feed_id, reason, count(*) from dead_letters group by feed_id, reason order by feed_id, reason"
        )
        return {(feed_id, reason): count for feed_id, reason, count in rows}

    def _assert_durable(self, path: Path) -> None:
        mode, level = self._value("pragma journal_mode"), self._value("pragma synchronous")
        if (mode, level) != ("wal", 2):
            raise StoreError("the journal cannot be opened durably", path=path, journal_mode=mode, synchronous=level)

    def _value(self, query: str) -> Any:
        return next(iter(self._connection.execute(query)))[0]

    def _writing(self) -> _WriteTransaction:
        return _WriteTransaction(self._connection)

    @staticmethod
    def _same(known: JournalRecord, offered: JournalRecord) -> int:
        if _body_of(known) != _body_of(offered) or known.seq is None:
            raise WriteConflict("this source and id name another event", source=offered.source, id=offered.id)
        return known.seq


class _WriteTransaction:
    """`begin immediate`: the write lock is taken before the first read, so two writers never act on one state."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("begin immediate")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._connection.execute("commit" if kind is None else "rollback")


def _row_of(record: JournalRecord) -> tuple[str, ...]:
    instant = record.time.astimezone(UTC).isoformat()
    return (record.source, record.id, record.type, record.subject, instant, record.dataschema, _json(record.data))


def _record_of(row: tuple[object, ...]) -> JournalRecord:
    source, id_, kind, subject, time, dataschema, data, seq = row
    return JournalRecord(
        source=str(source),
        id=str(id_),
        type=str(kind),
        subject=str(subject),
        time=datetime.fromisoformat(str(time)),
        dataschema=str(dataschema),
        data=json.loads(str(data)),
        seq=int(str(seq)),
    )


def _body_of(record: JournalRecord) -> tuple[str, str, str, str]:
    return record.type, record.subject, record.dataschema, _json(record.data)


def _json(data: dict[str, object]) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
