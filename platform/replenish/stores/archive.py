"""Offered files as they were received, by content: the part of the event log that is too big for the journal."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from replenish.digests import file_digest
from replenish.errors import DigestMismatch
from replenish.stores.failpoints import failpoint


def archive_name(sha256: str) -> str:
    """Path of an archived file relative to the archive: two levels, so that no folder holds every file."""
    return f"{sha256[:2]}/{sha256}"


def archive_file(path: Path, sha256: str, archive: Path) -> Path:
    """A durable copy of the file in the archive; an earlier copy of the same bytes is kept and returned.

    Raises:
        DigestMismatch: The file is no longer the one whose digest was taken: somebody still writes it.
    """
    target = archive / archive_name(sha256)
    if target.exists():
        # An attempt may have been cut off between giving the copy its name and making that name safe.
        _sync_names(target, archive)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    copy = target.with_suffix(f".{os.getpid()}.tmp")
    shutil.copyfile(path, copy)
    if file_digest(copy) != sha256:
        copy.unlink()
        raise DigestMismatch("the file changed while it was read; it is left for the next time", file=path.name)
    failpoint("archive.copied")
    sync_file(copy)
    failpoint("archive.synced")
    copy.replace(target)
    failpoint("archive.renamed")
    _sync_names(target, archive)
    return target


def _sync_names(target: Path, archive: Path) -> None:
    """Force the names down to the file to disk; that of the archive itself too, which is new with the first file."""
    for folder in (target.parent, archive, archive.parent):
        sync_folder(folder)


def sync_file(path: Path) -> None:
    """Force the bytes of a file to the disk; returns when they survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Force the names in a folder to the disk, without which a new file may be gone after a power cut."""
    sync_file(path)
