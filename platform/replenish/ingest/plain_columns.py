"""Columns of a typed source in types that a mapping can read; all others as text that says what stood there."""

from __future__ import annotations

import polars as pl

from replenish.errors import FileFault

_EARLIEST, _LATEST = -62_135_596_800, 253_402_300_799
"""Seconds from 1970: the years 1 to 9999. A number of days or seconds beyond them has no calendar date, and asking for
its text ends the process."""
_PER_SECOND = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def plain_columns(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with text, numbers, flags, dates and times kept, and other columns as text; no value turns into null.

    Bytes become the text they are in UTF-8. Dates and times of which one lies outside the years 1 to 9999 become text.

    Raises:
        FileFault: `wrong_encoding`: a column of bytes is no text.
    """
    return frame.with_columns(_plain(column) for column in frame)


def _plain(column: pl.Series) -> pl.Series:
    kind = column.dtype
    if kind.is_numeric() or kind in (pl.String(), pl.Boolean()):
        return column
    if kind == pl.Binary:
        texts = [None if value is None else _decoded(value, column.name) for value in column.to_list()]
        return pl.Series(column.name, texts, dtype=pl.String())
    if kind == pl.Date():
        return _with_odd_times(column, "days", _EARLIEST // 86_400, _LATEST // 86_400)
    if isinstance(kind, pl.Datetime):
        parts = _PER_SECOND[kind.time_unit]
        return _with_odd_times(column, kind.time_unit, _EARLIEST * parts, _LATEST * parts)
    return column.cast(pl.String(), strict=False)


def _with_odd_times(column: pl.Series, unit: str, earliest: int, latest: int) -> pl.Series:
    counted = column.to_physical()
    # Nanoseconds of 64 bits reach from 1677 to 2262.
    limits = max(earliest, -(2**63)), min(latest, 2**63 - 1)
    is_odd = (~counted.is_between(*limits)).fill_null(False)
    if not is_odd.any():
        return column
    text = column.set(is_odd, None).cast(pl.String())
    said = counted.filter(is_odd).cast(pl.String()) + f" {unit} from 1970"
    return text.scatter(is_odd.arg_true(), said)


def _decoded(value: bytes, column: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise FileFault("wrong_encoding", f"bytes that are no UTF-8: {error.reason}", column=column) from error
