"""What keeps a journal's file from being opened: damage, or no space for SQLite's files beside it."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import apsw

from replenish.errors import DamagedLog
from replenish.stores.full_disk import has_no_space, is_disk_full, store_full


def damaged(path: Path, error: Exception) -> DamagedLog:
    """The error for a file that SQLite cannot make sense of."""
    return DamagedLog(f"the journal file is damaged ({error}); nothing was changed: run `replenish doctor`", path=path)


def raise_unopened(path: Path, error: apsw.Error | OSError) -> NoReturn:
    """Raise what an error means that kept the journal from being opened; an error nobody foresaw is raised as it is.

    Raises:
        DamagedLog: The file is no sound database.
        StoreFull: SQLite could not make its files beside the journal.
    """
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        raise damaged(path, error) from error
    if is_disk_full(error) or has_no_space(path):
        raise store_full("open the journal", path, error) from error
    raise error
