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
    """A durable copy of the file in the archive; an earlier, undamaged copy is kept and returned.

    Raises:
        DigestMismatch: The file is no longer the one whose digest was taken: somebody still writes it.
    """
    target = archive / archive_name(sha256)
    if not target.exists() or file_digest(target) != sha256:
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in target.parent.glob(f"{sha256}.*.tmp"):
            # Of an attempt that was killed: it would keep its space for ever.
            left.unlink()
        copy = target.with_suffix(f".{os.getpid()}.tmp")
        try:
            _copy_durably(path, sha256, copy)
        except (OSError, DigestMismatch):
            # A full disk is not to stay full for an attempt that failed.
            copy.unlink(missing_ok=True)
            raise
        copy.replace(target)
        failpoint("archive.renamed")
    # Also for a copy that is there: an attempt may have been cut off between giving it its name and making that safe.
    _sync_names(target, archive)
    return target


def _copy_durably(path: Path, sha256: str, copy: Path) -> None:
    shutil.copyfile(path, copy)
    if file_digest(copy) != sha256:
        raise DigestMismatch("the file changed while it was read; it is left for the next time", file=path.name)
    failpoint("archive.copied")
    sync_file(copy)
    failpoint("archive.synced")


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
