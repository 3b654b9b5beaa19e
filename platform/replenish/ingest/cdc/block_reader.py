"""Blocks of messages as batches of events: plain rows by their columns, everything else change by change.

Both ways make the same events, ids and bodies included; which one a change takes has no meaning. Transactions that hold
anything but plain rows (see `plain_rows`), or two versions of one row, are read change by change.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl

from replenish.ingest.cdc.change_reader import ChangeReader, OrderNeeded, ReadState
from replenish.ingest.cdc.message_block import (
    COMMIT,
    INSERT,
    NEW_ROW,
    OLD_KEY,
    OLD_ROW,
    RELATION,
    MessageBlock,
)
from replenish.ingest.cdc.pgoutput import PgoutputDecoder, lsn_text
from replenish.ingest.cdc.plain_rows import Places, plain_bodies, read_frame, removed_rows
from replenish.ingest.cdc.row_events import RowBatch, RowColumns, batch_of
from replenish.ingest.cdc.source_tables import TableShape
from replenish.stores.event_run import EventRun
from replenish.stores.journal_entry import EVENT_DELETE, EVENT_UPSERT, EventEntry

BLOCK_MESSAGES = 25_000
BLOCK_BYTES = 32 << 20
"""A block has at least so many, where there are: judging one has a fixed cost of some milliseconds."""
_KNOWN_KINDS = np.frombuffer(b"BCRIUDYO", np.uint8)


class BlockCutter:
    """Cuts the stream of messages into blocks of whole transactions."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._n_bytes = 0

    def holds(self, n_messages: int, n_bytes: int) -> bool:
        """Whether what belongs to no block yet is as much, of the one or the other."""
        return len(self._waiting) >= n_messages or self._n_bytes >= n_bytes

    def cut(self, messages: list[bytes], *, is_last: bool = False) -> Iterator[list[bytes]]:
        """The block that is complete with these messages, if one is; all that waits, where they are the last."""
        self._waiting += messages
        self._n_bytes += sum(map(len, messages))
        if is_last:
            end = len(self._waiting)
        else:
            end = _kinds(self._waiting).rfind(COMMIT) + 1 if self.holds(BLOCK_MESSAGES, BLOCK_BYTES) else 0
        if end:
            block, self._waiting = self._waiting[:end], self._waiting[end:]
            self._n_bytes = sum(map(len, self._waiting))
            yield block

    def take_waiting(self) -> list[bytes]:
        """What belongs to no block yet, and is forgotten here."""
        waiting, self._waiting, self._n_bytes = self._waiting, [], 0
        return waiting


def _kinds(messages: list[bytes]) -> bytes:
    return bytes(message[0] for message in messages)


class _PlainPart(NamedTuple):
    """Sound plain rows of one shape: where their messages are, and what becomes of them."""

    rows: Places
    entries: EventRun
    shape: TableShape
    frame: pl.DataFrame
    odd: list[int]
    is_delete: bool


class BlockReader:
    """Reads one pass of the change stream, from the slot's position on, block by block."""

    def __init__(self, changes: ChangeReader) -> None:
        self._changes = changes
        self._decoder = PgoutputDecoder()
        self._described: dict[int, bytes] = {}

    @property
    def end_lsn(self) -> int | None:
        """Behind the last transaction that was read as a whole."""
        return self._changes.end_lsn

    @property
    def n_changes(self) -> int:
        """Changes read so far."""
        return self._changes.n_changes

    @property
    def remembers_rows(self) -> bool:
        """Whether it keeps rows of a table in mind: then it has to see every change once and in order."""
        return self._changes.remembers_rows

    @property
    def state(self) -> ReadState:
        """Where reading stands; `go_back` to read again what came since."""
        return self._changes.state

    def go_back(self, state: ReadState) -> None:
        """Stand where it stood."""
        self._changes.go_to(state)

    def read(self, messages: list[bytes], *, is_whole: bool = True) -> tuple[RowBatch, list[EventEntry]]:
        """Events of a block in order, still to be judged, and dead letters of what could not become an event.

        Args:
            messages: Whole transactions; or, where not `is_whole`, some of one transaction. Of the versions of a row
                within the messages and a transaction only the last is an event.
            is_whole: See there.

        Raises:
            SourceFault: A message breaks the protocol.
            OrderNeeded: These changes can only be read with their whole transaction.
        """
        changes, before = self._changes, self._changes.state
        try:
            batch = self._read_plain(messages)
        except (OrderNeeded, pl.exceptions.PolarsError):
            batch = None
        if batch is None:
            changes.go_to(before)
            batch = batch_of(changes.read(messages, sees_all=is_whole))
        return batch, changes.take_dead()

    def _read_plain(self, messages: list[bytes]) -> RowBatch | None:
        """None where the block has to be read change by change."""
        if self._changes.remembers_rows or not all(messages):
            return None
        block = MessageBlock(messages, self._changes.state)
        if not np.isin(block.sides.kinds, _KNOWN_KINDS).all() or not self._describe(block):
            return None
        parts = []
        for oid, marker, rows in block.alike():
            shape = self._changes.shape_of(oid)
            if shape is None or shape.missing or marker not in (NEW_ROW, OLD_ROW, OLD_KEY):
                block.leave(rows)
                continue
            if shape.unidentified:
                block.leave(rows[block.sides.kinds[rows] != INSERT])
            parts.append((shape, marker, *block.text_of(rows, shape, marker)))
        block.leave_repeated()
        plain = (self._plain_part(block, *part) for part in parts)
        return self._merged(block, [part for part in plain if part is not None])

    def _describe(self, block: MessageBlock) -> bool:
        """Take the relations of the block; False where one means two things within it."""
        fresh: dict[int, bytes] = {}
        for place in np.flatnonzero(block.sides.kinds == RELATION).tolist():
            message = block.messages[place]
            oid = int.from_bytes(message[1:5], "big")
            known = fresh.get(oid, self._described.get(oid))
            if known is not None and known != message:
                return False
            fresh[oid] = message
        self._changes.read(fresh.values())
        self._described |= fresh
        tables = [shape.bound.table for oid in self._described if (shape := self._changes.shape_of(oid))]
        return len(set(tables)) == len(tables)

    def _plain_part(
        self, block: MessageBlock, shape: TableShape, marker: int, rows: Places, cells: pl.DataFrame
    ) -> _PlainPart | None:
        # Only now is it known which transactions are left to the other way.
        stays = block.is_plain(rows)
        if not stays.all():
            rows, cells = rows[stays], cells.filter(pl.Series(stays))
        if not len(rows):
            return None
        kinds = block.sides.kinds[rows].astype(np.int64)
        numbers, which = np.unique(block.transactions[rows] << 8 | kinds, return_inverse=True)
        told, lsns, times = [], [], []
        for number in numbers.tolist():
            begin = block.begin_of(number >> 8, self._decoder)
            lsns.append(lsn_text(begin.commit_lsn))
            times.append(begin.commit_time)
            told.append(shape.told(chr(number & 0xFF), begin.commit_time.isoformat(), lsns[-1]))
        is_delete = marker != NEW_ROW
        if is_delete:
            cells = removed_rows(cells, shape, times, which)
        bodies, odd = plain_bodies(cells, told, which)
        ids = pl.select(
            pl.concat_str(
                pl.Series(lsns, dtype=pl.String()).gather(which), pl.lit(":"), pl.Series(block.numbers[rows])
            ).alias("id")
        )["id"]
        feed, dataschema = shape.bound.feed.feed_id, shape.bound.dataschema
        kind = EVENT_DELETE if is_delete else EVENT_UPSERT
        like = EventEntry(self._changes.source, "", kind, feed, dataschema, b"")
        entries = EventRun(like, ids.to_list(), bodies)
        return _PlainPart(rows, entries, shape, read_frame(cells, shape, told, which), odd, is_delete)

    def _merged(self, block: MessageBlock, parts: list[_PlainPart]) -> RowBatch:
        """All parts, and what is left, in the order of the stream."""
        left = []
        keys = [part.rows for part in parts]
        for first, end in block.left_runs():
            events = self._changes.read(block.messages[first:end], sees_all=False)
            left += events
            keys.append(np.full(len(events), first))
        self._changes.go_to(block.state_behind(self._changes.state.n_dead, self._decoder))
        order = np.argsort(np.concatenate([np.zeros(0, np.int64), *keys]), kind="stable")
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        if len(keys) == 1 and parts:
            batch = RowBatch(parts[0].entries)
        else:
            entries = [entry for part in parts for entry in part.entries] + [event.entry for event in left]
            batch = RowBatch([entries[nr] for nr in order.tolist()])
        start = 0
        for part in parts:
            own = places[start : start + len(part.entries)]
            start += len(part.entries)
            batch.by_body.extend(own[part.odd].tolist())
            judged = np.setdiff1d(np.arange(len(own)), part.odd)
            row_nrs = pl.Series("row_nr", own[judged])
            frame = part.frame[judged] if part.odd else part.frame
            batch.columns.append(RowColumns(part.shape, frame, row_nrs, part.is_delete))
            batch.new.extend(own[block.sides.kinds[part.rows] == INSERT].tolist())
        for place, event in zip(places[start:].tolist(), left, strict=True):
            if event.cells is None:
                batch.by_body.append(place)
            else:
                batch.events[place] = event
            if event.is_new:
                batch.new.append(place)
        return batch
