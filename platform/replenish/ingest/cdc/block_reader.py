"""Blocks of messages as batches of events: plain rows by their columns, everything else change by change.

Both ways make the same events, ids and bodies included; which one a change takes has no meaning. Transactions that hold
anything but plain rows (see `plain_rows`), or two versions of one row, are read change by change.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replenish.ingest.cdc.change_reader import ChangeReader, OrderNeeded, ReadState
from replenish.ingest.cdc.pgoutput import Begin, Commit, PgoutputDecoder, lsn_text
from replenish.ingest.cdc.plain_rows import Messages, Places, plain_bodies, plain_cells, read_frame, text_columns
from replenish.ingest.cdc.row_events import RowBatch, RowColumns, batch_of
from replenish.ingest.cdc.source_tables import TableShape
from replenish.stores.event_run import EventRun
from replenish.stores.journal_entry import EVENT_UPSERT, EventEntry

BLOCK_MESSAGES = 25_000
"""A block has at least so many, where there are: judging one has a fixed cost of some milliseconds."""
_BEGIN, _COMMIT, _RELATION, _INSERT, _UPDATE, _DELETE = map(ord, "BCRIUD")
_ROWS = np.frombuffer(b"IU", np.uint8)
_CHANGES = np.frombuffer(b"IUD", np.uint8)
_KNOWN_KINDS = np.frombuffer(b"BCRIUDYO", np.uint8)


class BlockCutter:
    """Cuts the stream of messages into blocks of whole transactions."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []

    @property
    def n_waiting(self) -> int:
        """Messages that belong to no block yet."""
        return len(self._waiting)

    def cut(self, messages: list[bytes], *, is_last: bool = False) -> Iterator[list[bytes]]:
        """The block that is complete with these messages, if one is; all that waits, where they are the last."""
        self._waiting += messages
        end = len(self._waiting)
        if not is_last:
            if end < BLOCK_MESSAGES:
                return
            end = _kinds(self._waiting).rfind(_COMMIT) + 1
        if end:
            block, self._waiting = self._waiting[:end], self._waiting[end:]
            yield block

    def take_waiting(self) -> list[bytes]:
        """What belongs to no block yet, and is forgotten here."""
        waiting, self._waiting = self._waiting, []
        return waiting


def _kinds(messages: list[bytes]) -> bytes:
    return bytes(message[0] for message in messages)


class _Block:
    """A block's messages, which transaction each belongs to, and which transactions are left to the other way."""

    def __init__(self, messages: list[bytes], before: ReadState) -> None:
        self.messages, self.sides = messages, Messages(messages)
        self._before = before
        kinds = self.sides.kinds
        self._begins = np.flatnonzero(kinds == _BEGIN)
        # 0 is the one that was open before.
        self.transactions: Places = np.cumsum(kinds == _BEGIN)
        self._counted: Places = np.cumsum(np.isin(kinds, _CHANGES))
        self._first: Places = np.concatenate(([-before.nr], self._counted[self._begins]))
        self.numbers: Places = self._counted - 1 - self._first[self.transactions]
        """Of each change within its transaction."""
        self._is_left = np.zeros(len(self._begins) + 1, np.bool_)
        self.leave(np.flatnonzero(kinds == _DELETE))

    def leave(self, places: Places) -> None:
        """The transactions of these messages are read change by change."""
        self._is_left[self.transactions[places]] = True

    def is_plain(self, places: Places) -> NDArray[np.bool_]:
        """Whether the transactions of these messages are not left."""
        plain: NDArray[np.bool_] = ~self._is_left[self.transactions[places]]
        return plain

    def rows_by_relation(self) -> Iterator[tuple[int, Places]]:
        """Places of inserts and updates by relation number."""
        rows = np.flatnonzero(np.isin(self.sides.kinds, _ROWS))
        oids = self.sides.relations(rows)
        for oid in np.unique(oids).tolist():
            yield int(oid), rows[oids == oid]

    def text_of(self, rows: Places, shape: TableShape) -> tuple[Places, pl.DataFrame]:
        """Those of the rows that are plain, and their cells; transactions of the others are left."""
        found = plain_cells(self.sides, rows, len(shape.relation.columns))
        self.leave(rows[~found.is_plain])
        stays = self.is_plain(rows)
        rows, found = rows[stays], found.of(stays)
        cells = text_columns(self.sides, rows, found, shape)
        if shape.is_known_by_commit:
            key = cells.select(shape.bound.key_columns).with_columns(pl.Series("", self.transactions[rows]))
            # Equal digests of two keys cost time and change nothing.
            self.leave(rows[key.hash_rows().is_duplicated().to_numpy()])
        return rows, cells

    def begin_of(self, transaction: int, decoder: PgoutputDecoder) -> Begin:
        """Its first message."""
        message = decoder.decode(self.messages[self._begins[transaction - 1]]) if transaction else self._before.begin
        return message if isinstance(message, Begin) else self._before.begin

    def left_runs(self) -> Iterator[tuple[int, int]]:
        """First and end of each run of messages whose transactions are left."""
        is_left = self._is_left[self.transactions]
        edges = np.flatnonzero(np.diff(is_left, prepend=False, append=False))
        yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)

    def state_behind(self, n_dead: int, decoder: PgoutputDecoder) -> ReadState:
        """Where reading stands behind this block."""
        last, n_changes = int(self.transactions[-1]), int(self._counted[-1])
        end_lsn = self._before.end_lsn
        for place in np.flatnonzero(self.sides.kinds == _COMMIT)[-1:].tolist():
            commit = decoder.decode(self.messages[place])
            end_lsn = commit.end_lsn if isinstance(commit, Commit) else end_lsn
        nr = n_changes - int(self._first[last])
        return ReadState(self.begin_of(last, decoder), nr, end_lsn, self._before.n_changes + n_changes, n_dead)


class _PlainPart(NamedTuple):
    """Sound plain rows of one shape: where their messages are, and what becomes of them."""

    rows: Places
    entries: EventRun
    shape: TableShape
    frame: pl.DataFrame
    odd: list[int]


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
        block = _Block(messages, self._changes.state)
        if not np.isin(block.sides.kinds, _KNOWN_KINDS).all() or not self._describe(block):
            return None
        parts = []
        for oid, rows in block.rows_by_relation():
            shape = self._changes.shape_of(oid)
            if shape is None or shape.missing:
                block.leave(rows)
                continue
            if shape.unidentified:
                block.leave(rows[block.sides.kinds[rows] == _UPDATE])
            parts.append((shape, *block.text_of(rows, shape)))
        plain = (self._plain_part(block, *part) for part in parts)
        return self._merged(block, [part for part in plain if part is not None])

    def _describe(self, block: _Block) -> bool:
        """Take the relations of the block; False where one means two things within it."""
        fresh: dict[int, bytes] = {}
        for place in np.flatnonzero(block.sides.kinds == _RELATION).tolist():
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

    def _plain_part(self, block: _Block, shape: TableShape, rows: Places, cells: pl.DataFrame) -> _PlainPart | None:
        # Only now is it known which transactions are left to the other way.
        stays = block.is_plain(rows)
        if not stays.all():
            rows, cells = rows[stays], cells.filter(pl.Series(stays))
        if not len(rows):
            return None
        numbers, which = np.unique(
            block.transactions[rows] * 2 + (block.sides.kinds[rows] == _UPDATE), return_inverse=True
        )
        told, lsns = [], []
        for number in numbers.tolist():
            begin = block.begin_of(number // 2, self._decoder)
            lsns.append(lsn_text(begin.commit_lsn))
            told.append(shape.told("U" if number % 2 else "I", begin.commit_time.isoformat(), lsns[-1]))
        bodies, odd = plain_bodies(cells, shape, told, which)
        ids = pl.select(
            pl.concat_str(
                pl.Series(lsns, dtype=pl.String()).gather(which), pl.lit(":"), pl.Series(block.numbers[rows])
            ).alias("id")
        )["id"]
        feed, dataschema = shape.bound.feed.feed_id, shape.bound.dataschema
        like = EventEntry(self._changes.source, "", EVENT_UPSERT, feed, dataschema, b"")
        entries = EventRun(like, ids.to_list(), bodies)
        return _PlainPart(rows, entries, shape, read_frame(cells, shape, told, which), odd)

    def _merged(self, block: _Block, parts: list[_PlainPart]) -> RowBatch:
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
            batch.columns.append(RowColumns(part.shape, frame, row_nrs))
            batch.new.extend(own[block.sides.kinds[part.rows] == _INSERT].tolist())
        for place, event in zip(places[start:].tolist(), left, strict=True):
            if event.cells is None:
                batch.by_body.append(place)
            else:
                batch.events[place] = event
            if event.is_new:
                batch.new.append(place)
        return batch
