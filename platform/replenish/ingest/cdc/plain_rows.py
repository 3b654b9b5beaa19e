"""Many row messages at once: cells are found by arithmetic over their bytes and become columns, not Python values.

Most changes of most sources are inserts and updates that tell a whole new row and nothing of the old one. Read one by
one, each costs several microseconds of Python; by their columns, a fraction of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from replenish.ingest.cdc.row_events import MAX_PLAIN_BODY_BYTES, is_read_again
from replenish.ingest.cdc.source_tables import COMMIT_TIME, RESERVED, TableShape, Told

Places = NDArray[np.int64]
_TEXT, _NULL = ord("t"), ord("n")
_HEADER = 8
"""Bytes before a row's first cell: kind, relation, marker, number of cells."""
_PADDING = bytes(8)
_ESCAPED = r'["\\\x00-\x1f\x7f]'
"""What JSON text cannot hold as it is, and DEL, which events must not hold."""


class Messages:
    """Messages side by side: `starts` and `lengths` in bytes, `kinds` as letters' numbers."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        self.series = pl.Series("message", messages, dtype=pl.Binary())
        self.lengths: Places = np.fromiter(map(len, messages), np.int64, len(messages))
        blob = b"".join((*messages, _PADDING))
        self.starts: Places = np.cumsum(self.lengths) - self.lengths
        self.bytes: NDArray[np.uint8] = np.frombuffer(blob, np.uint8)
        # A big-endian number may start at any byte.
        self.numbers: NDArray[Any] = np.ndarray((len(blob) - 3,), ">u4", blob, 0, (1,))
        self.kinds = self.bytes[self.starts]
        self._last = len(blob) - len(_PADDING)

    def relations(self, rows: Places) -> NDArray[Any]:
        """Relation numbers of row messages."""
        return self.numbers[self.inside(self.starts[rows] + 1)]

    def markers(self, rows: Places) -> NDArray[np.uint8]:
        """What follows in row messages."""
        return self.bytes[self.inside(self.starts[rows] + 5)]

    def inside(self, places: Places) -> Places:
        """The places, those behind the end moved to the padding: what is read there is never plain."""
        return np.minimum(places, self._last)


class PlainCells(NamedTuple):
    """Cells of the new rows of some messages, column by column; only where `is_plain` do they mean anything."""

    offsets: list[Places]
    """Where the text begins, from the start of its message."""
    lengths: list[Places]
    nulls: list[NDArray[np.bool_]]
    is_plain: NDArray[np.bool_]
    """Nothing of the old row, every cell text or null, and no byte too many."""

    def of(self, which: NDArray[np.bool_]) -> PlainCells:
        """Those of some of the messages."""
        if which.all():
            return self
        return PlainCells(
            [column[which] for column in self.offsets],
            [column[which] for column in self.lengths],
            [column[which] for column in self.nulls],
            self.is_plain[which],
        )


def plain_cells(messages: Messages, rows: Places, marker: int, n_columns: int) -> PlainCells:
    """Find the cells of the row messages `rows`, all of one relation, that hold one row behind `marker`."""
    data, starts = messages.bytes, messages.starts[rows]
    head = messages.numbers[messages.inside(starts + _HEADER - 4)]
    # The marker and the number of cells, in one look.
    is_plain = head & 0x00FFFFFF == (marker << 16 | n_columns)
    place = starts + _HEADER
    cells = PlainCells([], [], [], is_plain)
    for _ in range(n_columns):
        place = messages.inside(place)
        kind = data[place]
        is_null = kind == _NULL
        is_plain &= is_null | (kind == _TEXT)
        length = np.where(is_null, 0, messages.numbers[place + 1].astype(np.int64))
        cells.offsets.append(place + 5 - starts)
        cells.lengths.append(length)
        cells.nulls.append(is_null)
        place = place + np.where(is_null, 1, 5 + length)
    is_plain &= place == starts + messages.lengths[rows]
    return cells


def text_columns(
    messages: Messages, rows: Places, cells: PlainCells, shape: TableShape, *, only_key: bool
) -> pl.DataFrame:
    """The plain cells as columns of text, instants with their offset in full (as `TableShape.read` gives them).

    Args:
        messages: All of them.
        rows: Which of them.
        cells: Of these rows, in the same order.
        shape: What describes them.
        only_key: Whether the rows tell the identity columns only.

    Raises:
        polars.exceptions.PolarsError: A text is no UTF-8.
    """
    told = messages.series[rows] if len(rows) < len(messages.series) else messages.series
    columns = []
    for nr in shape.identity if only_key else range(len(shape.relation.columns)):
        offset, length = pl.Series(cells.offsets[nr]), pl.Series(cells.lengths[nr])
        text = told.to_frame().select(pl.col("message").bin.slice(offset, length).cast(pl.String()))["message"]
        if nr in shape.relation.instant_places:
            full = pl.when(text.str.ends_with("+00")).then(text + ":00").otherwise(text)
            text = pl.select(full.alias("text"))["text"]
        if cells.nulls[nr].any():
            text = text.zip_with(pl.Series(~cells.nulls[nr]), pl.Series([None], dtype=pl.String()))
        columns.append(text.alias(shape.relation.columns[nr]))
    return pl.DataFrame(columns)


def read_frame(cells: pl.DataFrame, shape: TableShape, told: Sequence[Told], which: Places) -> pl.DataFrame:
    """What the feed reads of the rows: source columns, and reserved ones from `told[which]`."""
    columns = []
    for name in shape.read_columns:
        if name not in RESERVED:
            none = pl.Series(name, [None], dtype=pl.String())
            columns.append(cells[name] if name in cells.columns else none.new_from_index(0, len(which)))
            continue
        values = pl.Series(name, [of.values[RESERVED.index(name)] for of in told], dtype=pl.String())
        if name == COMMIT_TIME and shape.bound.is_commit_time_an_instant:
            values = pl.Series(name, map(datetime.fromisoformat, values), dtype=pl.Datetime("us", "UTC"))
        columns.append(values.gather(which))
    return pl.DataFrame(columns)


def removed_rows(cells: pl.DataFrame, shape: TableShape, times: Sequence[datetime], which: Places) -> pl.DataFrame:
    """The rows as they became known as gone, at `times[which]`; see `removed_body`."""
    bound = shape.bound
    if bound.removal_column is None:
        return cells
    texts = pl.Series(bound.removal_column, map(bound.removal_text, times), dtype=pl.String())
    return cells.with_columns(texts.gather(which))


def plain_bodies(cells: pl.DataFrame, told: Sequence[Told], which: Places) -> tuple[list[bytes], list[int]]:
    """JSON bodies, byte for byte as `TableShape` makes them; and the places of those to be read again."""
    suffixes = pl.Series("", [of.suffix.decode() for of in told], dtype=pl.String()).gather(which)
    parts: list[Any] = []
    opening = "{"
    for name in cells.columns:
        start = f"{opening}{msgspec.json.encode(name).decode()}:"
        column, opening = pl.col(name), ","
        if cells[name].null_count():
            quoted = pl.concat_str(pl.lit('"'), column, pl.lit('"'))
            parts += [pl.lit(start), pl.when(column.is_null()).then(pl.lit("null")).otherwise(quoted)]
        else:
            parts += [pl.lit(start + '"'), column, pl.lit('"')]
    texts = cells.select(pl.concat_str(*parts, suffixes).alias("body"))["body"]
    needs_escape = pl.any_horizontal(pl.all().str.contains(_ESCAPED)).fill_null(False)
    is_odd = cells.select(odd=needs_escape)["odd"] | (texts.str.len_bytes() > MAX_PLAIN_BODY_BYTES)
    bodies: list[bytes] = texts.cast(pl.Binary()).to_list()
    odd = is_odd.arg_true().to_list()
    for nr, row in zip(odd, cells[odd].iter_rows() if odd else (), strict=True):
        body = msgspec.json.encode(dict(zip(cells.columns, row, strict=True)))
        bodies[nr] = body[:-1] + told[which[nr]].suffix
    return bodies, [nr for nr in odd if is_read_again(bodies[nr])]
