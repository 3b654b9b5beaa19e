"""Bodies of single events as a frame of source columns, ready for a feed's mapping; numbers keep their digits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import polars as pl

from replenish.contracts.event_struct import KNOWLEDGE_TIME, LAST_TIME, EventStruct, event_struct
from replenish.contracts.model import POLARS_TYPES, TIMESTAMP, Contract
from replenish.errors import EventFault
from replenish.ingest.json_lines import cell_text
from replenish.ingest.mapping import IS_DELETE, RECEIVED_AT, UNMAPPED_JSON, FeedMapping
from replenish.ingest.strict_json import strict_object

_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class SourceEvent(NamedTuple):
    """What the frame needs of one event; `row_nr` is its number wherever it is counted."""

    row_nr: int
    body: bytes
    is_delete: bool
    received_at: datetime


class FaultyEvent(NamedTuple):
    """An event that a typed reading refuses."""

    row_nr: int
    fault: EventFault


class EventFrame(NamedTuple):
    """The readable events as source columns, their numbers (Int64), the others, and counts of unmapped fields."""

    frame: pl.DataFrame
    row_nrs: pl.Series
    faulty: list[FaultyEvent]
    unmapped_fields: Counter[str]


def source_frame(events: Sequence[SourceEvent], mapping: FeedMapping, *, is_identity: bool) -> EventFrame:
    """The events as the feed's mapping reads them: typed columns of contract-shaped events, text of all others."""
    read = _typed_columns if is_identity else _text_columns
    return read(events, mapping)


def _typed_columns(events: Sequence[SourceEvent], mapping: FeedMapping) -> EventFrame:
    contract = mapping.contract
    known = {*contract.names, KNOWLEDGE_TIME}
    structs = (event_struct(contract), event_struct(contract, is_delete=True))
    decoders = tuple(msgspec.json.Decoder(shape.struct).decode for shape in structs)
    read: list[Any] = []
    sound: list[SourceEvent] = []
    faulty: list[FaultyEvent] = []
    unmapped: list[str | None] = []
    fields: Counter[str] = Counter()
    for event in events:
        try:
            try:
                value = decoders[event.is_delete](event.body)
            except msgspec.ValidationError:
                value = _read_exactly(event, structs[event.is_delete])
        except EventFault as fault:
            faulty.append(FaultyEvent(event.row_nr, fault))
            continue
        read.append(value)
        sound.append(event)
        unmapped.append(_unmapped(_raw_fields(event.body), known, fields))
    columns = [_typed_column(name, read, contract) for name in (*contract.names, KNOWLEDGE_TIME)]
    return _with_envelope(pl.DataFrame(columns), sound, unmapped, faulty, fields)


def _read_exactly(event: SourceEvent, shape: EventStruct) -> msgspec.Struct:
    # It was accepted by a clock that has gone on since.
    return shape.read(strict_object(event.body), LAST_TIME, event.body)


def _typed_column(name: str, read: list[Any], contract: Contract) -> pl.Series:
    kind = contract.column(name).logical_type if name in contract.names else "timestamp"
    return pl.Series(name, [getattr(value, name, None) for value in read], dtype=POLARS_TYPES[kind])


def _text_columns(events: Sequence[SourceEvent], mapping: FeedMapping) -> EventFrame:
    names = mapping.source_columns()
    known = {*names, *mapping.feed.ignore_columns}
    cells: list[list[str | None]] = [[] for _ in names]
    unmapped: list[str | None] = []
    fields: Counter[str] = Counter()
    for event in events:
        raw = _raw_fields(event.body)
        for name, column in zip(names, cells, strict=True):
            column.append(cell_text(raw.get(name)))
        unmapped.append(_unmapped(raw, known, fields))
    columns = [pl.Series(name, column, dtype=pl.String()) for name, column in zip(names, cells, strict=True)]
    return _with_envelope(pl.DataFrame(columns), list(events), unmapped, [], fields)


def _unmapped(raw: dict[str, msgspec.Raw], known: set[str], fields: Counter[str]) -> str | None:
    extra = raw.keys() - known
    if not extra:
        return None
    fields.update(extra)
    return _encode({name: raw[name] for name in raw if name in extra}).decode()


def _with_envelope(
    frame: pl.DataFrame,
    events: list[SourceEvent],
    unmapped: list[str | None],
    faulty: list[FaultyEvent],
    fields: Counter[str],
) -> EventFrame:
    received = pl.Series(RECEIVED_AT, [event.received_at for event in events], dtype=TIMESTAMP)
    deletes = pl.Series(IS_DELETE, [event.is_delete for event in events], dtype=pl.Boolean())
    frame = frame.with_columns(received, deletes, pl.Series(UNMAPPED_JSON, unmapped, dtype=pl.String()))
    row_nrs = pl.Series("row_nr", [event.row_nr for event in events], dtype=pl.Int64())
    return EventFrame(frame, row_nrs, faulty, fields)
