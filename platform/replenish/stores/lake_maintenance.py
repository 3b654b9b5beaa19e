"""Keeping Delta tables small without losing anything: compaction, a guarded vacuum, and the end of old log entries.

Each works under the table's lock, may be killed anywhere and started again. Nothing younger than a week is removed from
the data and nothing younger than thirty days from the log, and nothing that a pinned version, or one behind it, needs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

from deltalake import DeltaTable

from replenish.errors import BrokenPromise, ReplenishError, StoreError, TableMissing, TableSetAside
from replenish.stores.doctor.file_digests import record_commits
from replenish.stores.failpoints import failpoint
from replenish.stores.lake import DeltaLake, TableCommit
from replenish.stores.lake_commit import HOOKS, WRITER, CommitRequest, decided
from replenish.stores.lake_log import (
    KEPT_FOLDER,
    LOG_FOLDER,
    actions_of,
    checkpoint_version,
    entry_path,
    versioned_files,
)
from replenish.stores.set_aside import noticing_set_aside

COMPACT_EVERY = 100
"""Commits from one compaction to the next: at 600 small commits without any, a scan took forty times as long."""
_LAST_COMPACTION = "_last_compaction"
"""Hint beside the shelved log: the version after the last compaction. Without it a table is compacted once more."""
DATA_RETENTION = timedelta(days=7)
LOG_RETENTION = timedelta(days=30)
TASKS = 2
"""Files merged at a time, which bounds memory."""
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableMaintenance:
    """What became of one table; `fault` says why a step was left for the next time."""

    table: str
    version_before: int
    version_after: int
    files_before: int
    files_after: int
    removed_files: int = 0
    expired_entries: int = 0
    fault: str | None = None


def compact(lake: DeltaLake, table: str, *, every: int | None = None) -> bool:
    """Merge small files within each partition once `every` commits were made since the last time; whether it did.

    Rows, offsets of consumers and older versions stay as they are; merged files are removed by a later vacuum.

    Args:
        lake: Where the table is.
        table: Its name.
        every: None = `COMPACT_EVERY`.

    Raises:
        BrokenPromise: The merged table had other rows; it was put back as it was.
        StoreFull: Nothing was changed.
    """
    with lake.writing(table, "compact") as opened:
        if opened is None:
            raise TableMissing("the lake has no such table", table=table)
        before, n_rows = opened.version(), opened.count()
        if not _is_due(lake.path(table), before, COMPACT_EVERY if every is None else every):
            return False
        request = CommitRequest(table, lake.path(table), lake.root)
        after = decided(request, opened, lambda: _merge(opened, request))
        if after.count() != n_rows:
            after.restore(before)
            raise BrokenPromise("a compaction changed the rows and was taken back", table=table, before=n_rows)
        lake.make_durable(request, after.version())
        if after.version() > before:
            record_commits(lake.root, table, [after.version()])
        _remember(lake.path(table), after.version())
        lake.tidy_log(table, after.version())
        return after.version() > before


def compact_when_due(lake: DeltaLake, commit: TableCommit) -> None:
    """Compact the table of a commit where it is time; a failure is reported, the commit stands."""
    if commit.version < COMPACT_EVERY or not _is_due(lake.path(commit.table), commit.version, COMPACT_EVERY):
        return
    try:
        compact(lake, commit.table)
    except StoreError as fault:
        _LOG.warning("table %s was not compacted, its commits stand: %s", commit.table, fault)


def _is_due(folder: Path, version: int, every: int) -> bool:
    try:
        last = int((folder / KEPT_FOLDER / _LAST_COMPACTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        last = 0
    # A table that was rebuilt counts its versions from nought again.
    return version - (last if last <= version else 0) >= every


def _remember(folder: Path, version: int) -> None:
    (folder / KEPT_FOLDER).mkdir(exist_ok=True)
    (folder / KEPT_FOLDER / _LAST_COMPACTION).write_text(f"{version}\n", encoding="utf-8")


def _merge(opened: DeltaTable, request: CommitRequest) -> None:
    failpoint("lake.compact_before")
    opened.optimize.compact(
        max_concurrent_tasks=TASKS,
        writer_properties=WRITER,
        commit_properties=request.properties(),
        post_commithook_properties=HOOKS,
    )
    failpoint("lake.compact_after")


def vacuum(
    lake: DeltaLake,
    table: str,
    *,
    pins: Iterable[int] = (),
    retention: timedelta = DATA_RETENTION,
    dry_run: bool = False,
) -> list[str]:
    """Remove data files that were replaced longer than `retention` ago; their paths below the table.

    deltalake only proposes; a file goes when neither the newest version, nor a pinned one, nor one after it has it.
    Files of writes that never committed stay: nobody could tell them from those of a write under way elsewhere.

    Args:
        pins: Versions that must stay readable, with everything after the oldest of them.

    Raises:
        StoreError: `retention` is shorter than a week.
    """
    if retention < DATA_RETENTION:
        raise StoreError("a vacuum keeps at least seven days of replaced files", table=table, asked=retention)
    with lake.writing(table, "vacuum") as opened:
        if opened is None:
            raise TableMissing("the lake has no such table", table=table)
        proposed = _proposed(opened, retention)
        needed = _paths_at(lake, table, None) | _needed_by(lake, table, min(pins, default=None))
        removable = sorted(path for path in proposed if unquote(path) not in needed)
        if dry_run:
            return removable
        failpoint("lake.vacuum_before")
        for path in removable:
            (lake.path(table) / unquote(path)).unlink(missing_ok=True)
            (lake.path(table) / path).unlink(missing_ok=True)
        failpoint("lake.vacuum_after")
        return removable


def _proposed(opened: DeltaTable, retention: timedelta) -> list[str]:
    return [str(path) for path in opened.vacuum(retention_hours=int(retention.total_seconds() // 3600), dry_run=True)]


def _needed_by(lake: DeltaLake, table: str, pin: int | None) -> set[str]:
    """Files of version `pin` and of every version behind it."""
    if pin is None:
        return set()
    needed = _paths_at(lake, table, pin)
    newest = lake.version(table) or 0
    for version in range(pin + 1, newest + 1):
        entry = entry_path(lake.path(table), version)
        shelved = lake.path(table) / KEPT_FOLDER / entry.name
        found = entry if entry.exists() else shelved
        needed |= {unquote(action["add"]["path"]) for action in actions_of(found) if "add" in action}
    return needed


def _paths_at(lake: DeltaLake, table: str, version: int | None) -> set[str]:
    actions = lake.file_paths(table, version=version)
    return {unquote(path) for path in actions}


def expire_log(
    lake: DeltaLake, table: str, *, now: datetime, pins: Iterable[int] = (), retention: timedelta = LOG_RETENTION
) -> int:
    """Remove shelved log entries older than `retention`; how many. Versions made of them can no longer be read.

    Only whole runs from one checkpoint to the next go, and only while a newer, verified checkpoint is in place.

    Raises:
        StoreError: `retention` is shorter than thirty days.
    """
    if retention < LOG_RETENTION:
        raise StoreError("log entries are kept at least thirty days", table=table, asked=retention)
    folder = lake.path(table)
    with lake.writing(table, "expire the log of"):
        checkpoint = checkpoint_version(folder)
        if checkpoint is None or not _has_checkpoint(folder, checkpoint):
            return 0
        shelved = versioned_files(folder / KEPT_FOLDER)
        bases = [version for version, path in shelved if path.suffix == ".parquet"]
        young = [version for version, path in shelved if _written(path) > now - retention]
        oldest_needed = min([*young, *pins, checkpoint])
        first_kept = max((base for base in bases if base <= oldest_needed), default=0)
        expired = [path for version, path in shelved if version < first_kept]
        for path in expired:
            path.unlink()
        return len(expired)


def _has_checkpoint(folder: Path, version: int) -> bool:
    return (folder / LOG_FOLDER / f"{version:020}.checkpoint.parquet").is_file()


def _written(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def maintain_table(lake: DeltaLake, table: str, *, now: datetime, pins: Iterable[int] = ()) -> TableMaintenance:
    """Compact where due, vacuum, and let old log entries go; a step that fails is named and does not stop the others.

    Args:
        now: With an offset.
        pins: Versions of the table that must stay readable.
    """
    try:
        with noticing_set_aside(table, lake.path(table)):
            return _maintained(lake, table, now, tuple(pins))
    except TableSetAside as fault:
        return TableMaintenance(table, 0, 0, 0, 0, fault=str(fault))


def _maintained(lake: DeltaLake, table: str, now: datetime, kept: tuple[int, ...]) -> TableMaintenance:
    version, n_files = lake.version(table) or 0, len(lake.file_paths(table))
    removed, expired, faults = 0, 0, []
    try:
        compact(lake, table)
    except ReplenishError as fault:
        faults.append(f"compaction: {fault}")
    try:
        removed = len(vacuum(lake, table, pins=kept))
        expired = expire_log(lake, table, now=now, pins=kept)
    except ReplenishError as fault:
        faults.append(f"vacuum: {fault}")
    after = lake.version(table) or 0
    n_after = len(lake.file_paths(table))
    return TableMaintenance(table, version, after, n_files, n_after, removed, expired, "; ".join(faults) or None)


def maintain_lake(
    lake: DeltaLake, *, now: datetime, pins: Mapping[str, Iterable[int]] | None = None
) -> list[TableMaintenance]:
    """`maintain_table` for every table, by name; `pins` gives versions that must stay readable, by table."""
    pinned = pins or {}
    return [maintain_table(lake, table, now=now, pins=pinned.get(table, ())) for table in lake.table_names()]
