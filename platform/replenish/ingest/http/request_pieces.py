"""Rows of a request in pieces, each of them one submission to the journal."""

from __future__ import annotations

import asyncio
from datetime import datetime

from replenish.ingest.events.offered_event import OfferedEvent
from replenish.ingest.http.envelopes import RowReader
from replenish.stores.event_run import LONGEST_RUN, EventRun
from replenish.stores.journal_entry import EventEntry

Read = list[OfferedEvent | EventEntry] | EventRun
"""Rows of one submission: each an event or a dead entry, or all of them a run."""
ROWS_PER_SUBMISSION = LONGEST_RUN
"""A greater request goes to the journal in pieces: while one is committed, the next is judged."""


async def read_pieces(reader: RowReader, rows: list[bytes], now: datetime, *, is_tried: bool) -> list[Read]:
    """The rows in pieces of one submission; between them other requests get their turn.

    Args:
        reader: Reads the rows of this request.
        rows: All of them.
        now: Arrival.
        is_tried: The body was looked at as one run before, and is none.
    """
    pieces: list[Read] = []
    for start in range(0, len(rows), ROWS_PER_SUBMISSION):
        some = rows if len(rows) <= ROWS_PER_SUBMISSION else rows[start : start + ROWS_PER_SUBMISSION]
        run = None if is_tried else reader.read_run(b"\n".join([*some, b""]), now)
        pieces.append(reader.read(some, start + 1, len(rows), now) if run is None else run)
        if len(some) < len(rows):
            await asyncio.sleep(0)
    return pieces


def offered_ids(events: Read) -> list[str]:
    """The id of each row as its sender gave it."""
    if isinstance(events, EventRun):
        return events.ids
    return [e.id if type(e) is OfferedEvent or e.letter is None else e.id.rpartition("#")[0] for e in events]  # type: ignore[union-attr]
