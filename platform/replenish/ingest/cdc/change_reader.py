"""Messages of the change stream as events: ids, bodies, key changes, removed tables, and what cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any, NamedTuple

import msgspec

from replenish.ingest.cdc.known_rows import KnownRows, ReadLog, known_rows
from replenish.ingest.cdc.pgoutput import (
    POSTGRES_EPOCH,
    UNCHANGED,
    Begin,
    Cell,
    Commit,
    PgoutputDecoder,
    Relation,
    RowChange,
    Truncation,
    lsn_text,
)
from replenish.ingest.cdc.row_events import RowEvent, row_event
from replenish.ingest.cdc.source_tables import BoundTable, TableShape, Told, ValueNotSent, key_digest, removed_body
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import EventOperation
from replenish.stores.journal_entry import EVENT_UPSERT, EventEntry

MAX_REMEMBERED_ROWS = 1_000_000
"""Rows of one table kept to fill in values that were not sent; larger tables need REPLICA IDENTITY FULL."""


class OrderNeeded(Exception):
    """A change is about rows as they were, and not all that went before was read here."""


class ReadState(NamedTuple):
    """Where reading stands; to go back to."""

    begin: Begin
    nr: int
    end_lsn: int | None
    n_changes: int
    n_dead: int


class ChangeReader:
    """Reads one pass of the change stream change by change, from the slot's position on.

    It is given blocks: whole transactions, or long pieces of a very long one. Of the versions of a row within a block
    and a transaction only the last becomes an event.
    """

    def __init__(
        self,
        source: str,
        tables: Mapping[str, BoundTable],
        door: EventDoor,
        read_log: ReadLog,
        journal_now: Callable[[list[RowEvent]], None],
    ) -> None:
        """`journal_now` makes these events durable, and all that went before; asked before the log is searched."""
        self.source = source
        self._tables, self._door = tables, door
        self._read_log, self._journal_now = read_log, journal_now
        self._decoder = PgoutputDecoder()
        self._shapes: dict[int, TableShape | None] = {}
        self._remembered: dict[str, KnownRows] = {}
        self._told: dict[tuple[TableShape, str], Told] = {}
        self._places: dict[tuple[str, Any], tuple[int, bool]] = {}
        self._begin = Begin(0, POSTGRES_EPOCH)
        self._lsn, self._time, self._nr = "0/0", "", 0
        self._events: list[RowEvent | None] = []
        self._open_from = 0
        self._dead: list[EventEntry] = []
        self._sees_all = True
        self.end_lsn: int | None = None
        """Behind the last transaction that was read as a whole."""
        self.n_changes = 0

    @property
    def remembers_rows(self) -> bool:
        """Whether it keeps rows of a table in mind: then it has to see every change."""
        return bool(self._remembered)

    @property
    def state(self) -> ReadState:
        """Where reading stands."""
        return ReadState(self._begin, self._nr, self.end_lsn, self.n_changes, len(self._dead))

    def go_to(self, state: ReadState) -> None:
        """Stand somewhere else: forward, where others read the changes between, or back to read them again."""
        self._events.clear()
        self._start_transaction(state.begin)
        self._nr, self.end_lsn, self.n_changes = state.nr, state.end_lsn, state.n_changes
        del self._dead[state.n_dead :]

    def shape_of(self, oid: int) -> TableShape | None:
        """The table of a relation; None where nobody follows it."""
        return self._shapes.get(oid)

    def read(self, messages: Iterable[bytes], *, sees_all: bool = True) -> list[RowEvent]:
        """Events of a block, or of whole transactions of it, in order.

        Args:
            messages: Of the protocol.
            sees_all: Whether no change since the last call, or in between, is read by somebody else.

        Raises:
            SourceFault: A message breaks the protocol.
            OrderNeeded: It has to see all; go back to the state before and read the whole block.
        """
        self._sees_all, self._open_from = sees_all, 0
        self._places.clear()
        for data in messages:
            self._take(data)
        events = [event for event in self._events if event is not None]
        self._events.clear()
        return events

    def take_dead(self) -> list[EventEntry]:
        """What could not become an event since the last call."""
        dead, self._dead = self._dead, []
        return dead

    def _take(self, data: bytes) -> None:
        message = self._decoder.decode(data)
        if isinstance(message, RowChange):
            self._change(message)
        elif isinstance(message, Begin):
            self._start_transaction(message)
        elif isinstance(message, Commit):
            self.end_lsn = message.end_lsn
        elif isinstance(message, Relation):
            bound = self._tables.get(message.name)
            self._shapes[message.oid] = None if bound is None else TableShape(bound, message)
        elif isinstance(message, Truncation):
            for relation in message.relations:
                self._truncate(relation)

    def _start_transaction(self, begin: Begin) -> None:
        self._begin = begin
        self._lsn, self._time, self._nr = lsn_text(begin.commit_lsn), begin.commit_time.isoformat(), 0
        self._open_from = len(self._events)
        self._told.clear()
        self._places.clear()

    def _change(self, change: RowChange) -> None:
        self.n_changes += 1
        event_id = f"{self._lsn}:{self._nr}"
        self._nr += 1
        shape = self._shapes.get(change.relation.oid)
        if shape is None or shape.missing or (shape.unidentified and change.kind != "I"):
            self._refuse(event_id, change, shape)
            return
        new = None if change.new is None else shape.read(change.new)
        old = None if change.old is None else shape.read(change.old)
        if new is None:
            self._remove(shape, event_id, old or [], is_key=change.is_old_key)
            return
        is_new = change.kind == "I"
        if old is not None:
            if not change.is_old_key and UNCHANGED in new:
                new = [before if cell is UNCHANGED else cell for before, cell in zip(old, new, strict=True)]
            if shape.key_of(old) != shape.key_of(new):
                self._remove(shape, event_id + ".old", old, is_key=change.is_old_key)
                is_new = True
        self._deliver(shape, event_id, change, new, is_new=is_new)

    def _deliver(self, shape: TableShape, event_id: str, change: RowChange, new: list[Cell], *, is_new: bool) -> None:
        told = self._told_of(shape, change.kind)
        try:
            body = shape.body(new, told.suffix)
        except ValueNotSent:
            new = self._filled(shape, new)
            if UNCHANGED in new:
                names = ", ".join(shape.not_sent(new))
                rule = f"{names}: the source did not send it and the log does not have it: set REPLICA IDENTITY FULL"
                self._letter(event_id, shape.bound.feed.feed_id, "toast_unknown", _raw(change), rule)
                return
            body = shape.body(new, told.suffix)
        self._offer(shape, event_id, "upsert", shape.key_of(new), body, new + told.values, is_new=is_new)

    def _remove(self, shape: TableShape, event_id: str, old: list[Cell], *, is_key: bool) -> None:
        suffix = self._told_of(shape, "D").suffix
        body = shape.delete_body(old, suffix, self._begin.commit_time, is_key=is_key)
        self._offer(shape, event_id, "delete", shape.key_of(old), body)

    def _truncate(self, relation: Relation) -> None:
        self.n_changes += 1
        nr, self._nr = self._nr, self._nr + 1
        shape = self._shapes.get(relation.oid)
        if shape is None:
            return
        self._need_all()
        # No row is named, so what the log knows of the table is taken back row by row.
        known = self._known(shape.bound, nr)
        suffix = self._told_of(shape, "T").suffix
        for key, body in list(known.rows.items()):
            row = {name: value for name, value in msgspec.json.decode(body).items() if not name.startswith("__")}
            removed = removed_body(row, shape.bound, self._begin.commit_time)[:-1] + suffix
            self._offer(shape, f"{self._lsn}:{nr}.{key_digest(key)}", "delete", key, removed)

    def _offer(
        self,
        shape: TableShape,
        event_id: str,
        op: EventOperation,
        key: Any,
        body: bytes,
        cells: list[Cell] | None = None,
        *,
        is_new: bool = False,
    ) -> None:
        bound = shape.bound
        if self._remembered and bound.table in self._remembered:
            self._remembered[bound.table].take(key, body if op == "upsert" else None)
        if shape.is_known_by_commit:
            # Nobody ever sees a row as it was between two statements of one transaction.
            places = self._places
            # By table, not by shape: a table may be described anew within a transaction.
            named = (bound.table, key)
            if named in places:
                place, is_new = places[named]
                self._events[place] = None
                if is_new and op == "delete":
                    del places[named]
                    return
            places[named] = (len(self._events), is_new)
        self._events.append(row_event(self.source, event_id, op, shape, body, cells, is_new=is_new))

    def _filled(self, shape: TableShape, new: list[Cell]) -> list[Cell]:
        """The row with the last known values in place of those that were not sent."""
        rows = self._known(shape.bound, self._nr - 1).rows
        body = rows.get(shape.key_of(new))
        last = {} if body is None else msgspec.json.decode(body)
        names = shape.relation.columns
        return [last.get(name, UNCHANGED) if cell is UNCHANGED else cell for name, cell in zip(names, new, strict=True)]

    def _known(self, bound: BoundTable, nr: int) -> KnownRows:
        known = self._remembered.get(bound.table)
        if known is None:
            self._need_all()
            # What is refused is not known: so whole transactions are judged first, and only the open one is not.
            self._journal_now([event for event in self._events[: self._open_from] if event is not None])
            self._events[: self._open_from] = repeat(None, self._open_from)
            known = known_rows(self._read_log, self.source, bound, (self._begin.commit_lsn, nr))
            for event in self._events:
                # The open transaction's own events are not in the log yet.
                if event is not None and event.shape.bound is bound:
                    _take_offered(known, bound, event.entry)
            if len(known.rows) <= MAX_REMEMBERED_ROWS:
                self._remembered[bound.table] = known
        return known

    def _need_all(self) -> None:
        if not self._sees_all:
            raise OrderNeeded

    def _told_of(self, shape: TableShape, op: str) -> Told:
        told = self._told.get((shape, op))
        if told is None:
            told = self._told[shape, op] = shape.told(op, self._time, self._lsn)
        return told

    def _refuse(self, event_id: str, change: RowChange, shape: TableShape | None) -> None:
        name = change.relation.name
        if shape is None:
            rule = f"doors.yaml gives table {name} no feed"
            self._letter(event_id, name, "unknown_feed", _raw(change), rule)
            return
        if shape.missing:
            rule = f"table {name} has no column {', '.join(shape.missing)}, which its feed reads"
        else:
            rule = f"the replica identity of {name} must hold {', '.join(shape.unidentified)}: set it to FULL"
        self._letter(event_id, shape.bound.feed.feed_id, "schema_drift", _raw(change), rule)

    def _letter(self, event_id: str, feed_id: str, reason: str, raw: bytes, rule: str) -> None:
        self._dead.append(self._door.dead(self.source, event_id, feed_id, raw, reason, None, rule, event_id))


def _take_offered(known: KnownRows, bound: BoundTable, entry: EventEntry) -> None:
    row = msgspec.json.decode(entry.body)
    key = tuple(row.get(name) for name in bound.key_columns)
    known.take(key, entry.body if entry.type == EVENT_UPSERT else None)


def _raw(change: RowChange) -> bytes:
    """A change that is no event, in words that keep all it said."""
    named = change.relation.columns
    sides = {"old": change.old, "new": change.new}
    rows = {
        side: {n: c for n, c in zip(named, cells, strict=True) if c is not UNCHANGED}
        for side, cells in sides.items()
        if cells is not None
    }
    return msgspec.json.encode({"table": change.relation.name, "kind": change.kind, **rows})
