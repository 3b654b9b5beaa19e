"""The lake: Delta tables under one folder, with exactly-once commits that survive a power cut.

deltalake never calls fsync, so a commit is only reported here after a barrier has forced data files, commit log and
their folders to disk. A consumer's offset travels inside the commit as an app transaction: a commit whose offset the
table already holds writes nothing. One writer per table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, cast

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, WriterProperties
from deltalake import write_deltalake as _write_delta
from deltalake.exceptions import CommitFailedError, DeltaError

from replenish.errors import StoreError, TableMissing, WriteConflict
from replenish.stores.durable import fsync_commit

Audit = Callable[[pl.DataFrame], None]
"""Called on a frame before it is committed; raising `AuditFailed` means that nothing is written."""

AppTransaction = tuple[str, int]
"""Consumer and the offset up to which its input is inside the table."""

Filter = tuple[str, str, Any]
"""(column, operator, value): operators == != < <= > >= in; all filters of a list must hold."""

_TABLE_NAME = re.compile(r"[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)*")
_COLUMN_NAME = re.compile(r"[a-z][a-z0-9_]*")
_OPERATORS: dict[str, Callable[[pl.Expr, Any], pl.Expr]] = {
    "==": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "in": lambda column, value: column.is_in(list(value)),
}


def accept_all(frame: pl.DataFrame) -> None:
    """The audit that lets every frame pass."""


@dataclass(frozen=True)
class TableCommit:
    """State of a table after a commit; `n_rows` counts the whole table."""

    table: str
    version: int
    n_rows: int


def partition_predicate(column: str, values: Iterable[int | date]) -> str:
    """The only place where a Delta predicate is made; from integers and dates alone, so nothing can be smuggled in.

    >>> partition_predicate("event_month", [202402, 202401])
    'event_month IN (202401, 202402)'
    """
    if not _COLUMN_NAME.fullmatch(column):
        raise StoreError("not a column name", column=column)
    literals = [_literal(value) for value in sorted(set(values))]  # type: ignore[type-var]
    if not literals:
        raise StoreError("a partition predicate needs a value", column=column)
    return "".join([column, " IN (", ", ".join(literals), ")"])


def _literal(value: int | date) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is date:
        return "".join(["DATE '", value.isoformat(), "'"])
    raise StoreError("a partition is an integer or a date", value=repr(value))


def storable(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame in types that Delta has: unsigned integers widen, categories become text, times microseconds."""
    casts: list[pl.Expr] = []
    for name, dtype in frame.schema.items():
        if dtype.is_unsigned_integer():
            casts.append(pl.col(name).cast(pl.Int64))
        elif isinstance(dtype, pl.Categorical | pl.Enum | pl.Null):
            casts.append(pl.col(name).cast(pl.String))
        elif isinstance(dtype, pl.Datetime) and dtype.time_unit != "us":
            casts.append(pl.col(name).dt.cast_time_unit("us"))
    return frame.with_columns(casts) if casts else frame


class DeltaLake:
    """Delta tables below `root`; a table's name is its path, such as `silver/sales`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, table: str) -> Path:
        """Folder of a table, whether or not it exists."""
        if not _TABLE_NAME.fullmatch(table):
            raise StoreError("not a table name", table=table)
        return self.root / table

    def has(self, table: str) -> bool:
        """Whether the table exists, with or without rows."""
        return DeltaTable.is_deltatable(str(self.path(table)))

    def version(self, table: str) -> int | None:
        """Newest version of the table; None where there is none."""
        return self._open(table).version() if self.has(table) else None

    def app_version(self, table: str, app_id: str) -> int | None:
        """Offset of this consumer inside the table; None where it never wrote."""
        return self._open(table).transaction_version(app_id) if self.has(table) else None

    def state(self, table: str) -> TableCommit:
        """Version and rows of the table as it is now."""
        opened = self._open(table)
        return TableCommit(table, opened.version(), opened.count())

    def row_count(self, table: str) -> int:
        """Rows in the newest version, from the commit log alone."""
        return self._open(table).count()

    def schema(self, table: str) -> dict[str, pl.DataType]:
        """Column names and types of the newest version."""
        return dict(self.scan(table).collect_schema())

    def scan(self, table: str, *, version: int | None = None) -> pl.LazyFrame:
        """A lazy frame over one version; filters on partition columns skip files. TableMissing where there is none."""
        return pl.scan_delta(self._open(table, version))

    def read(
        self,
        table: str,
        *,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        filters: Sequence[Filter] | None = None,
    ) -> pl.DataFrame:
        """Rows of one version that pass all filters, in no promised order."""
        rows = self.scan(table, version=version)
        for column, operator, value in filters or ():
            rows = rows.filter(_OPERATORS[operator](pl.col(column), value))
        return (rows.select(columns) if columns is not None else rows).collect()

    def append(
        self, table: str, frame: pl.DataFrame, *, partition_by: Sequence[str] = (), app: AppTransaction | None = None
    ) -> TableCommit:
        """Add rows, creating the table when it is new; columns the table lacks are added to it."""
        data = storable(frame)
        is_wider = self.has(table) and not set(data.columns) <= set(self.schema(table))
        how = {"schema_mode": "merge"} if is_wider else {}
        return self._commit(table, data, app, mode="append", partition_by=list(partition_by) or None, **how)

    def overwrite(
        self,
        table: str,
        frame: pl.DataFrame | pa.RecordBatchReader,
        *,
        partition_by: Sequence[str] = (),
        app: AppTransaction | None = None,
    ) -> TableCommit:
        """Replace all rows and the schema; older versions stay readable. A batch reader is streamed, never held."""
        data = storable(frame) if isinstance(frame, pl.DataFrame) else frame
        return self._commit(
            table, data, app, mode="overwrite", schema_mode="overwrite", partition_by=list(partition_by)
        )

    def replace_partitions(
        self,
        table: str,
        frame: pl.DataFrame,
        *,
        column: str,
        values: Sequence[int | date],
        app: AppTransaction | None = None,
    ) -> TableCommit:
        """Replace exactly the partitions `values` of `column` by the rows of `frame`, which must all lie in them."""
        predicate = partition_predicate(column, values)
        if not self.has(table):
            return self.append(table, frame, partition_by=[column], app=app)
        return self._commit(table, storable(frame), app, mode="overwrite", predicate=predicate)

    def _open(self, table: str, version: int | None = None) -> DeltaTable:
        if not self.has(table):
            raise TableMissing("the lake has no such table", table=table)
        return DeltaTable(str(self.path(table)), version=version)

    def _commit(
        self, table: str, data: pl.DataFrame | pa.RecordBatchReader, app: AppTransaction | None, **how: object
    ) -> TableCommit:
        """One Delta commit, on disk when it returns; nothing is written where `app` is already inside."""
        path = self.path(table)
        before = self._open(table) if self.has(table) else None
        if before is not None and app is not None and _is_inside(before, app):
            return TableCommit(table, before.version(), before.count())
        first_new = 0 if before is None else before.version() + 1
        path.mkdir(parents=True, exist_ok=True)
        transactions = [Transaction(*app)] if app is not None else None
        try:
            _write_delta(
                before if before is not None else str(path),
                data,
                commit_properties=CommitProperties(app_transactions=transactions),
                # Old versions stay readable: manifests pin them.
                post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
                # A history load opens a file per day at once: zstd took twice the time and half as much memory again.
                writer_properties=WriterProperties(compression="SNAPPY"),
                **cast("dict[str, Any]", how),
            )
        except (DeltaError, OSError) as fault:
            self._resolve(table, app, fault)
        after = DeltaTable(str(path))
        fsync_commit(path, range(first_new, after.version() + 1), below=self.root)
        return TableCommit(table, after.version(), after.count())

    def _resolve(self, table: str, app: AppTransaction | None, fault: Exception) -> None:
        """A failed write has an unknown outcome: only the reopened table knows whether it is inside."""
        if app is not None and self.has(table) and _is_inside(self._open(table), app):
            return
        if isinstance(fault, CommitFailedError):
            raise WriteConflict("another writer moved the table on", table=table, cause=fault) from fault
        raise StoreError("the table could not be written", table=table, cause=fault) from fault


def _is_inside(table: DeltaTable, app: AppTransaction) -> bool:
    known = table.transaction_version(app[0])
    return known is not None and known >= app[1]
