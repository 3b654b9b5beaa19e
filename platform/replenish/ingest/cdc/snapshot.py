"""The first snapshot: every row there is at one point of the source's log, and a slot that goes on from that point.

The slot is temporary while rows are read, and is copied to its lasting name when all of them are journalled. So the
lasting slot is there exactly when the snapshot is complete: a process that dies in between leaves nothing behind, and
the next one starts over. Rows that an earlier snapshot delivered and that are gone since are taken back at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from replenish.contracts.doors import PostgresSettings
from replenish.errors import SourceFault
from replenish.ingest.cdc.journalling import Journalling
from replenish.ingest.cdc.known_rows import KnownRows, ReadLog, known_rows
from replenish.ingest.cdc.pgoutput import Cell, Relation, lsn_number
from replenish.ingest.cdc.row_events import RowEvent, batch_of, row_event
from replenish.ingest.cdc.slot import connect, temporary_name
from replenish.ingest.cdc.source_checks import PublishedTable
from replenish.ingest.cdc.source_tables import BoundTable, TableShape, key_digest, removed_body
from replenish.stores.failpoints import failpoint

PIECE_ROWS = 10_000
"""Judged together, and durable before the next are read."""


def take_snapshot(
    dsn: str,
    settings: PostgresSettings,
    tables: Mapping[str, BoundTable],
    published: Mapping[str, PublishedTable],
    journalling: Journalling,
    read_log: ReadLog,
    source: str,
) -> int:
    """Journal every row of the tables and make the slot; returns the number of rows read.

    Raises:
        SourceFault: The source cannot make a slot (its limit is reached, or the user may not).
    """
    with connect(dsn) as connection, connect(dsn, is_replication=True) as maker:
        # Before the slot: whatever commits later than the snapshot also commits later than this instant, so a newer
        # version of a row never has an older knowledge time.
        known_at = _value(connection, "select clock_timestamp()")
        temporary = temporary_name(settings.slot, "snap", maker.info.backend_pid)
        point, snapshot = _make_slot(maker, temporary)
        n_rows = 0
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read, read only")
            connection.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot)))
            for name, bound in tables.items():
                reading = _TableReading(bound, published[name], source, point, known_at)
                known = known_rows(read_log, source, bound, (lsn_number(point), -1))
                n_rows += reading.journal(connection, journalling, known)
        journalling.wait()
        failpoint("cdc.snapshot_done")
        # A replication session takes no parameters.
        copied = sql.SQL("select pg_copy_logical_replication_slot({}, {}, false)")
        maker.execute(copied.format(sql.Literal(temporary), sql.Literal(settings.slot)))
    return n_rows


def _make_slot(maker: psycopg.Connection, name: str) -> tuple[str, str]:
    """Log position and name of the exported snapshot, which lives until `maker` runs its next statement."""
    command = sql.SQL("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')")
    try:
        row = maker.execute(command.format(sql.Identifier(name))).fetchone()
    except (psycopg.errors.ConfigurationLimitExceeded, psycopg.errors.InsufficientPrivilege) as error:
        raise SourceFault(f"the source makes no replication slot: {str(error).strip()}", slot=name) from error
    if row is None:
        raise SourceFault("the source made no replication slot", slot=name)
    return str(row[1]), str(row[2])


def _value(connection: psycopg.Connection, query: str) -> Any:
    row = connection.execute(query).fetchone()  # type: ignore[arg-type]
    return row[0] if row is not None else None


class _TableReading:
    """One table at the snapshot's point."""

    def __init__(self, bound: BoundTable, table: PublishedTable, source: str, point: str, known_at: datetime) -> None:
        self._bound, self._table, self._source = bound, table, source
        self._prefix = f"snapshot:{point}:{bound.table}:"
        self._known_at = known_at
        relation = Relation(0, table.schema, table.table, "f", table.columns, table.columns, table.instant_places)
        self._shape = TableShape(bound, relation)
        self._told = self._shape.told("S", known_at.isoformat(), point)
        self._removed_suffix = self._shape.told("D", known_at.isoformat(), point).suffix

    def journal(self, connection: psycopg.Connection, journalling: Journalling, known: KnownRows) -> int:
        """Send all rows, then take back those of `known` that are not among them."""
        n_rows, piece = 0, []
        for cells in self._rows(connection):
            n_rows, row = n_rows + 1, self._shape.read(cells)
            known.take(self._shape.key_of(row), None)
            body = self._shape.body(row, self._told.suffix)
            piece.append(self._event(key_digest(row), "upsert", body, row + self._told.values))
            if len(piece) == PIECE_ROWS:
                _journal_piece(piece, journalling)
                piece = []
        gone = [
            self._event(f"{key_digest(key)}.gone", "delete", self._removed(b), None) for key, b in known.rows.items()
        ]
        _journal_piece([*piece, *gone], journalling)
        return n_rows

    def _rows(self, connection: psycopg.Connection) -> Iterator[tuple[str | None, ...]]:
        """Text of every cell as the change stream would send it, in key order, without holding the table in memory."""
        names = sql.SQL(", ").join(sql.Identifier(name) for name in self._table.columns)
        key = self._bound.key_columns or self._table.columns
        query = sql.SQL("copy (select {} from {} {} where {} order by {}) to stdout").format(
            names,
            # Children of a table that is no partition root are published on their own.
            sql.SQL("" if self._table.is_partitioned else "only"),
            sql.Identifier(self._table.schema, self._table.table),
            # The publication's own condition, as the source's catalog prints it.
            sql.SQL(self._table.row_filter or "true"),  # type: ignore[arg-type]
            sql.SQL(", ").join(sql.Identifier(name) for name in key),
        )
        with connection.cursor().copy(query) as copy:
            yield from copy.rows()

    def _event(self, digest: str, op: Any, body: bytes, cells: list[Cell] | None) -> RowEvent:
        return row_event(self._source, self._prefix + digest, op, self._shape, body, cells)

    def _removed(self, body: bytes) -> bytes:
        row = {name: value for name, value in msgspec.json.decode(body).items() if not name.startswith("__")}
        return removed_body(row, self._bound, self._known_at)[:-1] + self._removed_suffix


def _journal_piece(piece: list[RowEvent], journalling: Journalling) -> None:
    journalling.send(batch_of(piece))
    journalling.wait()
    failpoint("cdc.snapshot_batch")
