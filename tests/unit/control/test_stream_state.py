"""CON-7: a source that drifts out of its contract degrades its own stream; the others go on, and it heals by itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time
from pathlib import Path

import pytest

from replenish.contracts.dataset import ColumnRule, Dataset, Feed, FileFormat, KnowledgeRule
from replenish.contracts.reader import read_contracts
from replenish.control.stream_state import judge_streams
from replenish.history.bronze import append_bronze
from replenish.ingest.door import ingest_folder
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import OfferedEvent
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal import Journal
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout

NOW = datetime(2026, 1, 2, tzinfo=UTC)
CONTRACTS = read_contracts()


def feed(stream: str, *columns: str) -> Feed:
    rules = {name: ColumnRule(column=name) for name in columns}
    return Feed(f"shop.{stream}", stream, (f"{stream}*",), FileFormat(), "UTC", rules, KnowledgeRule("arrival"))


LOCATIONS = feed("locations", *(c.name for c in CONTRACTS["locations"].columns if c.is_required))
SUPPLIERS = feed("suppliers", *(c.name for c in CONTRACTS["suppliers"].columns if c.is_required))
DATASET = Dataset("shop", "UTC", time(6), "demo", None, (LOCATIONS, SUPPLIERS))


@pytest.fixture
def layout(tmp_path: Path) -> RootLayout:
    layout = RootLayout(tmp_path)
    layout.drop.mkdir()
    return layout


def drop(layout: RootLayout, name: str, feed_: Feed, *, without: str | None = None) -> None:
    columns = [c for c in feed_.columns if c != without]
    values = ["2025-01-01" if c.endswith(("_at", "_from")) else f"{name}1" for c in columns]
    (layout.drop / f"{name}.csv").write_text(",".join(columns) + "\n" + ",".join(values) + "\n")


def states(journal: Journal) -> dict[str, str]:
    return {state.feed_id: state.health for state in judge_streams(journal, CONTRACTS)}


def test_a_file_that_lost_a_column_degrades_its_stream_and_no_other(layout: RootLayout) -> None:
    journal = Journal(layout.journal)
    drop(layout, "locations-1", LOCATIONS)
    drop(layout, "locations-2", LOCATIONS, without="location_id")
    drop(layout, "suppliers-1", SUPPLIERS)
    ingest_folder(layout.drop, DATASET, CONTRACTS, journal, layout, now=NOW)
    assert states(journal) == {"shop.locations": "degraded", "shop.suppliers": "ok"}
    why = next(s.why for s in judge_streams(journal, CONTRACTS) if s.health == "degraded")
    assert "location_id" in why
    lake = DeltaLake(layout.lake)
    assert append_bronze("suppliers", CONTRACTS["suppliers"], journal, layout, lake).n_rows == 1
    assert append_bronze("locations", CONTRACTS["locations"], journal, layout, lake).n_rows == 1
    drop(layout, "locations-3", LOCATIONS)
    ingest_folder(layout.drop, DATASET, CONTRACTS, journal, layout, now=NOW)
    assert states(journal)["shop.locations"] == "ok"


def test_events_above_the_share_of_dead_ones_degrade_their_stream_until_sound_ones_come(layout: RootLayout) -> None:
    journal = Journal(layout.journal)
    group = GroupCommit(journal, lambda: NOW)
    door = EventDoor(DATASET, CONTRACTS, group, lambda: NOW)

    def offer(count: int, first: int, **changes: object) -> None:
        fields = {"location_id": "S1", "sold_at": "2026-01-01T12:00:00Z", "sku_id": "A", "units": 1} | changes
        bodies = [json.dumps(fields | {"sale_id": f"r{nr}"}).encode() for nr in range(first, first + count)]
        door.offer([OfferedEvent("pos", f"{first}-{nr}", "events.sales", "upsert", b) for nr, b in enumerate(bodies)])

    offer(100, 0)
    assert states(journal) == {"events.sales": "ok"}
    offer(30, 200, units="many")
    assert states(journal) == {"events.sales": "degraded"}
    offer(1000, 400)
    assert states(journal) == {"events.sales": "ok"}
    group.close()
