"""What the log already knows of a source's table: needed where a change does not name the rows it is about."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from replenish.ingest.cdc.pgoutput import lsn_number
from replenish.ingest.cdc.source_tables import BoundTable
from replenish.stores.journal_entry import EVENT_DELETE, EVENT_UPSERT, JournalRecord

_POSITION = re.compile(r"(snapshot:)?([0-9A-F]+/[0-9A-F]+):(?(1)|([0-9]+))")
Position = tuple[int, int]
"""Log position of the commit and number of the change within it; a snapshot stands before all changes behind it."""
Key = tuple[str | None, ...]
ReadLog = Callable[[], Iterable[JournalRecord]]
"""All records of the log in order, bodies included."""


@dataclass
class KnownRows:
    """Rows of one table that were delivered and not taken back, in the order of their last change."""

    rows: dict[Key, bytes] = field(default_factory=dict)
    """By values of the key columns: the last body delivered."""

    def take(self, key: Key, body: bytes | None) -> None:
        """A row was delivered, or (None) taken back."""
        # Taken out first: a dict keeps the place of a key's first value.
        self.rows.pop(key, None)
        if body is not None:
            self.rows[key] = body


def known_rows(read_log: ReadLog, source: str, table: BoundTable, before: Position) -> KnownRows:
    """Fold the log of a table up to, and without, one position: the same answer however often the stream is read again.

    Memory grows with the number of rows the table has.
    """
    known, place = KnownRows(), (0, 0)
    for record in read_log():
        if record.source != source or record.type not in (EVENT_UPSERT, EVENT_DELETE):
            continue
        if record.data.get("__table") != table.table:
            continue
        # A letter that was offered again has an id of its own; it counts where it stands.
        place = position_of(record.id) or place
        if place >= before:
            continue
        key = tuple(_text(record.data.get(name)) for name in table.key_columns)
        known.take(key, msgspec.json.encode(record.data) if record.type == EVENT_UPSERT else None)
    return known


def position_of(event_id: str) -> Position | None:
    """Where the change of an event id stands: `<lsn>:<nr>[.<more>]`, or or `snapshot:<lsn>:<table>:<row>`."""
    found = _POSITION.match(event_id)
    if found is None:
        return None
    snapshot, lsn, nr = found.groups()
    return lsn_number(lsn), -1 if snapshot is not None else int(nr)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
