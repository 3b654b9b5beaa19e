"""Whether this root may still write its lake: not after a standby was promoted in its place."""

from __future__ import annotations

from contextlib import closing

from replenish.stores.fence import FIRST_EPOCH, fence_of
from replenish.stores.journal_reader import JournalReader
from replenish.stores.layout import RootLayout


def refuse_fenced(deployment: RootLayout) -> None:
    """Raise Fenced where the fence names a later epoch than this root's journal; the caller holds a table's lock."""
    fence = fence_of(deployment.root)
    # No promotion ever: the usual case costs no look into the journal.
    if fence.epoch > FIRST_EPOCH:
        fence.check(_own_epoch(deployment))


def _own_epoch(deployment: RootLayout) -> int:
    if not deployment.journal.exists():
        return FIRST_EPOCH
    with closing(JournalReader(deployment.journal)) as journal:
        return journal.head().epoch
