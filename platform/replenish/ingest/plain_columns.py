"""Columns of a typed source in types that a mapping can read; all others as text that says what stood there."""

from __future__ import annotations

import polars as pl

_READABLE = (pl.String, pl.Boolean, pl.Date, pl.Datetime)


def plain_columns(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with text, numbers, flags, dates and times kept, and other columns as text; no value turns into null.

    Bytes that are UTF-8 become that text, other bytes `0x...`; nested values become JSON.
    """
    odd = {name: dtype for name, dtype in frame.schema.items() if not _is_readable(dtype)}
    return frame.with_columns(_as_text(name, dtype) for name, dtype in odd.items()) if odd else frame


def _is_readable(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or isinstance(dtype, _READABLE)


def _as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if dtype == pl.Binary:
        hexadecimal = pl.concat_str(pl.lit("0x"), column.bin.encode("hex"))
        return pl.coalesce(column.cast(pl.String(), strict=False), hexadecimal).alias(name)
    if dtype.is_nested():
        text = pl.struct(column).struct.json_encode()
        return pl.when(column.is_not_null()).then(text).alias(name)
    return column.cast(pl.String(), strict=False).alias(name)
