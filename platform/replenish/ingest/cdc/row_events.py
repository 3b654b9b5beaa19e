"""Rows as entries of the journal, judged a batch at a time by their columns, without reading their bodies again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
    is_new: bool = False
    """Whether there was no such row before its transaction."""


class RowColumns(NamedTuple):
    """Rows of one shape as columns of text (those its feed reads), and their places in the batch."""

    shape: TableShape
    frame: pl.DataFrame
    places: pl.Series
    is_delete: bool = False


@dataclass(frozen=True)
class RowBatch:
    """Entries in order, still to be judged: by columns, by the cells of an event, or (the others) by their bodies."""

    entries: Sequence[EventEntry]
    columns: list[RowColumns] = field(default_factory=list)
    events: dict[int, RowEvent] = field(default_factory=dict)
    """By place in the batch, those that have cells."""
    by_body: list[int] = field(default_factory=list)
    new: list[int] = field(default_factory=list)
    """Places of rows that were not there before their transaction."""

    def of(self, stays: Sequence[bool]) -> RowBatch:
        """Those entries at whose place there is True."""
        places = [nr for nr, is_kept in enumerate(stays) if is_kept]
        now_at = {nr: place for place, nr in enumerate(places)}
        columns = []
        for shape, frame, row_nrs, is_delete in self.columns:
            kept = pl.Series([stays[nr] for nr in row_nrs], dtype=pl.Boolean())
            row_nrs = pl.Series("row_nr", [now_at[nr] for nr in row_nrs.filter(kept)], dtype=pl.Int64())
            columns.append(RowColumns(shape, frame.filter(kept), row_nrs, is_delete))
        entries = list(self.entries)
        return RowBatch(
            [entries[nr] for nr in places],
            columns,
            {now_at[nr]: event for nr, event in self.events.items() if stays[nr]},
            [now_at[nr] for nr in self.by_body if stays[nr]],
            [now_at[nr] for nr in self.new if stays[nr]],
        )


def batch_of(events: Sequence[RowEvent]) -> RowBatch:
    """Single events as a batch."""
    with_cells = {nr: event for nr, event in enumerate(events) if event.cells is not None}
    by_body = [nr for nr, event in enumerate(events) if event.cells is None]
    new = [nr for nr, event in enumerate(events) if event.is_new]
    return RowBatch([event.entry for event in events], [], with_cells, by_body, new)


def row_event(
    source: str,
    event_id: str,
    op: EventOperation,
    shape: TableShape,
    body: bytes,
    cells: list[Cell] | None,
    *,
    is_new: bool = False,
) -> RowEvent:
    """A row as an event of its feed."""
    bound = shape.bound
    kind = EVENT_UPSERT if op == "upsert" else EVENT_DELETE
    entry = EventEntry(source, event_id, kind, bound.feed.feed_id, bound.dataschema, body)
    return RowEvent(entry, shape, None if is_read_again(body) else cells, is_new)


def is_read_again(body: bytes) -> bool:
    """Whether the door's own reading has to find out if this is a sound event.

    An escape may stand for a control character, which events must not hold.
    """
    return b"\\" in body or b"\x7f" in body or len(body) > MAX_PLAIN_BODY_BYTES


def judge_rows(batch: RowBatch, door: EventDoor, now: datetime) -> Sequence[EventEntry]:
    """The entries in their order, refused ones as dead letters; the same as `EventDoor.judge` finds, only sooner."""
    slow = list(batch.by_body)
    for shape, frame, places, is_delete in [*batch.columns, *_columns_of(batch.events)]:
        try:
            # What is refused is judged again as any event is: one place words the letters.
            slow += shape.bound.judge.faults_of_frame(_offered_frame(frame, now, is_delete=is_delete), places, now)
        except FileFault:
            slow += places.to_list()
    if not slow:
        return batch.entries
    slow.sort()
    entries = list(batch.entries)
    for nr, entry in zip(slow, door.judge([_offered(entries[nr]) for nr in slow]), strict=True):
        entries[nr] = entry
    return entries


def _columns_of(events: dict[int, RowEvent]) -> list[RowColumns]:
    by_shape: dict[TableShape, list[int]] = {}
    for nr, event in events.items():
        by_shape.setdefault(event.shape, []).append(nr)
    found = []
    for shape, places in by_shape.items():
        rows = [cells for nr in places if (cells := events[nr].cells) is not None]
        columns = dict(zip((*shape.relation.columns, *RESERVED), zip(*rows, strict=True), strict=True))
        frame = pl.DataFrame([pl.Series(name, columns[name], dtype=pl.String()) for name in shape.read_columns])
        found.append(RowColumns(shape, frame, pl.Series("row_nr", places, dtype=pl.Int64())))
    return found


def _offered_frame(frame: pl.DataFrame, now: datetime, *, is_delete: bool) -> pl.DataFrame:
    return frame.with_columns(
        pl.lit(now, pl.Datetime("us", "UTC")).alias(RECEIVED_AT),
        pl.lit(is_delete).alias(IS_DELETE),
        pl.lit(None, pl.String()).alias(UNMAPPED_JSON),
    )


def _offered(entry: EventEntry) -> OfferedEvent:
    op: EventOperation = "upsert" if entry.type == EVENT_UPSERT else "delete"
    return OfferedEvent(entry.source, entry.id, entry.subject, op, entry.body, None, entry.id)
