"""A table that is taken away while somebody is at it: a rebuild or the doctor sets tables aside by renaming them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from replenish.errors import StoreError, TableSetAside


@contextmanager
def noticing_set_aside(table: str, folder: Path) -> Iterator[None]:
    """Let whatever a reader of a vanished table stumbles over come out as one error; other errors pass as they are.

    Args:
        table: Its name.
        folder: Where it lies.

    Raises:
        TableSetAside: Another folder, or none, is at the table's place now.
    """
    before = _folder_mark(folder)
    try:
        yield
    except Exception as fault:
        # What was committed or refused under the table's lock is as it says: a rebuild waits for that lock.
        if before is None or _folder_mark(folder) == before or isinstance(fault, TableSetAside):
            raise
        words = "the table was set aside while in use, by a rebuild or the doctor; nothing is lost: run this again"
        cause = fault if isinstance(fault, StoreError) else type(fault).__name__
        raise TableSetAside(f"{words} when that is done", table=table, cause=cause) from fault


def _folder_mark(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another that is put in its place."""
    try:
        state = folder.stat()
    except FileNotFoundError:
        return None
    return state.st_dev, state.st_ino
