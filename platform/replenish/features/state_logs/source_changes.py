"""Which postings came into a source's table and which went, between two of its versions, from the files that differ.

The commit log names the data files of every version, and a file never changes. Rows of files that both versions have
cannot differ; what a table of many years gained in a day is read from the files of that day.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable

from replenish.errors import TableMissing
from replenish.features.state_logs.definition import PostingsTable, StateLogDefinition
from replenish.stores.lake import DeltaLake

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


def differing_files(lake: DeltaLake, table: str, first: int, last: int) -> SourceFiles | None:
    """Files that tell version `last` of a table from version `first`; None where that can no longer be known."""
    try:
        before, after = set(lake.file_paths(table, version=first)), set(lake.file_paths(table, version=last))
    except TableMissing:
        return None
    came, gone = _places(lake, table, after - before), _places(lake, table, before - after)
    if not all(path.exists() for path in gone):
        return None
    n_rows = sum(_n_rows(paths) for paths in (came, gone))
    return SourceFiles(came, gone, n_rows)


def changed_postings(
    lake: DeltaLake, definition: StateLogDefinition, source: PostingsTable, files: SourceFiles
) -> ChangedPostings:
    """The postings of a log's definition that came and went with these files."""
    came, gone = (_read(lake, definition, source, paths) for paths in (files.came, files.gone))
    if gone.is_empty():
        return ChangedPostings(came, gone)
    # A month that was written anew, or files that were merged, hold mostly the postings they held before.
    both = pl.concat([came.with_columns(pl.lit(1).alias(_SIGN)), gone.with_columns(pl.lit(-1).alias(_SIGN))])
    net = both.group_by(came.columns).agg(pl.col(_SIGN).sum()).filter(pl.col(_SIGN) != 0)
    return ChangedPostings(net.filter(pl.col(_SIGN) > 0).drop(_SIGN), net.filter(pl.col(_SIGN) < 0).drop(_SIGN))


def is_partition_column(files: SourceFiles, table_folder: Path, column: str) -> bool:
    """Whether a column stands in the names of folders only, so that the files do not hold it."""
    names = [path.relative_to(table_folder).as_posix() for path in (*files.came[:1], *files.gone[:1])]
    return any(column in _PARTITION.findall(name) for name in names)


def _places(lake: DeltaLake, table: str, names: set[str]) -> tuple[Path, ...]:
    return tuple(sorted(lake.path(table) / unquote(name) for name in names))


def _n_rows(paths: tuple[Path, ...]) -> int:
    return int(pl.scan_parquet(list(paths)).select(pl.len()).collect().item()) if paths else 0


def _read(
    lake: DeltaLake, definition: StateLogDefinition, source: PostingsTable, paths: tuple[Path, ...]
) -> pl.DataFrame:
    schema = pl.Schema(lake.schema(source.table))
    if not paths:
        return definition.postings(pl.LazyFrame(schema=schema), source).collect()
    # Files that are older than a column of the table lack it.
    rows = pl.scan_parquet(
        list(paths), schema=schema, missing_columns="insert", extra_columns="ignore", hive_partitioning=False
    )
    return definition.postings(rows, source).collect()
