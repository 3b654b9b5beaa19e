"""Columns of a typed source in types that a mapping can read; all others as text that says what stood there."""

from __future__ import annotations

import polars as pl

from replenish.errors import FileFault

_READABLE = (pl.String, pl.Boolean, pl.Date, pl.Datetime)


def plain_columns(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with text, numbers, flags, dates and times kept, and other columns as text; no value turns into null.

    Bytes become the text they are in UTF-8; nested values become JSON.

    Raises:
        FileFault: `wrong_encoding`: a column of bytes is no text.
    """
    odd = [column for column in frame if not _is_readable(column.dtype)]
    return frame.with_columns(_as_text(column) for column in odd) if odd else frame


def _is_readable(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or isinstance(dtype, _READABLE)


def _as_text(column: pl.Series) -> pl.Series:
    if column.dtype == pl.Binary:
        texts = [None if value is None else _decoded(value, column.name) for value in column.to_list()]
        return pl.Series(column.name, texts, dtype=pl.String())
    if column.dtype.is_nested():
        text = pl.struct(column.name).struct.json_encode()
        return column.to_frame().select(pl.when(column.is_not_null()).then(text).alias(column.name)).to_series()
    return column.cast(pl.String(), strict=False)


def _decoded(value: bytes, column: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise FileFault("wrong_encoding", f"bytes that are no UTF-8: {error.reason}", column=column) from error
