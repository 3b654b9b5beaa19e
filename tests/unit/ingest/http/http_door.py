"""A door over a journal on disk, driven in process: the application without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

from replenish.contracts.dataset import Dataset
from replenish.contracts.reader import read_contracts
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.http.app import HttpDoorOptions, build_app
from replenish.ingest.http.request_rows import CLOUD_EVENT, CLOUD_EVENT_BATCH, LINES
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal import Journal

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
NDJSON = LINES[0]
STRUCTURED, BATCH = CLOUD_EVENT, CLOUD_EVENT_BATCH


@dataclass
class Shop:
    """An application with its journal; `post` is one request."""

    app: Starlette
    journal: Journal
    group: GroupCommit

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def post(self, path: str, body: object, media_type: str = "application/json", **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", path, content=content, headers={"content-type": media_type, **named})

    def types(self) -> list[str]:
        return [record.type.removeprefix("replenish.event.") for record in self.journal.records()]


def open_dataset() -> Dataset:
    """A data set without feeds of its own: every contract takes events."""
    return Dataset("shop", "UTC", time(4), "demo", None, ())


@contextmanager
def open_shop(
    root: Path, options: HttpDoorOptions | None = None, clock: Callable[[], datetime] = lambda: NOW
) -> Iterator[Shop]:
    """A shop on a new journal; closed behind the block."""
    journal = Journal(root / "journal.sqlite")
    group = GroupCommit(journal, clock)
    contracts = read_contracts()
    door = EventDoor(open_dataset(), contracts, group, clock)
    try:
        yield Shop(build_app(door, group, contracts, options or HttpDoorOptions(), clock), journal, group)
    finally:
        group.close()
        journal.close()


def fields(nr: int = 1, **changes: object) -> dict[str, object]:
    """The fields of one sale."""
    return {
        "location_id": "store-1",
        "sold_at": "2026-03-01T10:00:00Z",
        "sale_id": f"sale-{nr}",
        "sku_id": "tea",
        "units": 2,
        "revenue_cents": 500,
    } | changes


def cloud_event(nr: int = 1, data: object = None, **changes: object) -> dict[str, object]:
    """One CloudEvent around a sale."""
    return {
        "specversion": "1.0",
        "id": f"e-{nr}",
        "source": "pos",
        "type": "replenish.event.upsert",
        "subject": "events.sales",
        "data": fields(nr) if data is None else data,
    } | changes


def lines(*rows: object) -> bytes:
    """Rows as JSON lines."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
