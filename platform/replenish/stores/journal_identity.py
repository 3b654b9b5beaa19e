"""Who is in the log already: one entry per record, (source, id) to its place, whatever way the record is kept.

The primary key is what makes a delivery unique: an id is taken once, by whichever process comes first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

import apsw

from replenish.stores.journal_chain import LogRow

Select = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]
"""Runs one query, on a reader's or the writer's connection."""

IDS_PER_STATEMENT = 128
"""Long enough that Python gets its lock back seldom, short enough that SQLite keeps the statement prepared."""
FIND_SEQ = "select i.seq from sources s join identities i on i.source_nr = s.nr where s.name = ? and i.id = ?"
_PROBE = (
    "with offered(s, i) as (select json_extract(value, '$[0]'), json_extract(value, '$[1]') from json_each(?))"
    " select s, i, seq from offered cross join sources on name = s cross join identities on source_nr = nr and id = i"
)
_INSERT_PACKED = (
    "insert into identities (source_nr, id, seq) select nr, offered.value, ?2 + offered.key"
    " from sources cross join json_each(?3) offered where name = ?1"
)
_MOVE = "update identities set seq = ? where id = ? and source_nr = (select nr from sources where name = ?)"
_INSERT_ROW = (
    "insert into records (seq, source, id, type, subject, time, dataschema, data, traceparent, epoch, body_digest,"
    " chain) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def insert_record_row(connection: apsw.Connection, row: LogRow) -> None:
    """Insert a whole record, linked by its maker, with its identity.

    Raises:
        apsw.ConstraintError: Its place or its identity is taken.
    """
    insert_identities(connection, row.source, [row.id], row.seq)
    connection.execute(_INSERT_ROW, row)


def insert_repeated_row(connection: apsw.Connection, row: LogRow) -> None:
    """Insert a record whose identity an earlier one has, and keeps: both were acknowledged, while the list of
    identities was damaged.

    Raises:
        apsw.ConstraintError: Its place is taken.
    """
    ((first,),) = connection.execute(FIND_SEQ, (row.source, row.id)).fetchall()
    connection.execute(_MOVE, (row.seq, row.id, row.source))
    connection.execute(_INSERT_ROW, row)
    connection.execute(_MOVE, (first, row.id, row.source))


def insert_identities(connection: apsw.Connection, source: str, ids: Sequence[str], first_seq: int) -> None:
    """Take the ids of one source for the places from `first_seq` on.

    Raises:
        apsw.ConstraintError: One of them is taken; the caller has to roll back.
    """
    number = _source_nr(connection, source)
    for start in range(0, len(ids), IDS_PER_STATEMENT):
        some = ids[start : start + IDS_PER_STATEMENT]
        connection.execute(_insert_of(len(some)), (number, first_seq + start, *some))


def insert_packed_identities(
    connection: apsw.Connection, source: str, offers: Sequence[tuple[Sequence[str], bytes]], first_seq: int
) -> None:
    """As `insert_identities`, one statement for all: Python's lock is given up and taken again at each.

    Args:
        offers: Ids, and the same as a JSON array; behind one another in the log.

    Raises:
        apsw.ConstraintError: One of them is taken; the caller has to roll back.
    """
    packed = b"[" + b",".join([array[1:-1] for _, array in offers]) + b"]"
    if b"\\" in packed:
        # What is escaped SQLite may read otherwise.
        insert_identities(connection, source, [id_ for ids, _ in offers for id_ in ids], first_seq)
        return
    connection.execute(_INSERT_PACKED, (source, first_seq, packed.decode()))
    if connection.changes() == 0:
        _source_nr(connection, source)
        connection.execute(_INSERT_PACKED, (source, first_seq, packed.decode()))


def known_places(connection: apsw.Connection, identities: list[tuple[str, str]]) -> dict[int, tuple[str, str]]:
    """Place to (source, id) of those that are in the log."""
    rows = connection.execute(_PROBE, (json.dumps(identities),))
    return {seq: (source, id_) for source, id_, seq in rows}


def _source_nr(connection: apsw.Connection, name: str) -> int:
    select = "select nr from sources where name = ?"
    rows = connection.execute(select, (name,)).fetchall()
    if not rows:
        connection.execute("insert into sources (name) values (?)", (name,))
        rows = connection.execute(select, (name,)).fetchall()
    return cast(int, rows[0][0])


@lru_cache(maxsize=IDS_PER_STATEMENT)
def _insert_of(n: int) -> str:
    """A statement of n rows; the source and the first place are given once."""
    rows = ", ".join(f"(?1, ?{nr + 3}, ?2 + {nr})" for nr in range(n))
    return f"insert into identities (source_nr, id, seq) values {rows}"  # noqa: S608 - numbered parameters only
