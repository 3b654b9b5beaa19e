"""The shop of `ingest_shop` with an open door for single events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from ingest_shop import FEED, NOW, SALES, Shop

from replenish.contracts.dataset import Feed
from replenish.contracts.model import Contract
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import EventVerdict, OfferedEvent
from replenish.ingest.settle import SettleReport, settle_events
from replenish.stores.group_commit import GroupCommit

TILL = replace(FEED, feed_id="shop.till", files=(), door="events")
"""Source-shaped events of the shop's tills, by the rules of its files."""


class EventShop(Shop):
    """A shop whose clock stands at `now`; every `send` is one request."""

    def __init__(self, root: Path, *feeds: Feed, contract: Contract = SALES) -> None:
        super().__init__(root, contract=contract)
        self.dataset = replace(self.dataset, feeds=(*self.dataset.feeds, *feeds))
        self.contracts = {contract.stream: contract}
        self.now: datetime = NOW

    def send(self, *events: OfferedEvent) -> list[EventVerdict]:
        with self.door() as door:
            return door.offer(events)

    @contextmanager
    def door(self) -> Iterator[EventDoor]:
        group = GroupCommit(self.journal, lambda: self.now)
        try:
            yield EventDoor(self.dataset, self.contracts, group, lambda: self.now)
        finally:
            group.close()

    def settle(self, **options: int) -> SettleReport:
        self.now += timedelta(minutes=1)
        return settle_events(self.dataset, self.contracts, self.journal, self.layout, now=self.now, **options)

    def facts(self) -> list[tuple[object, ...]]:
        """(sale, units, correction, retraction) of what was accepted, in log order."""
        return self.accepted().select("sale_id", "units", "is_correction", "is_retraction").rows()


def fields(sale_id: str = "r1", **changes: object) -> dict[str, object]:
    own = {"location_id": "S1", "sold_at": "2025-01-10T12:00:00+01:00", "sale_id": sale_id, "sku_id": "A1", "units": 2}
    return own | changes


def event(
    id: str, body: dict[str, object] | bytes, *, op: str = "upsert", feed_id: str = "events.sales"
) -> OfferedEvent:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return OfferedEvent("pos", id, feed_id, op, raw, offset="line 1")  # type: ignore[arg-type]


def key_of(sale_id: str) -> dict[str, object]:
    return {name: value for name, value in fields(sale_id).items() if name in SALES.fact_key}


def bronze_of(rows: pl.DataFrame, names: Sequence[str]) -> list[tuple[object, ...]]:
    return sorted(rows.select(names).rows(), key=repr)
