"""A full disk, whatever library meets it first: one error that says where, that nothing is lost, and what to do."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from replenish.errors import StoreFull

_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
_SIGNS = (
    "No space left on device",
    "Disk quota exceeded",
    "StorageFull",
    "os error 28",
    "os error 122",
    "database or disk is full",
    "the disk is full",
)
"""How the system, Rust's libraries, SQLite, DuckDB and we ourselves say it."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_TOO_LITTLE_BYTES = 65_536
"""Below it a library that fails without saying why may be taken to have had no space."""


def is_disk_full(fault: BaseException) -> bool:
    """Whether an error, or one that led to it, says that there is no space (or no quota) left."""
    seen: BaseException | None = fault
    for _ in range(20):
        if seen is None:
            return False
        number = seen.errno if isinstance(seen, OSError) else None
        if isinstance(seen, StoreFull) or number in _NUMBERS or tells_of_full_disk(str(seen)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def tells_of_full_disk(text: str) -> bool:
    """Whether what a program wrote says that there was no space left."""
    return any(sign in text for sign in _SIGNS)


def has_no_space(path: Path) -> bool:
    """Whether the disk below `path` has next to nothing left."""
    folder = next(part for part in (path, *path.parents) if part.exists())
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < _TOO_LITTLE_BYTES


def store_full(doing: str, path: Path, cause: object) -> StoreFull:
    """The error to raise: what was being done, where, and what to do."""
    return StoreFull(
        f"the disk is full: could not {doing}; what was acknowledged is kept and nothing is half done: make room, then"
        " run the same again",
        path=path,
        cause=_in_one_line(cause),
    )


@contextmanager
def refusing_when_full(doing: str, path: Path) -> Iterator[None]:
    """Let an error of a full disk inside the block come out as StoreFull; others pass as they are.

    Args:
        doing: What the block does, as in "could not ...".
        path: What to name where the error names no file.

    Raises:
        StoreFull: There was no space.
    """
    try:
        yield
    except StoreFull:
        raise
    except Exception as fault:
        if not is_disk_full(fault) and not (_says_nothing(fault) and has_no_space(path)):
            raise
        named = fault.filename if isinstance(fault, OSError) and fault.filename else None
        raise store_full(doing, Path(os.fsdecode(named)) if named else path, fault) from fault


def _in_one_line(cause: object) -> str:
    return " ".join(_COLOURS.sub("", str(cause)).split())[-300:]


def _says_nothing(fault: Exception) -> bool:
    """Whether it is an error of SQLite's that a full disk causes without being named: a file it cannot make."""
    return type(fault).__name__ in ("CantOpenError", "IOError")
