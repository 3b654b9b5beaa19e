"""Forces what a Delta commit wrote onto the disk: deltalake itself never calls fsync.

Without this a power cut can lose commits silently, or keep a log entry whose data file is empty.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

from replenish.stores.failpoints import failpoint

MAX_WAITING = 16
"""Files forced at a time: a disk takes many waiting requests in one go, and a history load writes a file per day."""


def fsync_path(path: Path) -> None:
    """Force one file's content, or one folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_commit(table: Path, versions: Iterable[int], *, below: Path) -> None:
    """Force the commits `versions` of the Delta table in folder `table` to disk.

    Data files first, then their folders, then the log entries, then the folders up to `below`, whose entries are new
    when the table is.
    """
    log = table / "_delta_log"
    entries = [log / f"{version:020}.json" for version in versions]
    data = [table / unquote(path) for entry in entries for path in _added_paths(entry)]
    _fsync_all(data)
    _fsync_all(sorted({path.parent for path in data} - {table}))
    failpoint("lake.data_synced")
    _fsync_all(entries)
    failpoint("lake.log_synced")
    folder = log
    while folder != below.parent:
        fsync_path(folder)
        folder = folder.parent


def _fsync_all(paths: list[Path]) -> None:
    if len(paths) == 1:
        fsync_path(paths[0])
    elif paths:
        with ThreadPoolExecutor(min(MAX_WAITING, len(paths))) as waiting:
            list(waiting.map(fsync_path, paths))


def _added_paths(entry: Path) -> list[str]:
    # By line feeds alone: a text may hold characters that Python, too, takes for the end of a line.
    actions = (json.loads(line) for line in entry.read_bytes().split(b"\n") if line)
    return [action["add"]["path"] for action in actions if "add" in action]
