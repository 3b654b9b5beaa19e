"""How a writer of the journal waits while another process writes."""

from __future__ import annotations

import time

import apsw

from replenish.stores.journal_schema import BUSY_TIMEOUT_MS

POLL_SECONDS = 0.0005
"""A commit of another process takes some milliseconds."""


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
