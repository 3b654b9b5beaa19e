"""Files that go with shipped records: archived raw files, accepted parts, and the settings of the root."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
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
            # A part can be derived again from the archive: one that is gone is the doctor's matter, not the log's.
            if (primary.accepted / part["path"]).is_file():
                n_copied += _ship(primary.accepted, standby.accepted, part["path"], part.get("sha256"), row.seq)
    return n_copied


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
    # A digest names an archived file: one that is there was verified when it came.
    if there.is_file() and there.stat().st_size == here.stat().st_size:
        # That attempt may have been cut off before the name was safe.
        _force_names(there, target.parent)
        return 0
    _copy(here, there, target.parent)
    if file_digest(there) != (sha256 or file_digest(here)):
        there.unlink()
        raise DamagedLog("a file of the log is not what its record says; it is not taken", seq=seq, file=path)
    return 1


def _copy(source: Path, target: Path, root: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    shutil.copyfile(source, draft)
    fsync_path(draft)
    draft.replace(target)
    _force_names(target, root)


def _force_names(target: Path, root: Path) -> None:
    """Force the names from the root down to the file to disk: every folder between may be new."""
    folder = target.parent
    while folder != root.parent:
        fsync_path(folder)
        folder = folder.parent
