"""Reading the journal: each thread over a read-only connection of its own, page by page, never in a writer's way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import apsw

from replenish.errors import DamagedLog
from replenish.stores.fence import FIRST_EPOCH
from replenish.stores.journal_chain import GENESIS, LetterRow, LogRow, fault_of_row
from replenish.stores.journal_entry import EVENT_TYPES, PART_BEARING, RUN_TYPES, ChainHead, JournalRecord
from replenish.stores.journal_faults import damaged
from replenish.stores.journal_index import verify_identities
from replenish.stores.journal_letters import LetterQueries
from replenish.stores.journal_runs import LAST_LINK, LAST_PLACE, RunRow, chain_at, find_row, in_log_order
from replenish.stores.journal_schema import open_read_only
from replenish.stores.journal_tables import NOT_EVENT

T = TypeVar("T")
PAGE_RECORDS = 500
"""Rows read at a time: an open cursor would hold the WAL back and show its thread an old state."""

_ROWS = (
    "select seq, source, id, type, subject, time, dataschema, data, traceparent, epoch, body_digest, chain from records"
    " where seq > ?1 and seq <= ?2"
)
_LAST_PARTS = (
    "select seq from records where type in (?, ?)"
    " and (type < 'replenish.event.' or type > 'replenish.event/')"
    " order by seq desc limit 1"
)
_OF_TYPES = " and type in (select value from json_each(?3))"
_PAGE = " order by seq limit " + str(PAGE_RECORDS)
_BODIES = (
    "select seq, source, id, type, subject, dataschema, time, data from records"
    " where seq > ?1 and seq <= ?2 and (?3 is null or subject = ?3) and type in (select value from json_each(?4))"
    " order by seq limit ?5"
)
_LETTER_ROWS = (
    "select nr, seq, feed_id, file, row_nr, reason, field, rule, raw from dead_letters"
    " where seq >= ?1 and seq <= ?2 order by seq, nr"
)
_HAVING_LETTERS = "select distinct seq from dead_letters where seq >= ?1 and seq <= ?2"
LAST_SEQ = 2**62


class EventBody(NamedTuple):
    """One event record as settle reads it; `body` is None once trimmed (its segment has it)."""

    seq: int
    source: str
    id: str
    type: str
    subject: str
    dataschema: str
    time: str
    body: bytes | None

    @staticmethod
    def of_run(run: RunRow, after_seq: int, up_to_seq: int) -> Iterator[EventBody]:
        """The events (after_seq, up_to_seq] of a run."""
        shared = run.type, run.subject, run.dataschema, run.time
        return (EventBody(seq, run.source, id_, *shared, b) for seq, id_, b in run.parts(after_seq, up_to_seq))


class JournalReader(LetterQueries):
    """The log at one path, to read. Every thread that uses it gets its own connection."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._opened: list[apsw.Connection] = []

    def close(self) -> None:
        """Give the file back; the object cannot be used afterwards."""
        for connection in self._opened:
            connection.close()

    def next_seq(self) -> int:
        """The place the next record will get, if nobody else writes first."""
        return self.last_seq() + 1

    def last_seq(self) -> int:
        """The place of the last record; 0 in an empty log."""
        return int(self._select(LAST_PLACE)[0][0])

    def last_parts_seq(self) -> int:
        """The place of the last record that bears accepted parts; 0 before the first."""
        return last_parts_seq(self._connection())

    def head(self) -> ChainHead:
        """Where the log ends."""
        seq, chain, epoch = (self._select(LAST_LINK) or [(0, GENESIS, FIRST_EPOCH)])[0]
        return ChainHead(seq, chain.hex(), epoch)

    def chain_at(self, seq: int) -> bytes | None:
        """The chain at a record, `GENESIS` for 0; None where there is no such record."""
        return chain_at(self._select, seq) if seq else GENESIS

    def meta(self, name: str) -> str | None:
        """A setting kept in the journal (`journal_id`, `standby`, `shipped_at` ...)."""
        return next((value for (value,) in self._select("select value from meta where name = ?", (name,))), None)

    def find(self, source: str, id: str) -> JournalRecord | None:
        """The record of this identity, or None."""
        row = find_row(self._select, source, id)
        return None if row is None else record_of(row)

    def records(
        self, after_seq: int = 0, type: str | tuple[str, ...] | None = None, up_to_seq: int | None = None
    ) -> Iterator[JournalRecord]:
        """Records behind `after_seq` in log order; of the given types; `data` is empty where it was trimmed."""
        return map(record_of, self.rows(after_seq, up_to_seq, type))

    def rows(
        self, after_seq: int = 0, up_to_seq: int | None = None, type: str | tuple[str, ...] | None = None
    ) -> Iterator[LogRow]:
        """As `records`, with the columns as they lie in the file."""
        # Up to what is there now: runs and single records are read in turn, and nobody may come in between.
        last = min(self.last_seq(), LAST_SEQ if up_to_seq is None else up_to_seq)
        query, types, wanted = _ROWS, None, ""
        if type is not None:
            types = (type,) if isinstance(type, str) else type
            # The literal condition lets SQLite use the index that leaves single events out.
            query += _OF_TYPES + ("" if set(types) & set(EVENT_TYPES) else " and" + NOT_EVENT)
            wanted = json.dumps(types)

        singles = self._pages(query + _PAGE, (wanted,)[: types is not None], PAGE_RECORDS, LogRow._make)
        if types is not None and not set(types) & set(RUN_TYPES):
            yield from singles(after_seq, last)
        else:
            yield from in_log_order(self._select, after_seq, last, singles, RunRow.rows, types)

    def event_bodies(
        self,
        after_seq: int,
        up_to_seq: int | None = None,
        subject: str | None = None,
        limit: int | None = None,
        types: tuple[str, ...] = EVENT_TYPES,
    ) -> Iterator[EventBody]:
        """Single events (after_seq, up_to_seq] in log order, of one feed and up to `limit`, where given."""
        last = min(self.last_seq(), LAST_SEQ if up_to_seq is None else up_to_seq)
        size = min(10 * PAGE_RECORDS, LAST_SEQ if limit is None else limit)
        singles = self._pages(_BODIES, (subject, json.dumps(types), size), size, EventBody._make)
        return islice(in_log_order(self._select, after_seq, last, singles, EventBody.of_run, types, subject), limit)

    def letter_rows(self, from_seq: int, to_seq: int) -> dict[int, list[LetterRow]]:
        """Dead letters of the records from_seq .. to_seq by record, as they lie in the file."""
        found: dict[int, list[LetterRow]] = {}
        for row in self._select(_LETTER_ROWS, (from_seq, to_seq)):
            found.setdefault(row[1], []).append(LetterRow._make(row))
        return found

    def rows_with_letters(
        self, after_seq: int = 0, up_to_seq: int | None = None
    ) -> Iterator[tuple[LogRow, tuple[LetterRow, ...]]]:
        """As `rows`, each with its dead letters; those of one record are in memory at a time."""
        known_to, having = after_seq, set[int]()
        for row in self.rows(after_seq, up_to_seq):
            if row.seq > known_to:
                # Not beyond this page of rows: what was appended since has letters that a look now would not see.
                known_to = row.seq + PAGE_RECORDS - 1
                having = {seq for (seq,) in self._select(_HAVING_LETTERS, (row.seq, known_to))}
            yield row, tuple(self.letter_rows(row.seq, row.seq)[row.seq]) if row.seq in having else ()

    def verify_chain(self, from_seq: int = 1, to_seq: int | None = None) -> int:
        """Recompute the chain over the records from_seq .. to_seq (default: all) and return how many there are.

        Raises:
            DamagedLog: A record or dead letter is missing, altered or out of place; names the first.
        """
        before = self.chain_at(from_seq - 1)
        if before is None:
            raise DamagedLog(f"record {from_seq - 1} is missing", seq=from_seq - 1, path=self.path)
        seq = from_seq
        for row, letters in self.rows_with_letters(from_seq - 1, to_seq):
            fault = fault_of_row(row, letters, before, seq)
            if fault is not None:
                raise DamagedLog(fault, seq=seq, path=self.path)
            before, seq = row.chain, seq + 1
        if to_seq is not None and seq <= to_seq:
            raise DamagedLog(f"record {seq} is missing", seq=seq, path=self.path)
        return seq - from_seq

    def verify_identities(self) -> int:
        """Look up every record by its identity and return how many there are.

        Raises:
            DamagedLog: The list of identities is not that of the records; names the first of them where it can.
        """
        return verify_identities(self._select)

    def check(self) -> list[str]:
        """Everything that is wrong with the file, in words; empty for a sound journal."""
        findings: list[str] = []
        try:
            findings += [f"SQLite: {row[0]}" for row in self._select("pragma quick_check(20)") if row[0] != "ok"]
            orphans = self._select("select nr from dead_letters where seq not in (select seq from records) limit 5")
            findings += [f"dead letter {nr} belongs to no record" for (nr,) in orphans]
            self.verify_chain()
            self.verify_identities()
        except DamagedLog as damage:
            findings.append(str(damage))
        except apsw.Error as error:
            findings.append(f"SQLite: {error}")
        return findings

    def _pages(
        self, query: str, wanted: tuple[Any, ...], size: int, made: Callable[[tuple[Any, ...]], T]
    ) -> Callable[[int, int], Iterator[T]]:
        """What reads the single records of (after, to], a page of `size` rows at a time."""

        def read(after: int, to: int) -> Iterator[T]:
            while page := self._select(query, (after, to, *wanted)):
                yield from map(made, page)
                if len(page) < size:
                    return
                after = page[-1][0]

        return read

    def _connection(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = open_read_only(self.path)
            self._opened.append(connection)
        return connection

    def _select(self, query: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection().execute(query, parameters).fetchall()
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise damaged(self.path, error) from error


def last_parts_seq(connection: apsw.Connection) -> int:
    """The place of the last record that bears accepted parts, as this connection sees it."""
    row = connection.execute(_LAST_PARTS, PART_BEARING).fetchone()
    return 0 if row is None else cast(int, row[0])


def record_of(row: LogRow) -> JournalRecord:
    """A row as a record; `data` is empty where the body was trimmed."""
    return JournalRecord(
        source=row.source,
        id=row.id,
        type=row.type,
        subject=row.subject,
        time=datetime.fromisoformat(row.time),
        dataschema=row.dataschema,
        data={} if row.data is None else json.loads(row.data),
        seq=row.seq,
        traceparent=row.traceparent,
        epoch=row.epoch,
        chain=row.chain.hex(),
    )
