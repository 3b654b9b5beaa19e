"""One commit to a Delta table: written once, decided after every error, and on disk before it is reported.

An error says nothing about the outcome: of 32 "disk full" errors in a trial 24 had committed. So after any error the
table is reopened, and its log decides: by the consumer's offset (app transaction), else by a mark that is unique to the
attempt. What is found inside is made durable and reported as done; what is not may be tried again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, WriterProperties
from deltalake import write_deltalake as _write_delta
from deltalake.exceptions import CommitFailedError, DeltaError

from replenish.errors import StoreError, WriteConflict
from replenish.stores.durable import fsync_commit
from replenish.stores.failpoints import failpoint
from replenish.stores.full_disk import is_disk_full, store_full
from replenish.stores.lake_log import actions_of, entry_path, has_log

AppTransaction = tuple[str, int]
"""Consumer and the offset up to which its input is inside the table."""

MARK = "replenish.commit"
"""Key in a commit's metadata; its value occurs in no other commit."""

HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
"""Nothing behind a commit may fail in its name: checkpoints and cleaning are steps of their own."""

WRITER = WriterProperties(compression="SNAPPY")
"""A history load opens a file per day at once: zstd took twice the time and half as much memory again."""


@dataclass(frozen=True)
class CommitRequest:
    """What one commit shall do to the table in `folder`."""

    table: str
    folder: Path
    below: Path
    """Folder of the lake: new folders are forced to disk up to here."""
    app: AppTransaction | None = None
    app_from: int | None = None
    """Offset after which the input was read; the table must be there still. None = not checked."""
    metadata: dict[str, str] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def properties(self) -> CommitProperties:
        """App transaction, mark and metadata for deltalake."""
        transactions = [Transaction(*self.app)] if self.app is not None else None
        metadata = {**self.metadata, "replenish.version": _code_version(), MARK: self.mark}
        # A conflict is decided by us: deltalake's own second attempt could land beside another writer's commit.
        return CommitProperties(custom_metadata=metadata, app_transactions=transactions, max_commit_retries=0)


def frame_metadata(frame: pl.DataFrame, app: AppTransaction | None, app_from: int | None) -> dict[str, str]:
    """What a commit says of its frame: rows, and the span of the journal where both ends are known."""
    known = {"replenish.rows": str(frame.height)}
    if app is not None and app_from is not None:
        known["replenish.seqs"] = f"{app_from + 1}-{app[1]}"
    return known


@cache
def _code_version() -> str:
    try:
        return version("replenish")
    except PackageNotFoundError:
        return "unknown"


def is_inside(table: DeltaTable, app: AppTransaction) -> bool:
    """Whether the table holds this consumer's input up to this offset."""
    known = table.transaction_version(app[0])
    return known is not None and known >= app[1]


def write_frame(
    request: CommitRequest, before: DeltaTable | None, data: pl.DataFrame | pa.RecordBatchReader, **how: Any
) -> DeltaTable:
    """Write `data` as one commit on the table as it was opened; the table after it, not yet forced to disk.

    Args:
        before: The table whose app transaction was looked at; None where there is no table yet.
        how: Arguments of `write_deltalake`: mode, predicate, schema_mode, partition_by.
    """

    def write() -> None:
        request.folder.mkdir(parents=True, exist_ok=True)
        _write_delta(
            before if before is not None else str(request.folder),
            data,
            commit_properties=request.properties(),
            post_commithook_properties=HOOKS,
            writer_properties=WRITER,
            **how,
        )

    return decided(request, before, write)


def decided(request: CommitRequest, before: DeltaTable | None, write: Callable[[], object]) -> DeltaTable:
    """Run `write`, which commits `request` on `before` or nothing; after an error the reopened table decides.

    Raises:
        StoreFull: The disk is full and nothing was committed.
        WriteConflict: Another writer moved the table on.
        StoreError: Nothing was committed, for another reason.
    """
    first_new = 0 if before is None else before.version() + 1
    try:
        failpoint("lake.before_write")
        write()
        failpoint("lake.written")
        # A write leaves the table it was made on at the version it made.
        if before is not None and before.version() >= first_new:
            return before
    except BaseException as fault:
        # Panics of the Rust core are no `Exception`; a person who interrupts is no fault of the table.
        if not isinstance(fault, Exception) and type(fault).__name__ != "PanicException":
            raise
        if not _was_committed(request, first_new):
            raise_as_store_error(fault, request)
    return DeltaTable(str(request.folder))


def _was_committed(request: CommitRequest, first_new: int) -> bool:
    """Whether a commit of `first_new` or later bears the request's mark."""
    if not has_log(request.folder):
        return False
    newest = DeltaTable(str(request.folder)).version()
    entries = (entry_path(request.folder, number) for number in range(first_new, newest + 1))
    return any(
        action.get("commitInfo", {}).get(MARK) == request.mark for entry in entries for action in actions_of(entry)
    )


def raise_as_store_error(fault: BaseException, request: CommitRequest) -> None:
    """Raise the error of our tree that says what happened; an error nobody foresaw is raised as it is.

    Raises:
        StoreFull: No space, or no quota.
        WriteConflict: Another writer's commit took the version.
        StoreError: Any other error of the lake's library or the file system.
    """
    if is_disk_full(fault):
        raise store_full(f"write the table {request.table}, which is as it was", request.folder, fault) from fault
    if isinstance(fault, CommitFailedError):
        raise WriteConflict("another writer moved the table on", table=request.table, cause=fault) from fault
    if isinstance(fault, DeltaError | OSError) or not isinstance(fault, Exception):
        raise StoreError("the table could not be written", table=request.table, cause=fault) from fault
    raise fault


def force_to_disk(request: CommitRequest, first: int, last: int, *, is_new: bool) -> None:
    """The barrier: commits `first` to `last` are on disk when it returns.

    Raises:
        StoreError: They are inside, but a power cut could still undo them; asking for them again forces them again.
    """
    below = request.below.parent if is_new else request.folder
    try:
        fsync_commit(request.folder, range(first, last + 1), below=below)
    except OSError as fault:
        raise StoreError(
            "a commit could not be forced to disk; it is inside, run again to force it",
            table=request.table,
            cause=fault,
        ) from fault
    failpoint("lake.done")
