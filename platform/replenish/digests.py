"""Digests of tables, files and values that do not depend on row order, engine, thread count or file bytes.

Parquet bytes are not stable from run to run, so the digest of a table is taken over encoded rows: columns in name
order, rows in key order, integers as 64-bit little-endian, text length-prefixed, nulls as a mask of their own. Callers
leave out run ids and wall-clock columns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replenish.errors import ContractError

if TYPE_CHECKING:
    from hashlib import _Hash

ROWS_PER_BLOCK = 65_536
"""Part of the encoding: changing it changes every digest."""

BYTES_PER_READ = 1 << 20


def table_digest(frame: pl.DataFrame, key: Sequence[str]) -> str:
    """sha256 (hex) of the rows of `frame`, whatever their order; integer widths do not matter, values and nulls do.

    Args:
        frame: Any columns of text, numbers, booleans, dates, timestamps, or lists and structs of these.
        key: Columns to sort by first; the other columns settle ties, so input order never matters.

    Raises:
        ContractError: A column has a type without a canonical encoding.
    """
    names = sorted(frame.columns)
    plain = frame.select(_canonical(frame.get_column(name)) for name in names)
    order = [*key, *(name for name in names if name not in key)]
    rows = plain.sort(order, nulls_last=False) if order else plain
    digest = hashlib.sha256(f"table:1:{rows.height}:{len(names)}".encode())
    for name in names:
        _feed_column(digest, name, rows.get_column(name))
    return digest.hexdigest()


def ordered_rows_digest(frame: pl.DataFrame) -> str:
    """sha256 (hex) of the rows of `frame` as they stand: cheaper than `table_digest`, for rows whose order is known.

    Raises:
        ContractError: A column has a type without a canonical encoding.
    """
    names = sorted(frame.columns)
    digest = hashlib.sha256(f"rows:1:{frame.height}:{len(names)}".encode())
    # In one pass where a cast is all: small frames are many.
    counted = [name for name, dtype in frame.schema.items() if _is_counted(dtype)]
    plain = {column.name: column for column in frame.select(pl.col(counted).cast(pl.Int64))}
    for name in names:
        column = plain.get(name)
        _feed_column(digest, name, _canonical(frame.get_column(name)) if column is None else column)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file's bytes, read in bounded memory."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BYTES_PER_READ):
            digest.update(block)
    return digest.hexdigest()


def json_digest(value: object) -> str:
    """sha256 (hex) of a JSON value in canonical form: sorted keys, no blanks, UTF-8, no NaN.

    >>> json_digest({"b": 1, "a": [True, None]}) == json_digest({"a": [True, None], "b": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_counted(dtype: pl.DataType) -> bool:
    """Whether its canonical values are the numbers it is kept as."""
    return dtype.is_integer() or dtype in (pl.Boolean, pl.Date) or dtype == pl.Datetime("us", "UTC")


def _canonical(column: pl.Series) -> pl.Series:
    """The column as Int64, Float64 or String, which is all the encoding knows."""
    dtype = column.dtype
    if dtype.is_integer() or dtype in (pl.Boolean, pl.Date):
        return column.cast(pl.Int64)
    if isinstance(dtype, pl.Datetime):
        return column.dt.cast_time_unit("us").cast(pl.Int64)
    if isinstance(dtype, pl.Duration | pl.Time):
        return column.cast(pl.Int64)
    if dtype.is_float():
        # -0.0 becomes 0.0 (adding zero would be optimised away), every NaN the same one.
        wide = column.cast(pl.Float64)
        return wide.set(wide == 0.0, 0.0).fill_nan(float("nan"))
    if dtype == pl.Null:
        return column.cast(pl.Int64)
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    if isinstance(dtype, pl.List | pl.Array | pl.Struct):
        return pl.Series(column.name, [_json_text(value) for value in column.to_list()], dtype=pl.String)
    raise ContractError("a column of this type has no canonical encoding", column=column.name, type=dtype)


def _json_text(value: object) -> str | None:
    if value is None:
        return None
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def _feed_column(digest: _Hash, name: str, column: pl.Series) -> None:
    """One column, block by block: null mask, then values (text: lengths, then bytes)."""
    kind = "s" if column.dtype == pl.String else "f" if column.dtype == pl.Float64 else "i"
    digest.update(f"column:{len(name.encode())}:{name}:{kind}".encode())
    for start in range(0, column.len(), ROWS_PER_BLOCK):
        block = column.slice(start, ROWS_PER_BLOCK)
        n, n_nulls = block.len(), block.null_count()
        has_nulls = n_nulls > 0
        if 0 < n_nulls < n:
            digest.update(block.is_null().cast(pl.UInt8).to_numpy().tobytes())
        else:
            digest.update((b"\1" if has_nulls else b"\0") * n)
        if n_nulls == n:
            # Of all nulls as of nothing: zeros and empty texts.
            digest.update(bytes(8 * n))
            continue
        if kind == "s":
            lengths, texts = _text_bytes(block.fill_null("") if has_nulls else block)
            digest.update(lengths.astype("<i8").tobytes())
            digest.update(texts)
        else:
            width = "<f8" if kind == "f" else "<i8"
            digest.update((block.fill_null(0) if has_nulls else block).to_numpy().astype(width).tobytes())


def _text_bytes(text: pl.Series) -> tuple[NDArray[np.int64], memoryview]:
    """How long each text is in UTF-8, and the bytes of all, one after the other, without making Python objects."""
    array = text.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = array.buffers()
    if offsets is None or data is None:
        return np.zeros(len(array), np.int64), memoryview(b"")
    ends = np.frombuffer(memoryview(offsets), dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    return np.diff(ends), memoryview(data)[ends[0] : ends[-1]]
