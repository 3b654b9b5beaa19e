"""Files that go with shipped records: archived raw files, accepted parts, and the settings of the root."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from replenish.digests import file_digest
from replenish.errors import DamagedLog
from replenish.stores.durable import fsync_path
from replenish.stores.journal_chain import LogRow
from replenish.stores.journal_entry import FILE_ACCEPTED, FILE_DEAD, PART_BEARING
from replenish.stores.layout import RootLayout

_WITH_FILES = {FILE_ACCEPTED, FILE_DEAD, *PART_BEARING}
_SETTINGS = ("dataset.yaml", "assumptions.yaml", "doors.yaml")


def ship_files(rows: Sequence[LogRow], primary: RootLayout, standby: RootLayout) -> int:
    """Copy the files these records name, durably, where they are not there yet; how many were copied.

    Raises:
        DamagedLog: An archived file is gone or has another digest, or a path leads out of the root.
    """
    n_copied = 0
    for row in rows:
        if row.type not in _WITH_FILES or row.data is None:
            continue
        data: dict[str, Any] = json.loads(row.data)
        if data.get("archive"):
            n_copied += _ship(primary.archive, standby.archive, str(data["archive"]), data.get("sha256"), row.seq)
        for part in data.get("parts", ()):
            n_copied += _ship_part(primary, standby, part, row.seq)
    return n_copied


def _ship_part(primary: RootLayout, standby: RootLayout, part: Mapping[str, Any], seq: int) -> int:
    """A part can be derived again from the log: one gone or damaged is the doctor's matter, it stops nothing."""
    here = primary.accepted / part["path"]
    if not here.is_file() or (part.get("sha256") and file_digest(here) != part["sha256"]):
        return 0
    return _ship(primary.accepted, standby.accepted, part["path"], part.get("sha256"), seq)


def ship_settings(primary: RootLayout, standby: RootLayout) -> None:
    """Copy data set, assumptions and doors as they stand."""
    for name in _SETTINGS:
        source, target = primary.root / name, standby.root / name
        if source.is_file() and not (target.is_file() and target.read_bytes() == source.read_bytes()):
            _copy(source, target, standby.root)


def _ship(source: Path, target: Path, path: str, sha256: str | None, seq: int) -> int:
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise DamagedLog("a record names a file outside its root", seq=seq, file=path)
    here, there = source / path, target / path
    if not here.is_file():
        raise DamagedLog("an archived file of the log is gone; run `replenish doctor`", seq=seq, file=path)
    wanted = sha256 or file_digest(here)
    # One that is there may be what an attempt left that was killed, or may have been damaged since.
    if there.is_file() and file_digest(there) == wanted:
        _sync_names(there, target.parent)
        return 0
    _copy(here, there, target.parent, wanted, seq)
    return 1


def _copy(source: Path, target: Path, root: Path, sha256: str | None = None, seq: int = 0) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.*.draft"):
        left.unlink()
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    try:
        shutil.copyfile(source, draft)
        # Before it gets its name: what bears a file's name is that file.
        if sha256 is not None and file_digest(draft) != sha256:
            words = "a file of the log is not what its record says; it is not taken: run `replenish doctor`"
            raise DamagedLog(words, seq=seq, file=source)
        fsync_path(draft)
    except (OSError, DamagedLog):
        draft.unlink(missing_ok=True)
        raise
    draft.replace(target)
    _sync_names(target, root)


def _sync_names(path: Path, root: Path) -> None:
    """Force the names of a file and of the folders that lead to it from the root of the standby."""
    folder = path
    while folder != root:
        folder = folder.parent
        fsync_path(folder)
