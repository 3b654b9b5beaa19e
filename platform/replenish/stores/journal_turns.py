"""How writers in several processes get along: they wait for one another, and keep the WAL short between them."""

from __future__ import annotations

import time
from contextlib import suppress

import apsw

from replenish.stores.journal_schema import BUSY_TIMEOUT_MS, CHECKPOINT_PAGES

POLL_SECONDS = 0.0002
"""A commit of another process takes some milliseconds."""
MOST_WAL_PAGES = 2 * CHECKPOINT_PAGES
CHECKPOINT_WAIT_MS = 100


def wait_for_others(connection: apsw.Connection) -> None:
    """Let a writer look often for its turn: SQLite's own pauses grow to 100 ms, and whoever has waited for long
    would come too late again each time.
    """
    started = 0.0

    def wait(n_tries: int) -> bool:
        nonlocal started
        if n_tries == 0:
            started = time.monotonic()
        time.sleep(POLL_SECONDS)
        return time.monotonic() - started < BUSY_TIMEOUT_MS / 1e3

    connection.set_busy_handler(wait)


def wait_for_nobody(connection: apsw.Connection) -> None:
    """Let a writer that finds another one at work give up at once."""
    connection.set_busy_handler(None)


def keep_wal_short(connection: apsw.Connection) -> None:
    """Move the WAL into the file as `wal_autocheckpoint` would, and see to it that it begins anew.

    It begins anew only where a writer finds all of it moved. Writers that follow one another closely never do: each
    adds to it while another one moves it. Beyond `MOST_WAL_PAGES` one of them therefore holds up the others (for 0.1 s
    at most, and not again for a while where a long reader is in the way), which otherwise would write to an ever longer
    file.
    """
    next_try = MOST_WAL_PAGES

    def after_commit(writer: apsw.Connection, name: str, n_pages: int) -> int:
        nonlocal next_try
        if n_pages < CHECKPOINT_PAGES:
            next_try = MOST_WAL_PAGES
        elif n_pages < next_try:
            with suppress(apsw.Error):
                writer.wal_checkpoint(name, apsw.SQLITE_CHECKPOINT_PASSIVE)
        else:
            next_try = n_pages + CHECKPOINT_PAGES
            writer.set_busy_timeout(CHECKPOINT_WAIT_MS)
            with suppress(apsw.Error):
                writer.wal_checkpoint(name, apsw.SQLITE_CHECKPOINT_RESTART)
            wait_for_others(writer)
        # As after SQLite's own checkpoint: what is committed is committed, whatever became of moving it.
        return apsw.SQLITE_OK

    connection.set_wal_hook(after_commit)
