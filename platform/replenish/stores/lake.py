"""The lake: Delta tables under one folder, with exactly-once commits that survive a power cut.

deltalake never calls fsync, so a commit is only reported here after a barrier has forced data files, commit log and
their folders to disk. A consumer's offset travels inside the commit as an app transaction: a commit whose offset the
table already holds writes nothing. One writer per table, held by a lock of the kernel.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, cast

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable

from replenish.errors import StoreError, TableMissing, WriteConflict
from replenish.stores.delta_values import Filter, filter_expr, partition_predicate, storable
from replenish.stores.doctor.file_digests import record_commits
from replenish.stores.full_disk import refusing_when_full
from replenish.stores.kept_tables import KeptTables
from replenish.stores.lake_commit import (
    AppTransaction,
    CommitRequest,
    force_to_disk,
    frame_metadata,
    is_inside,
    write_frame,
)
from replenish.stores.lake_fence import refuse_fenced
from replenish.stores.lake_log import (
    CHECKPOINT_EVERY,
    checkpoint_is_due,
    entry_path,
    has_log,
    shelve_log,
    unshelve_version,
    write_checkpoint,
)
from replenish.stores.layout import RootLayout
from replenish.stores.locks import hold
from replenish.stores.set_aside import noticing_set_aside

Audit = Callable[[pl.DataFrame], None]
"""Called on a frame before it is committed; raising `AuditFailed` means that nothing is written."""

WAIT_FOR_WRITER_SECONDS = 20.0
"""A commit of a million rows takes a few seconds: whoever holds a table longer is not about to finish."""

_TABLE_NAME = re.compile(r"[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)*")
_LOG = logging.getLogger(__name__)


def accept_all(frame: pl.DataFrame) -> None:
    """The audit that lets every frame pass."""


@dataclass(frozen=True)
class TableCommit:
    """State of a table after a commit; `n_rows` counts the whole table."""

    table: str
    version: int
    n_rows: int


class DeltaLake:
    """Delta tables below `root`; a table's name is its path, such as `silver/sales`.

    Args:
        root: Folder of the lake, in the root of its deployment: locks and fence lie beside it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._deployment = RootLayout(root.parent)
        self._on_disk: dict[str, int] = {}
        """Newest version per table that this object has forced to disk."""
        self._kept = KeptTables()

    def path(self, table: str) -> Path:
        """Folder of a table, whether or not it exists."""
        if not _TABLE_NAME.fullmatch(table):
            raise StoreError("not a table name", table=table)
        return self.root / table

    def has(self, table: str) -> bool:
        """Whether the table exists, with or without rows."""
        return has_log(self.path(table))

    def table_names(self) -> list[str]:
        """Names of all tables, sorted."""
        logs = self.root.glob("**/_delta_log")
        return sorted(name for log in logs if self.has(name := log.parent.relative_to(self.root).as_posix()))

    def version(self, table: str) -> int | None:
        """Newest version of the table; None where there is none."""
        return self._newest(table).version() if self.has(table) else None

    def app_version(self, table: str, app_id: str) -> int | None:
        """Offset of this consumer inside the table; None where it never wrote."""
        return self._newest(table).transaction_version(app_id) if self.has(table) else None

    def state(self, table: str) -> TableCommit:
        """Version and rows of the table as it is now."""
        opened = self._newest(table)
        return TableCommit(table, opened.version(), opened.count())

    def row_count(self, table: str) -> int:
        """Rows in the newest version, from the commit log alone."""
        return self._newest(table).count()

    def file_paths(self, table: str, *, version: int | None = None) -> list[str]:
        """Data files of one version, relative to the table's folder, as the log names them."""
        return [str(path) for path in pl.DataFrame(self._open(table, version).get_add_actions())["path"]]

    def schema(self, table: str) -> dict[str, pl.DataType]:
        """Column names and types of the newest version."""
        empty = pl.from_arrow(pa.schema(cast("Any", self._newest(table).schema().to_arrow())).empty_table())
        return dict(cast("pl.DataFrame", empty).schema)

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
        """Rows of one version that pass all filters, in no promised order; TableSetAside where it was taken away."""
        with noticing_set_aside(table, self.path(table)):
            rows = self.scan(table, version=version)
            for condition in filters or ():
                rows = rows.filter(filter_expr(condition))
            return (rows.select(columns) if columns is not None else rows).collect()

    def append(
        self,
        table: str,
        frame: pl.DataFrame,
        *,
        partition_by: Sequence[str] = (),
        app: AppTransaction | None = None,
        app_from: int | None = None,
    ) -> TableCommit:
        """Add rows, creating the table when it is new; columns the table lacks are added to it.

        Args:
            app: Consumer and offset that the rows bring the table to; where it is there already, nothing is written.
            app_from: Offset the rows were read after. WriteConflict where the table has moved on since.
        """
        return self._commit(
            table, storable(frame), app, app_from, mode="append", partition_by=list(partition_by) or None
        )

    def overwrite(
        self,
        table: str,
        frame: pl.DataFrame | pa.RecordBatchReader,
        *,
        partition_by: Sequence[str] = (),
        app: AppTransaction | None = None,
        app_from: int | None = None,
    ) -> TableCommit:
        """Replace all rows and the schema; older versions stay readable. A batch reader is streamed, never held."""
        data = storable(frame) if isinstance(frame, pl.DataFrame) else frame
        how = {"mode": "overwrite", "schema_mode": "overwrite", "partition_by": list(partition_by)}
        return self._commit(table, data, app, app_from, **how)

    def replace_partitions(
        self,
        table: str,
        frame: pl.DataFrame,
        *,
        column: str,
        values: Sequence[int | date],
        app: AppTransaction | None = None,
        app_from: int | None = None,
    ) -> TableCommit:
        """Replace exactly the partitions `values` of `column` by the rows of `frame`, which must all lie in them."""
        predicate = partition_predicate(column, values)
        if not self.has(table):
            return self.append(table, frame, partition_by=[column], app=app, app_from=app_from)
        return self._commit(table, storable(frame), app, app_from, mode="overwrite", predicate=predicate)

    def lock_path(self, table: str) -> Path:
        """The lock that whoever changes the table holds."""
        name = self.path(table).relative_to(self.root).as_posix().replace("/", ".")
        return self._deployment.locks / f"lake-{name}.lock"

    @contextmanager
    def writing(self, table: str, purpose: str = "write the table") -> Iterator[DeltaTable | None]:
        """Hold the table's lock as its only writer; gives the newest table, None where there is none.

        Raises:
            AlreadyRunning: Another writer did not finish in time.
            Fenced: Another root was promoted.
            StoreFull: There was no space for what the block did.
        """
        lock = hold(self.lock_path(table), f"{purpose} {table}", wait_seconds=WAIT_FOR_WRITER_SECONDS)
        with refusing_when_full(f"{purpose} {table}", self.path(table)), lock:
            refuse_fenced(self._deployment)
            yield self._newest(table) if self.has(table) else None

    def _newest(self, table: str) -> DeltaTable:
        """The newest version; of nothing but this object, so that no reader sees a table change under it."""
        return self._kept.table(self.path(table), lambda: self._open(table))

    def _open(self, table: str, version: int | None = None) -> DeltaTable:
        folder = self.path(table)
        if not has_log(folder):
            raise TableMissing("the lake has no such table", table=table)
        if version is not None and not entry_path(folder, version).exists():
            unshelve_version(folder, version)
            if not entry_path(folder, version).exists():
                words = "this version was never made, or its log entry has gone"
                raise TableMissing(words, table=table, version=version)
        return DeltaTable(str(folder), version=version)

    def _commit(
        self,
        table: str,
        data: pl.DataFrame | pa.RecordBatchReader,
        app: AppTransaction | None,
        app_from: int | None,
        **how: Any,
    ) -> TableCommit:
        """One Delta commit, on disk when it returns; nothing is written where `app` is already inside."""
        metadata = frame_metadata(data, app, app_from) if isinstance(data, pl.DataFrame) else {}
        request = CommitRequest(table, self.path(table), self.root, app, app_from, metadata)
        with self.writing(table) as before:
            if before is not None and app is not None and is_inside(before, app):
                self.make_durable(request, before.version())
                return TableCommit(table, before.version(), before.count())
            if before is not None:
                _refuse_moved(before, app, app_from, table)
                how |= _wider(before, data, how)
            # Kept again only when it is known to be at the version that this commit made.
            self._kept.drop(request.folder)
            after = write_frame(request, before, data, **how)
            self.make_durable(request, after.version())
            record_commits(self.root, table, [after.version()])
            self._kept.keep(request.folder, after)
            self.tidy_log(table, after.version())
        return TableCommit(table, after.version(), after.count())

    def make_durable(self, request: CommitRequest, version: int) -> None:
        """Force what this object has not forced yet, up to `version`, to disk; the caller holds the table's lock.

        A writer that died left at most one commit that is not on disk, the newest; so the commit before ours is forced
        too, unless it is known to be.
        """
        known = self._on_disk.get(request.table)
        first = max(version - 1, 0) if known is None or known > version else known + 1
        first = next((v for v in range(first, version + 1) if entry_path(request.folder, v).exists()), version)
        force_to_disk(request, first, version, is_new=known is None)
        self._on_disk[request.table] = version

    def tidy_log(self, table: str, version: int) -> None:
        """Write a checkpoint where one is due and shelve old entries; a failure is reported, the commits stand."""
        folder = self.path(table)
        if not checkpoint_is_due(folder, version):
            return
        self._kept.drop(folder)
        try:
            checkpoint = write_checkpoint(folder)
            if (checkpoint // CHECKPOINT_EVERY) % 5 == 0:
                shelve_log(folder, checkpoint)
        except (StoreError, OSError) as fault:
            _LOG.warning("table %s: its log could not be tidied, its commits stand: %s", table, fault)


def _refuse_moved(before: DeltaTable, app: AppTransaction | None, app_from: int | None, table: str) -> None:
    """Refuse rows that were made after another offset than the table's."""
    if app is None or app_from is None:
        return
    found = before.transaction_version(app[0])
    if (found or 0) != app_from:
        raise WriteConflict("another writer moved the table on", table=table, read_after=app_from, found=found)


def _wider(before: DeltaTable, data: pl.DataFrame | pa.RecordBatchReader, how: dict[str, Any]) -> dict[str, str]:
    """The schema mode of an append whose frame has columns that the table lacks."""
    if how["mode"] != "append" or not isinstance(data, pl.DataFrame):
        return {}
    known = {field.name for field in before.schema().fields}
    return {} if set(data.columns) <= known else {"schema_mode": "merge"}
