"""Events and journals for the tests of the log."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from replenish.stores.journal import Journal
from replenish.stores.journal_entry import (
    EVENT_DEAD,
    EVENT_UPSERT,
    EVENTS_SETTLED,
    DeadLetter,
    EventEntry,
    JournalRecord,
)
from replenish.stores.layout import RootLayout

NOW = datetime(2025, 2, 4, 6, tzinfo=UTC)
FEED = "events.sales"


def event(id: str, body: object = None, **changes: object) -> EventEntry:
    """An upsert of the feed; `body` is a JSON value or bytes."""
    raw = body if isinstance(body, bytes) else json.dumps({"id": id} if body is None else body).encode()
    return EventEntry("till", id, EVENT_UPSERT, FEED, "sales@1.0.0", raw)._replace(**changes)


def dead_event(id: str, raw: str = "{", reason: str = "not_json") -> EventEntry:
    """A refused event as a door offers it."""
    letter = DeadLetter(FEED, "till", None, reason, None, "it is JSON", raw)
    mark = hashlib.sha256(f"{raw}{reason}".encode()).hexdigest()[:16]
    return event(f"{id}#{mark}", {"raw": mark}, type=EVENT_DEAD, letter=letter)


def file_record(id: str, type: str = "replenish.file.accepted", **data: object) -> JournalRecord:
    """A record of a file, or of another type."""
    return JournalRecord("feed", id, type, f"{id}.csv", NOW, "sales@1.0.0", dict(data))


def letter(row_nr: int = 1, reason: str = "not_a_number") -> DeadLetter:
    """A refused row."""
    return DeadLetter("feed", "a.csv", row_nr, reason, "units", "units is an integer", '{"qty":"x"}')


def settle(journal: Journal, to_seq: int) -> None:
    """Say that every event up to `to_seq` is settled."""
    data = {"feed": FEED, "from_seq": 1, "to_seq": to_seq, "parts": []}
    journal.append(JournalRecord(FEED, f"settled-{to_seq}", EVENTS_SETTLED, FEED, NOW, "sales@1.0.0", data))


def root(path: Path) -> tuple[RootLayout, Journal]:
    """A root with an open journal."""
    layout = RootLayout(path)
    return layout, Journal(layout.journal)
