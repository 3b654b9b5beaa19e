"""The commit log of one table: its entries, checkpoints by our own hand, and the shelf for old entries.

Every commit lists the log folder three times, so its cost grows with the entries there: at 5,000 versions four
milliseconds a time. Entries that no reader of the newest version needs are therefore moved to `<table>/_kept_log`, and
linked back when somebody asks for a version of theirs.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from replenish.errors import StoreError
from replenish.stores.durable import fsync_path
from replenish.stores.failpoints import failpoint

LOG_FOLDER = "_delta_log"
KEPT_FOLDER = "_kept_log"
CHECKPOINT_EVERY = 20
"""Versions from one checkpoint to the next: opening a table replays at most so many commits."""
ENTRIES_IN_PLACE = 100
"""Versions before the newest checkpoint whose entries stay in the log folder."""

_LAST_CHECKPOINT = "_last_checkpoint"
_VERSIONED = re.compile(r"(\d{20})\.(json|checkpoint\.parquet)")


def entry_path(folder: Path, version: int) -> Path:
    """The log entry of one version of the table in `folder`."""
    return folder / LOG_FOLDER / f"{version:020}.json"


def has_log(folder: Path) -> bool:
    """Whether a table is there: a log folder with at least one commit or checkpoint."""
    try:
        with os.scandir(folder / LOG_FOLDER) as entries:
            return any(_VERSIONED.fullmatch(entry.name) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return False


def actions_of(entry: Path) -> Iterator[dict[str, Any]]:
    """The actions of a log entry, each a dictionary of one key (`add`, `txn`, `commitInfo` ...)."""
    return (json.loads(line) for line in entry.read_bytes().split(b"\n") if line)


def versioned_files(folder: Path) -> list[tuple[int, Path]]:
    """Commits and checkpoints in a folder of log files, by version; other files are left out."""
    found = ((match, path) for path in _files(folder) if (match := _VERSIONED.fullmatch(path.name)))
    return sorted((int(match[1]), path) for match, path in found)


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def checkpoint_version(folder: Path) -> int | None:
    """Version of the newest checkpoint the pointer names; None where there is no (readable) pointer."""
    try:
        return int(json.loads((folder / LOG_FOLDER / _LAST_CHECKPOINT).read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def checkpoint_is_due(folder: Path, version: int) -> bool:
    """Whether enough commits lie behind the newest checkpoint."""
    return version - (checkpoint_version(folder) or 0) >= CHECKPOINT_EVERY


def write_checkpoint(folder: Path) -> int:
    """Write a checkpoint of the newest version and force it to disk; its version. The caller holds the table's lock.

    Raises:
        StoreError: It could not be written, or does not hold what the table does. The table itself is unharmed.
    """
    failpoint("lake.checkpoint_before")
    try:
        table = DeltaTable(str(folder))
        table.create_checkpoint()
        version = int(table.version())
        failpoint("lake.checkpoint_after")
        path = folder / LOG_FOLDER / f"{version:020}.checkpoint.parquet"
        fsync_path(path)
        n_actions = _verify(path, table)
        if checkpoint_version(folder) != version:
            # deltalake leaves a checkpoint alone that it finds: one of a process that died before it wrote the pointer.
            _point_to(path, version, n_actions)
        fsync_path(folder / LOG_FOLDER / _LAST_CHECKPOINT)
        fsync_path(folder / LOG_FOLDER)
    except (DeltaError, OSError, pl.exceptions.PolarsError) as fault:
        raise StoreError("no checkpoint could be written; commits are not affected", cause=fault) from fault
    return version


def _verify(checkpoint: Path, table: DeltaTable) -> int:
    """Read back: every file of the table is in its checkpoint; how many actions are."""
    listed = pl.read_parquet(checkpoint, columns=["add"])["add"]
    n_listed = int(listed.struct.field("path").is_not_null().sum())
    if n_listed != len(table.file_uris()):
        raise StoreError("a checkpoint lacks files of its table", checkpoint=checkpoint.name, listed=n_listed)
    return len(listed)


def _point_to(checkpoint: Path, version: int, n_actions: int) -> None:
    """Write the pointer to the newest checkpoint, whole or not at all."""
    draft = checkpoint.with_name(f"{_LAST_CHECKPOINT}.draft")
    draft.write_text(json.dumps({"version": version, "size": n_actions}), encoding="utf-8")
    fsync_path(draft)
    draft.replace(checkpoint.with_name(_LAST_CHECKPOINT))


def shelve_log(folder: Path, checkpoint: int) -> int:
    """Move entries to the shelf that are older than the checkpoint before the newest `ENTRIES_IN_PLACE`; how many.

    Args:
        folder: The table's; the caller holds its lock.
        checkpoint: Version of a verified checkpoint that is on disk.
    """
    log, shelf = folder / LOG_FOLDER, folder / KEPT_FOLDER
    files = versioned_files(log)
    bases = [v for v, path in files if path.suffix == ".parquet" and v <= checkpoint - ENTRIES_IN_PLACE]
    old = [(v, path) for v, path in files if bases and v < bases[-1]]
    if not old:
        return 0
    shelf.mkdir(exist_ok=True)
    # Oldest first, so that what stays is one whole run of versions whenever this is cut short.
    for _, path in old:
        if (shelf / path.name).exists():
            # Linked back for a reader: renaming one name of a file to another of its names does nothing.
            path.unlink()
        else:
            path.replace(shelf / path.name)
    fsync_path(shelf)
    fsync_path(log)
    fsync_path(folder)
    return len(old)


def unshelve_version(folder: Path, version: int) -> None:
    """Link what is needed to read one old version back into the log folder; nothing where it is in place."""
    log = folder / LOG_FOLDER
    shelved = {path.name: path for v, path in versioned_files(folder / KEPT_FOLDER) if v <= version}
    in_place = {path.name for v, path in versioned_files(log) if v <= version}
    known = sorted(shelved.keys() | in_place)
    bases = [name for name in known if name.endswith(".parquet")]
    first = bases[-1][:20] if bases else ""
    for name in known:
        if name[:20] >= first and name not in in_place:
            # Another reader may have linked it meanwhile.
            with suppress(FileExistsError):
                os.link(shelved[name], log / name)
