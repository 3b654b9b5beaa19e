"""The journal's file: how it is begun and opened durably, and what an error of SQLite means to a writer."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import cast

import apsw

from replenish.errors import DamagedLog, JournalOverloaded, StoreError, StoreFull, WriterFailed
from replenish.stores.durable import fsync_path
from replenish.stores.journal_faults import damaged, raise_unopened
from replenish.stores.journal_runs import LAST_PLACE
from replenish.stores.journal_tables import bring_up_tables, show_as_current

MIN_SQLITE = (3, 51, 3)
"""Older ones can corrupt a WAL that two connections write and checkpoint (sqlite.org/wal.html, WAL-reset bug)."""
JOURNAL_NAME = "journal.sqlite"
BUSY_TIMEOUT_MS = 30_000
CHECKPOINT_PAGES = 4_000
"""A commit that finds more than 16 MB in the WAL moves it into the file: seldom enough not to slow a burst down."""
WAL_LIMIT_BYTES = 64 << 20

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DEVICE = {errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENXIO}


def open_writer(path: Path) -> apsw.Connection:
    """A durable connection that may write; the file and its tables are made, or brought up from an older schema.

    Raises:
        StoreError: SQLite is too old, or the file cannot be opened durably.
        StoreFull: There is no space for SQLite's files beside it.
        DamagedLog: The file is no sound database, or it is gone while sealed segments of it are there.
    """
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < MIN_SQLITE:
        raise StoreError("this SQLite can damage a journal; install a newer apsw", found=version, needed=MIN_SQLITE)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists() or path.stat().st_size == 0
    if is_new and path.name == JOURNAL_NAME and (witness := _made_by_a_journal(path.parent)) is not None:
        words = f"the journal is gone while its sealed segments, archive or tables are there ({witness})"
        raise DamagedLog(f"{words}: run `replenish doctor`", path=path)
    try:
        if not path.exists():
            _begin(path)
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=full")
        connection.execute("pragma foreign_keys=on")
        connection.pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        connection.pragma("journal_size_limit", WAL_LIMIT_BYTES)
        _require_durable(connection, path)
        bring_up_tables(connection)
        _require_not_behind(connection, path)
        if is_new:
            # SQLite forces the names inside the root to disk, not the name of a new root.
            fsync_path(path.parent)
            fsync_path(path.parent.parent)
    except (apsw.Error, OSError) as error:
        raise_unopened(path, error)
    return connection


def _begin(path: Path) -> None:
    """Make the file under another name first: after a death at any moment it is there with its tables, or not at all.

    A database without tables could as well be a journal whose first page was lost, and refuses every start.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.draft")
    draft.unlink(missing_ok=True)
    try:
        connection = apsw.Connection(str(draft))
        try:
            connection.execute("pragma journal_mode=wal")
            bring_up_tables(connection)
        finally:
            connection.close()
        fsync_path(draft)
        # Another process may have been faster, and have entries in it already: a rename would drop them.
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def has_moved(connection: apsw.Connection) -> bool:
    """Whether the path no longer names the file that the connection has open: it was renamed, deleted or replaced."""
    answer = ctypes.c_int()
    connection.file_control("main", apsw.SQLITE_FCNTL_HAS_MOVED, ctypes.addressof(answer))
    return bool(answer.value)


def open_read_only(path: Path) -> apsw.Connection:
    """A connection that cannot write and never makes a writer wait.

    Raises:
        StoreError: There is no journal.
        StoreFull: There is no space for SQLite's files beside it.
        DamagedLog: The file is no sound database.
    """
    if not path.is_file():
        raise StoreError("there is no journal here", path=path)
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        show_as_current(connection)
    except apsw.Error as error:
        raise_unopened(path, error)
    return connection


def store_error(error: BaseException, connection: apsw.Connection, path: Path) -> BaseException:
    """What an error inside a write means: full (try again), failed (stop for good), damaged, busy; else itself."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return damaged(path, error)
    if isinstance(error, apsw.BusyError):
        return JournalOverloaded("another process has been writing to the journal for too long; try again", path=path)
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) != apsw.SQLITE_IOERR_FSYNC:
        number = connection.system_errno
    if isinstance(error, apsw.FullError) or number in _FULL:
        return StoreFull("the disk is full: nothing was acknowledged; make space and offer it again", path=path)
    is_apsw = isinstance(error, apsw.IOError | apsw.CantOpenError | apsw.ReadOnlyError | apsw.NoMemError)
    if is_apsw or isinstance(error, MemoryError) or number in _DEVICE:
        # After a failed fsync the kernel may have dropped the pages: only a new process may read what is there.
        return WriterFailed(f"the journal's writer stopped ({error}); end this process and start it again", path=path)
    return error


def _require_durable(connection: apsw.Connection, path: Path) -> None:
    pragmas = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    found = {name: connection.pragma(name) for name in pragmas}
    if found != pragmas:
        raise StoreError("the journal cannot be opened durably", path=path, **found)


def _require_not_behind(connection: apsw.Connection, path: Path) -> None:
    """An older copy of the journal that was put back would give the places of sealed entries to others."""
    names = (manifest.name.partition(".")[0] for manifest in (path.parent / "segments").glob("*.manifest.json"))
    sealed_to = max((int(last) for _, _, last in (name.partition("-") for name in names) if last.isdigit()), default=0)
    if not sealed_to or path.name != JOURNAL_NAME:
        return
    last = cast(int, connection.execute(LAST_PLACE).fetchall()[0][0])
    if last < sealed_to:
        words = f"the journal ends at entry {last}, its sealed segments at {sealed_to}: run `replenish doctor`"
        raise DamagedLog(words, path=path)


def _made_by_a_journal(root: Path) -> str | None:
    """What shows that there was a journal here: an empty one in its place would be taken for the whole log."""
    witnesses = ("segments/*.manifest.json", "archive/*/*", "lake/bronze/*/_delta_log")
    return next((found.relative_to(root).as_posix() for name in witnesses for found in root.glob(name)), None)
