"""Follows one PostgreSQL database: read, decode, journal, and only then move the slot on.

The position is the slot's own, in the source. Whatever dies between journalling and moving on, the same changes are
read again, have the same ids and bodies, and are duplicates. The session reads from a temporary copy of the slot, which
dies with it: so the source reads on while we journal, and the slot itself never passes what is not durable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

import psycopg
from psycopg import sql

from replenish.contracts.doors import PostgresSettings
from replenish.errors import SourceFault
from replenish.ingest.cdc import long_transactions
from replenish.ingest.cdc.block_reader import BLOCK_MESSAGES, BlockCutter, BlockReader
from replenish.ingest.cdc.change_reader import ChangeReader, OrderNeeded
from replenish.ingest.cdc.journalling import Journalling
from replenish.ingest.cdc.known_rows import ReadLog
from replenish.ingest.cdc.long_transactions import LastVersions, pieces_of_transaction
from replenish.ingest.cdc.pgoutput import lsn_number
from replenish.ingest.cdc.row_events import RowBatch, RowEvent, batch_of
from replenish.ingest.cdc.slot import (
    READ,
    SlotLag,
    advance,
    connect,
    lag_seen_by,
    make_reading_slot,
    slot_state,
    source_faults,
)
from replenish.ingest.cdc.snapshot import take_snapshot
from replenish.ingest.cdc.source_checks import check_source
from replenish.ingest.cdc.source_tables import BoundTable
from replenish.ingest.events.event_door import EventDoor
from replenish.stores.failpoints import failpoint
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal_entry import EventEntry

READ_MESSAGES = 50_000
"""Messages asked for at a time; a transaction is never split, so the last one may bring more. Each reading starts at a
point of the source's log that it keeps further back, so few large ones cost less than many small ones."""
MAX_READINGS = 8
"""Of one pass; then the slot moves on. After a crash as much is read again at most."""
FETCH_ROWS = 5_000
FIRST_FETCH_ROWS = 500
FETCH_BYTES = 16 << 20
IDLE_ADVANCE_BYTES = 1 << 20
"""Without changes for us the slot still moves on when this much of other log was written: the source can drop it."""


class BatchReport(NamedTuple):
    """What one pass did: changes decoded, outcomes of their events, and whether a snapshot was taken first."""

    n_changes: int
    outcomes: Mapping[str, int]
    n_snapshot_rows: int | None = None


class PostgresFollower:
    """One followed database. Not safe to use twice at a time: the caller holds the door's lock.

    Args:
        settings: The door's settings.
        dsn: Where the source is; holds a secret, so it is never shown.
        tables: The bound tables by `schema.table`.
        door: Judges.
        group: Journals.
        read_log: All records of the log, for rows that a change does not name.
        clock: The instant.
        pause: Waits for some seconds, or less when asked to stop.
    """

    def __init__(
        self,
        settings: PostgresSettings,
        dsn: str,
        tables: Mapping[str, BoundTable],
        door: EventDoor,
        group: GroupCommit,
        read_log: ReadLog,
        clock: Callable[[], datetime],
        pause: Callable[[float], object],
    ) -> None:
        self._settings, self._dsn, self._tables = settings, dsn, tables
        self._door, self._group, self._read_log = door, group, read_log
        self._clock, self._pause = clock, pause
        self._connection: psycopg.Connection | None = None
        self._reading_slot = ""
        self._moved_to = 0

    @property
    def source(self) -> str:
        """What its events name as their source."""
        return f"postgres:{self._settings.name}"

    def close(self) -> None:
        """Give the session back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def lag(self) -> SlotLag:
        """How far behind the source the slot is.

        Raises:
            SourceFault: The source cannot be asked.
        """
        if self._connection is None:
            self.start()
        with self._faults():
            return lag_seen_by(self._session(), self._settings.slot, self._settings.publication, now=self._clock())

    def start(self) -> BatchReport:
        """Check the source; take the first snapshot where there is no slot yet.

        Raises:
            SourceFault: The source is not as needed, or threw away changes that were not read.
        """
        self.close()
        with self._faults():
            report = self._start()
            self._reading_slot = make_reading_slot(self._session(), self._settings.slot)
            return report

    def _start(self) -> BatchReport:
        self._connection = connect(self._dsn)
        published = check_source(self._connection, self._settings, self._tables)
        state = slot_state(self._connection, self._settings.slot)
        if state is None:
            with self._journalling() as journalling:
                args = (self._dsn, self._settings, self._tables, published, journalling, self._read_log, self.source)
                n_rows = take_snapshot(*args)
            return BatchReport(0, journalling.outcomes, n_rows)
        name = self._settings.slot
        if state.is_lost:
            raise SourceFault(
                "the source threw away changes that were not read; a new snapshot finds what changed: "
                f"SELECT pg_drop_replication_slot('{name}'); and follow again",
                slot=name,
            )
        if state.plugin != "pgoutput" or state.database != self._connection.info.dbname:
            raise SourceFault(
                "this slot belongs to somebody else: name another in doors.yaml", slot=name, database=state.database
            )
        return BatchReport(0, {})

    def read_batch(self) -> BatchReport:
        """Journal what was committed since the last pass, then move the slot on; all or, after an error, again.

        Raises:
            SourceFault: The stream cannot be read; StoreFull, WriterFailed, JournalOverloaded as the journal has them.
        """
        if self._connection is None:
            self.start()
        with self._faults():
            return self._read_batch(self._session())

    def _read_batch(self, connection: psycopg.Connection) -> BatchReport:
        horizon = self._written_lsn(connection)
        with self._journalling() as journalling:
            reader = self._reader(journalling)
            for _ in range(MAX_READINGS):
                if self._read(connection, reader, journalling) < READ_MESSAGES:
                    break
            journalling.wait()
        if reader.end_lsn is not None:
            failpoint("cdc.journalled")
            self._move(connection, reader.end_lsn)
            failpoint("cdc.advanced")
        elif horizon - self._moved_to >= IDLE_ADVANCE_BYTES:
            # All that was committed before was read, and none of it was ours.
            self._move(connection, horizon)
        return BatchReport(reader.n_changes, journalling.outcomes)

    def _reader(self, journalling: Journalling) -> BlockReader:
        def journal_now(events: list[RowEvent]) -> None:
            _journal_block(batch_of(events), [], journalling)
            journalling.wait()

        return BlockReader(ChangeReader(self.source, self._tables, self._door, self._read_log, journal_now))

    def _read(self, connection: psycopg.Connection, reader: BlockReader, journalling: Journalling) -> int:
        """Read on; returns the number of messages."""
        cutter, publication = BlockCutter(), sql.Identifier(self._settings.publication).as_string(connection)
        named = connection.cursor("replenish_changes", binary=True, scrollable=True)
        with connection.transaction(), named as cursor:
            cursor.execute(READ, (self._reading_slot, READ_MESSAGES, publication))
            for messages in _fetched(cursor, FETCH_ROWS):
                for block in cutter.cut(messages):
                    _journal_block(*reader.read(block), journalling)
                if cutter.holds(long_transactions.LONG_MESSAGES, long_transactions.LONG_BYTES):
                    self._read_long(cursor, cutter, reader, journalling)
            for block in cutter.cut([], is_last=True):
                _journal_block(*reader.read(block), journalling)
            return cursor.rownumber or 0

    def _read_long(
        self, cursor: psycopg.ServerCursor, cutter: BlockCutter, reader: BlockReader, journalling: Journalling
    ) -> None:
        """Read the transaction that waits, from its first message to its commit, in pieces."""
        start, state, versions = (cursor.rownumber or 0) - len(cutter.take_waiting()), reader.state, None
        behind: list[bytes] = []

        def pieces() -> Iterator[list[bytes]]:
            behind.clear()
            cursor.scroll(start, "absolute")
            return pieces_of_transaction(_fetched(cursor, BLOCK_MESSAGES), behind)

        try:
            if not reader.remembers_rows:
                versions = LastVersions(self._tables)
                for piece in pieces():
                    versions.see(reader.read(piece, is_whole=False)[0])
        except OrderNeeded:
            versions = None
        reader.go_back(state)
        if versions is None:
            # It removes rows that it does not name, or keeps values that it does not send: read as a whole.
            whole = [message for piece in pieces() for message in piece]
            _journal_block(*reader.read(whole), journalling)
        else:
            for piece in pieces():
                batch, dead = reader.read(piece, is_whole=False)
                _journal_block(versions.keep(batch), dead, journalling)
        for block in cutter.cut(behind):
            _journal_block(*reader.read(block), journalling)

    def _move(self, connection: psycopg.Connection, lsn: int) -> None:
        advance(connection, self._settings.slot, lsn, self._pause)
        self._moved_to = lsn

    def _written_lsn(self, connection: psycopg.Connection) -> int:
        row = connection.execute("select pg_current_wal_flush_lsn()::text").fetchone()
        return lsn_number(str(row[0])) if row is not None else 0

    def _session(self) -> psycopg.Connection:
        if self._connection is None:
            raise SourceFault("there is no session with the source")
        return self._connection

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """After any error the session is given back: the next pass begins with a new one and the checks."""
        try:
            with source_faults(self._settings.slot):
                yield
        except BaseException:
            self.close()
            raise

    def _journalling(self) -> Journalling:
        return Journalling(self._door, self._group, self._clock, self._pause)


def _fetched(cursor: psycopg.ServerCursor, most: int) -> Iterator[list[bytes]]:
    """Messages in lists of at most so many, fewer where they are large; of the same messages the same lists."""
    n_rows = min(FIRST_FETCH_ROWS, most)
    while rows := cursor.fetchmany(n_rows):
        messages = [data for (data,) in rows]
        n_bytes = sum(map(len, messages))
        yield messages
        n_rows = min(max(FETCH_BYTES * len(messages) // max(n_bytes, 1), 1), most)


def _journal_block(batch: RowBatch, dead: list[EventEntry], journalling: Journalling) -> None:
    if batch.entries or dead:
        failpoint("cdc.decoded")
        journalling.send(batch, dead)
