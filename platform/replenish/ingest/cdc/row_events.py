"""Rows as entries of the journal, judged a batch at a time by their columns, without reading their bodies again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import polars as pl

from replenish.errors import FileFault
from replenish.ingest.cdc.pgoutput import Cell
from replenish.ingest.cdc.source_tables import RESERVED, TableShape
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import EventOperation, OfferedEvent
from replenish.ingest.mapping import IS_DELETE, RECEIVED_AT, UNMAPPED_JSON
from replenish.stores.journal_entry import EVENT_DELETE, EVENT_UPSERT, EventEntry

MAX_PLAIN_BODY_BYTES = 1 << 20
"""A longer body may hold a text that is too long for an event."""


class RowEvent(NamedTuple):
    """An entry to be judged; `cells` are the row's and the reserved ones, None where the body tells something else."""

    entry: EventEntry
    shape: TableShape
    cells: list[Cell] | None


def row_event(
    source: str, event_id: str, op: EventOperation, shape: TableShape, body: bytes, cells: list[Cell] | None
) -> RowEvent:
    """A row as an event of its feed."""
    bound = shape.bound
    kind = EVENT_UPSERT if op == "upsert" else EVENT_DELETE
    # An escape may stand for a control character, which events must not hold: the door's own reading finds out.
    if b"\\" in body or b"\x7f" in body or len(body) > MAX_PLAIN_BODY_BYTES:
        cells = None
    return RowEvent(EventEntry(source, event_id, kind, bound.feed.feed_id, bound.dataschema, body), shape, cells)


def judge_rows(events: Sequence[RowEvent], door: EventDoor, now: datetime) -> list[EventEntry]:
    """The entries in their order, refused ones as dead letters; the same as `EventDoor.judge` finds, only sooner."""
    entries = [event.entry for event in events]
    slow: list[int] = []
    by_shape: dict[TableShape, list[int]] = {}
    for nr, event in enumerate(events):
        if event.cells is None:
            slow.append(nr)
        else:
            by_shape.setdefault(event.shape, []).append(nr)
    for shape, places in by_shape.items():
        rows = [cells for nr in places if (cells := events[nr].cells) is not None]
        try:
            faults = shape.bound.judge.faults_of_frame(_frame(shape, rows, now), pl.Series("row_nr", places), now)
        except FileFault:
            slow += places
            continue
        # What is refused is judged again as any event is: one place words the letters.
        slow += faults
    slow.sort()
    for nr, entry in zip(slow, door.judge([_offered(entries[nr]) for nr in slow]), strict=True):
        entries[nr] = entry
    return entries


def _frame(shape: TableShape, rows: list[list[Cell]], now: datetime) -> pl.DataFrame:
    columns = dict(zip((*shape.relation.columns, *RESERVED), zip(*rows, strict=True), strict=True))
    wanted = [name for name in (*shape.bound.needed, *shape.bound.reserved) if name in columns]
    return pl.DataFrame([pl.Series(name, columns[name], dtype=pl.String()) for name in wanted]).with_columns(
        pl.lit(now, pl.Datetime("us", "UTC")).alias(RECEIVED_AT),
        pl.lit(False).alias(IS_DELETE),
        pl.lit(None, pl.String()).alias(UNMAPPED_JSON),
    )


def _offered(entry: EventEntry) -> OfferedEvent:
    op: EventOperation = "upsert" if entry.type == EVENT_UPSERT else "delete"
    return OfferedEvent(entry.source, entry.id, entry.subject, op, entry.body, None, entry.id)
