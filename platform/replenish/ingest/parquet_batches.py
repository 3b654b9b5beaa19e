"""Record batches of a Parquet file, never of more than a bound: what is stored once may stand for gigabytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from os import SEEK_END
from typing import IO, Any, cast

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from replenish.errors import FileFault
from replenish.ingest.source import MAX_INFLATION_RATIO

MAX_COLUMNS = 10_000
"""Of a table in any format: a parser spends kilobytes on each, whether or not a feed reads it."""
MAX_FOOTER_BYTES = 32 << 20
FREE_ROWS = 10_000_000
"""Up to so many rows any ratio to the bytes of the file is harmless; of a column of one value they take none."""
MAX_COLUMN_BYTES = 256 << 20
"""Text of one column in one batch."""
MAX_NESTED_VALUES = 10_000_000
"""Values of one nested column in a row group: a single row may hold any number."""


def parquet_frames(source: IO[bytes], batch_rows: int) -> Iterator[pl.DataFrame]:
    """The rows of a file as frames whose columns have the names and values of the file; one at least, if empty.

    Raises:
        FileFault: `duplicate_column`, `gzip_bomb`, or `unreadable`: a nested value that is no JSON.
        pa.ArrowException, OSError: It is no Parquet file, or a damaged one.
    """
    size_bytes = source.seek(0, SEEK_END)
    _check_footer(source, size_bytes)
    with pq.ParquetFile(source, coerce_int96_timestamp_unit="us") as file:
        _check_shape(file, size_bytes)
        names = file.schema_arrow.names
        texts, instants = _dictionary_texts(file), _instants_of_96_bits(file)
    source.seek(0)
    n_rows = 0
    # Nanoseconds of 64 bits end in 2262: a later time of 96 bits would come back as one of another age.
    with pq.ParquetFile(source, read_dictionary=texts, coerce_int96_timestamp_unit="us") as file:
        for batch in file.iter_batches(batch_size=batch_rows):
            # Parquet says that a column is text; whether its bytes are, nobody has looked yet.
            batch.validate(full=True)
            n_rows += batch.num_rows
            yield _frame(batch.columns, names, instants)
        if not n_rows:
            yield _frame(file.schema_arrow.empty_table().columns, names, instants)


def _check_footer(source: IO[bytes], size_bytes: int) -> None:
    source.seek(max(size_bytes - 8, 0))
    n_bytes = int.from_bytes(source.read(4), "little")
    source.seek(0)
    if n_bytes > MAX_FOOTER_BYTES:
        raise FileFault("unreadable", f"a footer of {n_bytes} bytes; at most {MAX_FOOTER_BYTES} are read")


def _check_shape(file: pq.ParquetFile, size_bytes: int) -> None:
    names, metadata = file.schema_arrow.names, file.metadata
    check_columns(names)
    if metadata.num_rows > max(FREE_ROWS, size_bytes * MAX_INFLATION_RATIO):
        raise FileFault("gzip_bomb", f"{metadata.num_rows} rows in {size_bytes} bytes")
    nested = [nr for nr in range(metadata.num_columns) if metadata.schema.column(nr).max_repetition_level]
    for group in range(metadata.num_row_groups):
        n_values = max((metadata.row_group(group).column(nr).num_values for nr in nested), default=0)
        if n_values > MAX_NESTED_VALUES:
            raise FileFault("gzip_bomb", f"{n_values} nested values in one row group")


def check_columns(names: list[str]) -> None:
    """Refuse a table of columns that nobody could tell apart, or of too many.

    Raises:
        FileFault: `duplicate_column` or `unreadable`.
    """
    if len(set(names)) != len(names):
        raise FileFault("duplicate_column", "two columns of one name")
    if len(names) > MAX_COLUMNS:
        raise FileFault("unreadable", f"{len(names)} columns; at most {MAX_COLUMNS} are read")
    if any("\0" in name for name in names):
        # On the way into a frame a name ends there, and may become that of another column.
        raise FileFault("unreadable", "a NUL in the name of a column")


def _dictionary_texts(file: pq.ParquetFile) -> list[str]:
    """Flat columns of text that are stored as a dictionary, somewhere."""
    metadata, flat = file.metadata, []
    texts = {field.name for field in file.schema_arrow if _is_text(field.type)}
    groups = [metadata.row_group(nr) for nr in range(metadata.num_row_groups)]
    for nr, path in enumerate(metadata.schema.column(nr).path for nr in range(metadata.num_columns)):
        encodings = (encoding for group in groups for encoding in group.column(nr).encodings)
        if path in texts and any("DICTIONARY" in encoding for encoding in encodings):
            flat.append(path)
    return flat


def _instants_of_96_bits(file: pq.ParquetFile) -> set[str]:
    """Flat columns of the deprecated INT96, which has no word for a zone: Spark and Hive write instants of UTC so."""
    schema = file.metadata.schema
    return {column.path for column in map(schema.column, range(len(schema))) if column.physical_type == "INT96"}


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.binary(), pa.large_string(), pa.large_binary())


def _frame(columns: Sequence[Any], names: list[str], instants: set[str]) -> pl.DataFrame:
    plain = [_plain(column, name, name in instants) for column, name in zip(columns, names, strict=True)]
    # By number: an empty name would get another one on the way.
    frame = pl.from_arrow(pa.table(plain, names=[str(nr) for nr in range(len(names))]))
    if not isinstance(frame, pl.DataFrame):
        raise TypeError("a table of columns was expected")
    return frame.rename(dict(zip(frame.columns, names, strict=True)))


def _plain(column: pa.Array | pa.ChunkedArray, name: str, is_instant: bool) -> pa.Array | pa.ChunkedArray:
    """The column in a type that a frame can hold; what it cannot hold as text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _spelled_out(cast(pa.DictionaryArray, column), name)
    if pa.types.is_decimal256(kind):
        return pc.cast(column, pa.string())
    if pa.types.is_duration(kind):
        return pc.binary_join_element_wise(pc.cast(pc.cast(column, pa.int64()), pa.string()), kind.unit, " ")
    if pa.types.is_timestamp(kind) and (is_instant or kind.tz is not None):
        # The instant is the same; the name of the zone may be one that nobody knows.
        return pc.cast(column, pa.timestamp(kind.unit, "UTC"))
    if pa.types.is_nested(kind):
        return _as_json(column, name)
    return column


def _spelled_out(column: pa.DictionaryArray, name: str) -> pa.Array:
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    for chunk in chunks:
        if _is_text(chunk.type.value_type):
            lengths = pc.take(pc.binary_length(cast(pa.StringArray, chunk.dictionary)), chunk.indices)
            n_bytes = pc.sum(pc.cast(lengths, pa.int64())).as_py() or 0
            if n_bytes > MAX_COLUMN_BYTES:
                raise FileFault("gzip_bomb", f"{n_bytes} bytes of text in {len(chunk)} rows", column=name)
    return pc.cast(column, column.type.value_type)


def _as_json(column: pa.Array | pa.ChunkedArray, name: str) -> pa.Array:
    try:
        texts = [None if value is None else _dumps(value) for value in column.to_pylist()]
        return pa.array(texts, pa.string())
    except (ValueError, OverflowError, RecursionError) as error:
        raise FileFault("unreadable", f"a nested value that is no JSON: {error}", column=name) from error


def _dumps(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False, separators=(",", ":"))
