"""Part files that another engine wrote, and their commit to a Delta table as one app transaction.

The engine writes into a folder of its own below the table's. Files there belong to no version until the commit names
them, so a run that is killed before leaves no row behind; its folder stays, as files of every unfinished write do.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
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

StageWriter = Callable[[Path], None]
"""Writes Parquet files of one schema into a folder that does not exist yet."""


def commit_parts(lake: DeltaLake, table: str, write: StageWriter, app: AppTransaction) -> TableCommit:
    """Let an engine write part files and append them to a table in one commit, on disk when this returns.

    The files are written before the table's lock is taken, so that a long run keeps nobody from reading or writing.

    Args:
        lake: Where the table is, or will be.
        table: Its name.
        write: Called once; its files lie where engine and platform both reach them.
        app: Consumer and offset of the rows; where the table is there already, nothing is added.

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
            after = decided(request, before, lambda: _add(request, before, folder))
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


def _add(request: CommitRequest, before: DeltaTable | None, folder: Path) -> None:
    """Commit the files of a folder that have rows."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise BrokenPromise("the engine wrote no file, not even one without rows", table=request.table)
    schema = _arrow_schema(files[0])
    actions = [action for path in files if (action := _action(path, request.folder, schema)) is not None]
    committed = {request.folder / unquote(action.path) for action in actions}
    for path in set(folder.iterdir()) - committed:
        path.unlink()
    delta = Schema.from_arrow(schema)
    if before is None:
        create_table_with_add_actions(
            str(request.folder),
            delta,
            actions,
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
        commit_properties=request.properties(),
        post_commithook_properties=HOOKS,
    )


def _arrow_schema(path: Path) -> pa.Schema:
    """Columns of a file, all nullable and without the engine's notes."""
    schema = pq.read_schema(path)
    return pa.schema([pa.field(field.name, field.type, nullable=True) for field in schema])


def _action(path: Path, table: Path, schema: pa.Schema) -> AddAction | None:
    """What the log says of a file; None where it has no rows."""
    if not _arrow_schema(path).equals(schema):
        raise BrokenPromise("part files of one run differ in their columns", file=path.name)
    n_rows = pq.read_metadata(path).num_rows
    if n_rows == 0:
        return None
    state = path.stat()
    name = quote(path.relative_to(table).as_posix())
    modified = state.st_mtime_ns // 1_000_000
    return AddAction(name, state.st_size, {}, modified, True, json.dumps({"numRecords": n_rows}))
