"""Which postings came into a source's table and which went, between two of its versions, from the files that differ.

The commit log names the data files of every version, and a file never changes. Rows of files that both versions have
cannot differ; what a table of many years gained in a day is read from the files of that day.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable

from replenish.errors import TableMissing
from replenish.stores.lake import DeltaLake

PostingsOf = Callable[[pl.LazyFrame], pl.LazyFrame]

_SIGN = "_sign"
_PARTITION = re.compile(r"([^/=]+)=[^/]*/")


@dataclass(frozen=True)
class SourceFiles:
    """Files that tell two versions of a table apart."""

    came: tuple[Path, ...]
    gone: tuple[Path, ...]
    n_rows: int
    """Rows in all of them."""


@dataclass(frozen=True)
class ChangedPostings:
    """What changed in a ledger; a posting that stands in both versions is in neither frame."""

    came: pl.DataFrame
    gone: pl.DataFrame


def table_identity(lake: DeltaLake, table: str) -> str:
    """The id that a Delta table got when it was made, kept by every overwrite and lost with its folder.

    Raises:
        TableMissing: There is no such table.
    """
    if not lake.has(table):
        raise TableMissing("the lake has no such table", table=table)
    return str(DeltaTable(str(lake.path(table))).metadata().id)


def differing_files(lake: DeltaLake, table: str, first: int, last: int, columns: Iterable[str]) -> SourceFiles | None:
    """Files that tell version `last` of a table from version `first`.

    None where that can no longer be known, or one of the columns stands in the names of folders and not in the files.
    """
    try:
        before, after = set(lake.file_paths(table, version=first)), set(lake.file_paths(table, version=last))
    except TableMissing:
        return None
    came, gone = _places(lake, table, after - before), _places(lake, table, before - after)
    if not all(path.exists() for path in gone):
        return None
    if set(columns) & {column for name in before ^ after for column in _PARTITION.findall(name)}:
        return None
    n_rows = sum(_n_rows(paths) for paths in (came, gone))
    return SourceFiles(came, gone, n_rows)


def changed_postings(lake: DeltaLake, table: str, files: SourceFiles, postings_of: PostingsOf) -> ChangedPostings:
    """The postings that came and went with these files; `postings_of` makes them of the table's rows."""
    came, gone = (_read(lake, table, paths, postings_of) for paths in (files.came, files.gone))
    if gone.is_empty():
        return ChangedPostings(came, gone)
    # A month that was written anew, or files that were merged, hold mostly the postings they held before.
    both = pl.concat([came.with_columns(pl.lit(1).alias(_SIGN)), gone.with_columns(pl.lit(-1).alias(_SIGN))])
    net = both.group_by(came.columns).agg(pl.col(_SIGN).sum()).filter(pl.col(_SIGN) != 0)
    return ChangedPostings(net.filter(pl.col(_SIGN) > 0).drop(_SIGN), net.filter(pl.col(_SIGN) < 0).drop(_SIGN))


def _places(lake: DeltaLake, table: str, names: set[str]) -> tuple[Path, ...]:
    return tuple(sorted(lake.path(table) / unquote(name) for name in names))


def _n_rows(paths: tuple[Path, ...]) -> int:
    return int(pl.scan_parquet(list(paths)).select(pl.len()).collect().item()) if paths else 0


def _read(lake: DeltaLake, table: str, paths: tuple[Path, ...], postings_of: PostingsOf) -> pl.DataFrame:
    schema = lake.scan(table).collect_schema()
    if not paths:
        return postings_of(pl.LazyFrame(schema=schema)).collect()
    # Files that are older than a column of the table lack it.
    rows = pl.scan_parquet(
        list(paths), schema=schema, missing_columns="insert", extra_columns="ignore", hive_partitioning=False
    )
    return postings_of(rows).collect()
