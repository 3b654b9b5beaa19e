"""Part files that another engine wrote, and their commit to a Delta table as one app transaction.

The engine writes into a folder of its own below the table's. Files there belong to no version until the commit names
them, so a run that is killed before leaves no row behind; its folder stays, as files of every unfinished write do.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema
from deltalake.transaction import AddAction, create_table_with_add_actions

from replenish.errors import BrokenPromise
from replenish.stores.doctor.file_digests import record_commits
from replenish.stores.lake import DeltaLake, TableCommit
from replenish.stores.lake_commit import HOOKS, AppTransaction, CommitRequest, decided, is_inside

PARTS = "parts"
"""Begins the names of the folders that engines write into."""


@dataclass(frozen=True)
class PartedColumn:
    """A column by which part files lie in folders, `<name>=<value>/`, and which is not in the files."""

    name: str
    type: pa.DataType
    place: int
    """Where it stands among the table's columns."""

    def value_of(self, path: Path, folder: Path) -> str:
        """The value of a file's rows, as Delta writes it.

        Raises:
            BrokenPromise: The file lies in no folder of a value.
        """
        name, _, value = unquote(path.relative_to(folder).parts[0]).partition("=")
        if name != self.name or value in ("", "__HIVE_DEFAULT_PARTITION__"):
            raise BrokenPromise("a part file without its partition", column=self.name, file=path.name)
        return value


StageWriter = Callable[[Path], None]
"""Writes Parquet files of one schema into a folder that does not exist yet, or into folders of values in it."""


def commit_parts(
    lake: DeltaLake, table: str, write: StageWriter, app: AppTransaction, parted: PartedColumn | None = None
) -> TableCommit:
    """Let an engine write part files and append them to a table in one commit, on disk when this returns.

    The files are written before the table's lock is taken, so that a long run keeps nobody from reading or writing.

    Args:
        lake: Where the table is, or will be.
        table: Its name.
        write: Called once; its files lie where engine and platform both reach them.
        app: Consumer and offset of the rows; where the table is there already, nothing is added.
        parted: The table's partition column; None = it has none.

    Raises:
        BrokenPromise: The files have other columns than the table.
        StoreError: Nothing was committed.
    """
    request = CommitRequest(table, lake.path(table), lake.root, app)
    folder = request.folder / "-".join((PARTS, request.mark))
    is_inside_now = False
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        write(folder)
        with lake.writing(table) as before:
            if before is not None and is_inside(before, app):
                shutil.rmtree(folder, ignore_errors=True)
                lake.make_durable(request, before.version())
                return TableCommit(table, before.version(), before.count())
            after = decided(request, before, lambda: _add(request, before, folder, parted))
            is_inside_now = True
            lake.make_durable(request, after.version())
            record_commits(lake.root, table, [after.version()])
            lake.tidy_log(table, after.version())
    except Exception:
        # Until a commit names them, the files are nobody's; from then on they are the table's.
        if not is_inside_now:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return TableCommit(table, after.version(), after.count())


def _add(request: CommitRequest, before: DeltaTable | None, folder: Path, parted: PartedColumn | None) -> None:
    """Commit the files of a folder that have rows."""
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise BrokenPromise("the engine wrote no file, not even one without rows", table=request.table)
    schema = _arrow_schema(files[0])
    values = [{} if parted is None else {parted.name: parted.value_of(path, folder)} for path in files]
    made = [_action(path, request.folder, schema, value) for path, value in zip(files, values, strict=True)]
    actions = [action for action in made if action is not None]
    committed = {request.folder / unquote(action.path) for action in actions}
    for path in {path for path in folder.rglob("*") if path.is_file()} - committed:
        path.unlink()
    partition_by = [] if parted is None else [parted.name]
    if parted is not None:
        schema = schema.insert(parted.place, pa.field(parted.name, parted.type, nullable=True))
    delta = Schema.from_arrow(schema)
    if before is None:
        create_table_with_add_actions(
            str(request.folder),
            delta,
            actions,
            partition_by=partition_by,
            commit_properties=request.properties(),
            post_commithook_properties=HOOKS,
        )
        return
    if before.schema() != delta:
        raise BrokenPromise("other columns than the table's", table=request.table, columns=schema.names)
    before.create_write_transaction(
        [*actions],
        "append",
        delta,
        partition_by=partition_by,
        commit_properties=request.properties(),
        post_commithook_properties=HOOKS,
    )


def _arrow_schema(path: Path) -> pa.Schema:
    """Columns of a file, all nullable and without the engine's notes."""
    schema = pq.read_schema(path)
    return pa.schema([pa.field(field.name, field.type, nullable=True) for field in schema])


def _action(path: Path, table: Path, schema: pa.Schema, values: dict[str, str]) -> AddAction | None:
    """What the log says of a file; None where it has no rows."""
    if not _arrow_schema(path).equals(schema):
        raise BrokenPromise("part files of one run differ in their columns", file=path.name)
    n_rows = pq.read_metadata(path).num_rows
    if n_rows == 0:
        return None
    state = path.stat()
    name = quote(path.relative_to(table).as_posix(), safe="/=")
    modified = state.st_mtime_ns // 1_000_000
    return AddAction(name, state.st_size, {**values}, modified, True, json.dumps({"numRecords": n_rows}))
