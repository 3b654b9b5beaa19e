"""The messages of a block beside one another: transactions, numbers of changes, and which rows are plain.

Plain are changes that name one row by its values: nothing is left to look up, and no other change of their transaction
is about the same row.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replenish.ingest.cdc.change_reader import ReadState
from replenish.ingest.cdc.pgoutput import Begin, Commit, PgoutputDecoder
from replenish.ingest.cdc.plain_rows import Messages, Places, plain_cells, text_columns
from replenish.ingest.cdc.source_tables import TableShape

BEGIN, COMMIT, RELATION, INSERT, UPDATE, DELETE = map(ord, "BCRIUD")
NEW_ROW, OLD_ROW, OLD_KEY = map(ord, "NOK")
_CHANGES = np.frombuffer(b"IUD", np.uint8)


class MessageBlock:
    """A block's messages, which transaction each belongs to, and which transactions are left to the other way."""

    def __init__(self, messages: list[bytes], before: ReadState) -> None:
        self.messages, self.sides = messages, Messages(messages)
        self._before = before
        kinds = self.sides.kinds
        self._begins = np.flatnonzero(kinds == BEGIN)
        # 0 is the one that was open before.
        self.transactions: Places = np.cumsum(kinds == BEGIN)
        self._counted: Places = np.cumsum(np.isin(kinds, _CHANGES))
        self._first: Places = np.concatenate(([-before.nr], self._counted[self._begins]))
        self.numbers: Places = self._counted - 1 - self._first[self.transactions]
        """Of each change within its transaction."""
        self._is_left = np.zeros(len(self._begins) + 1, np.bool_)
        self._keys: dict[str, list[tuple[Places, pl.DataFrame]]] = {}

    def leave(self, places: Places) -> None:
        """The transactions of these messages are read change by change."""
        self._is_left[self.transactions[places]] = True

    def is_plain(self, places: Places) -> NDArray[np.bool_]:
        """Whether the transactions of these messages are not left."""
        plain: NDArray[np.bool_] = ~self._is_left[self.transactions[places]]
        return plain

    def alike(self) -> Iterator[tuple[int, int, Places]]:
        """Places of row messages by relation and by what follows: N a new row; of a delete the old row O or key K."""
        rows = np.flatnonzero(np.isin(self.sides.kinds, _CHANGES))
        markers = self.sides.markers(rows).astype(np.int64)
        # A delete has no new row: 0 stands for what is none of the three.
        is_delete, is_new = self.sides.kinds[rows] == DELETE, markers == NEW_ROW
        markers[is_delete == is_new] = 0
        groups = self.sides.relations(rows).astype(np.int64) << 8 | np.where(is_delete, markers, NEW_ROW)
        for group in np.unique(groups).tolist():
            yield group >> 8, group & 0xFF, rows[groups == group]

    def text_of(self, rows: Places, shape: TableShape, marker: int) -> tuple[Places, pl.DataFrame]:
        """Those of the rows that are plain, and what they tell; transactions of the others are left."""
        found = plain_cells(self.sides, rows, marker, len(shape.relation.columns))
        self.leave(rows[~found.is_plain])
        stays = self.is_plain(rows)
        rows, found = rows[stays], found.of(stays)
        cells = text_columns(self.sides, rows, found, shape, only_key=marker == OLD_KEY)
        if shape.is_known_by_commit:
            key = cells.select(shape.bound.key_columns).with_columns(pl.Series("", self.transactions[rows]))
            self._keys.setdefault(shape.bound.table, []).append((rows, key))
        return rows, cells

    def leave_repeated(self) -> None:
        """Transactions that name a row of a table twice are left, once the text of all rows was asked for."""
        for told in self._keys.values():
            # Equal digests of two keys cost time and change nothing.
            repeated = pl.concat([key for _, key in told]).hash_rows().is_duplicated().to_numpy()
            self.leave(np.concatenate([rows for rows, _ in told])[repeated])

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
        for place in np.flatnonzero(self.sides.kinds == COMMIT)[-1:].tolist():
            commit = decoder.decode(self.messages[place])
            end_lsn = commit.end_lsn if isinstance(commit, Commit) else end_lsn
        nr = n_changes - int(self._first[last])
        return ReadState(self.begin_of(last, decoder), nr, end_lsn, self._before.n_changes + n_changes, n_dead)
