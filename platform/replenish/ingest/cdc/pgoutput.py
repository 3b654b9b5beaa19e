"""PostgreSQL's logical replication messages (`pgoutput`, protocol version 1, text values) as Python values.

Source: PostgreSQL documentation, "Logical Replication Message Formats".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from struct import Struct, error
from typing import Final, NamedTuple

from replenish.errors import SourceFault

POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
TIMESTAMPTZ = 1184
"""Type number, the same in every database."""
_BEGIN = Struct(">QqI")
_COMMIT = Struct(">BQQq")
_RELATION = Struct(">I")
_COLUMN = Struct(">Ii")
_COUNT = Struct(">H")
_CELL = Struct(">BI")
_TRUNCATE = Struct(">IB")
_TEXT, _NULL, _UNCHANGED = ord("t"), ord("n"), ord("u")
_PADDING = b"\0\0\0\0"
"""Behind each row message, so that kind and length of a cell are read in one go even where the last cell is null."""


class Unchanged:
    """The place of a large value that an update did not touch: PostgreSQL does not send it."""

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged()
Cell = str | None | Unchanged


@dataclass(frozen=True)
class Relation:
    """A table as it was when the changes behind this message were made."""

    oid: int
    schema: str
    table: str
    identity: str
    """Replica identity: `d` primary key, `f` the full row, `i` an index, `n` nothing."""
    columns: tuple[str, ...]
    identity_columns: tuple[str, ...]
    """Columns that old rows give: of identity `f` all of them."""
    instant_places: tuple[int, ...] = ()
    """Places of the columns of type `timestamptz`."""

    @property
    def name(self) -> str:
        """`schema.table`, as `doors.yaml` writes it."""
        return f"{self.schema}.{self.table}"


class Begin(NamedTuple):
    """A transaction begins; `commit_lsn` is where it was committed, later than everything committed before it."""

    commit_lsn: int
    commit_time: datetime


class Commit(NamedTuple):
    """The transaction ends; what lies before `end_lsn` is complete."""

    commit_lsn: int
    end_lsn: int


class RowChange(NamedTuple):
    """A row was inserted (`I`), updated (`U`) or deleted (`D`); cells in column order."""

    kind: str
    relation: Relation
    old: list[Cell] | None
    """The row before. Where `is_old_key`, only identity columns are given and the others are None."""
    is_old_key: bool
    new: list[Cell] | None


class Truncation(NamedTuple):
    """All rows of these tables were removed."""

    relations: tuple[Relation, ...]


Message = Begin | Commit | Relation | RowChange | Truncation


class PgoutputDecoder:
    """Decodes one stream of messages in order; knows the relations that went before."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}

    def decode(self, message: bytes) -> Message | None:
        """The message as a value; None for kinds that carry no rows (types, origins).

        Raises:
            SourceFault: The message breaks the protocol, or is of a relation that was never described.
        """
        kind = message[:1]
        try:
            if kind == b"I":
                return self._row(message, "I")
            if kind == b"U":
                return self._row(message, "U")
            if kind == b"D":
                return self._row(message, "D")
            return self._other(kind, message)
        except (error, IndexError, ValueError, OverflowError) as fault:
            raise SourceFault(f"a replication message breaks the protocol: {fault}", start=message[:40]) from fault

    def _other(self, kind: bytes, message: bytes) -> Message | None:
        if kind == b"B":
            lsn, micros, _ = _BEGIN.unpack_from(message, 1)
            return Begin(lsn, POSTGRES_EPOCH + timedelta(microseconds=micros))
        if kind == b"C":
            _, lsn, end, _ = _COMMIT.unpack_from(message, 1)
            return Commit(lsn, end)
        if kind == b"R":
            relation = _relation(message)
            self._relations[relation.oid] = relation
            return relation
        if kind == b"T":
            return self._truncation(message)
        if kind in (b"Y", b"O", b"M"):
            return None
        raise SourceFault("a replication message of an unknown kind", kind=kind)

    def _row(self, message: bytes, kind: str) -> RowChange:
        padded = message + _PADDING
        relation = self._known(_RELATION.unpack_from(message, 1)[0])
        mark, place = message[5], 6
        old: list[Cell] | None = None
        is_old_key = mark == 75
        if mark != 78:
            if mark not in (75, 79) or kind == "I":
                raise ValueError(f"row marker {mark}")
            old, place = _cells(padded, place)
            if kind == "D":
                _whole(message, place, relation, old)
                return RowChange(kind, relation, old, is_old_key, None)
            if message[place] != 78:
                raise ValueError(f"row marker {message[place]}")
            place += 1
        elif kind == "D":
            raise ValueError("a delete without the old row")
        new, place = _cells(padded, place)
        _whole(message, place, relation, new)
        return RowChange(kind, relation, old, is_old_key, new)

    def _truncation(self, message: bytes) -> Truncation:
        count, _ = _TRUNCATE.unpack_from(message, 1)
        oids = (_RELATION.unpack_from(message, 6 + 4 * nr)[0] for nr in range(count))
        return Truncation(tuple(self._known(oid) for oid in oids))

    def _known(self, oid: int) -> Relation:
        relation = self._relations.get(oid)
        if relation is None:
            raise SourceFault("a change of a relation that was never described", oid=oid)
        return relation


def lsn_text(lsn: int) -> str:
    """A log position as PostgreSQL writes it: `16/B374D848`."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lsn_number(text: str) -> int:
    """The number of a log position's text; ValueError where it is none."""
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def _cells(padded: bytes, place: int) -> tuple[list[Cell], int]:
    """The cells of the row that starts at `place`, and the place behind it."""
    count = _COUNT.unpack_from(padded, place)[0]
    place += 2
    cells: list[Cell] = []
    append, unpack = cells.append, _CELL.unpack_from
    for _ in range(count):
        kind, length = unpack(padded, place)
        if kind == _TEXT:
            start = place + 5
            place = start + length
            append(str(padded[start:place], "utf-8"))
        else:
            place += 1
            if kind == _NULL:
                append(None)
            elif kind == _UNCHANGED:
                append(UNCHANGED)
            else:
                raise ValueError(f"cell kind {kind}")
    return cells, place


def _whole(message: bytes, place: int, relation: Relation, cells: list[Cell]) -> None:
    if place != len(message):
        raise ValueError(f"row ends at {place} of {len(message)} bytes")
    if len(cells) != len(relation.columns):
        raise ValueError(f"{len(cells)} cells for {len(relation.columns)} columns")


def _relation(message: bytes) -> Relation:
    oid = _RELATION.unpack_from(message, 1)[0]
    schema, place = _name(message, 5)
    table, place = _name(message, place)
    identity, count = chr(message[place]), _COUNT.unpack_from(message, place + 1)[0]
    place += 3
    columns, identity_columns, instants = [], [], []
    for nr in range(count):
        is_identity = message[place] & 1
        name, place = _name(message, place + 1)
        if _COLUMN.unpack_from(message, place)[0] == TIMESTAMPTZ:
            instants.append(nr)
        place += _COLUMN.size
        columns.append(name)
        if is_identity:
            identity_columns.append(name)
    # Of tables of the system catalog the schema is sent empty.
    told = tuple(identity_columns)
    return Relation(oid, schema or "pg_catalog", table, identity, tuple(columns), told, tuple(instants))


def _name(message: bytes, place: int) -> tuple[str, int]:
    end = message.index(b"\0", place)
    return str(message[place:end], "utf-8"), end + 1
