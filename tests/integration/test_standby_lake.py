"""A promoted standby makes its tables from its own log, and they equal those of the old primary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from replenish.digests import table_digest
from replenish.errors import Fenced
from replenish.history.bronze import append_bronze, bronze_table
from replenish.history.silver import silver_table, update_silver
from replenish.ingest.settle import settle_events
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EVENT_UPSERT, EventEntry
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout
from replenish.stores.outbox import Outbox, OutboxOrder
from replenish.stores.segments import seal
from replenish.stores.standby import promote, ship
from replenish.stores.trim import trim
from tests.unit.ingest.ingest_shop import NOW, SALES, Shop, csv, line


def sale(receipt: str, units: int) -> EventEntry:
    fields = {
        "location_id": "S1",
        "sold_at": "2025-01-11T12:00:00+01:00",
        "sale_id": receipt,
        "sku_id": "A1",
        "units": units,
        "revenue_cents": 150 * units,
        "knowledge_time": "2025-01-11T18:00:00+01:00",
    }
    return EventEntry("till", receipt, EVENT_UPSERT, "events.sales", "sales@1.0.0", json.dumps(fields).encode())


def tables(shop: Shop, layout: RootLayout, journal: Journal) -> dict[str, str]:
    """Table to digest, after bronze and silver took what the journal accepted."""
    lake = DeltaLake(layout.lake)
    append_bronze("sales", SALES, journal, layout, lake)
    update_silver(SALES, shop.dataset, lake)
    names = (bronze_table("sales"), silver_table("sales"))
    return {name: table_digest(lake.read(name), SALES.fact_key) for name in names}


@pytest.mark.parametrize("is_trimmed", [False, True])
def test_the_tables_of_a_promoted_standby_equal_the_old_ones(tmp_path: Path, is_trimmed: bool) -> None:
    shop, there = Shop(tmp_path / "here"), RootLayout(tmp_path / "there")
    shop.offer(csv([line("r1"), line("r2", qty=5), line("r3", qty="many")]))
    shop.journal.append_events([sale(f"e{n}", n) for n in range(20)], now=NOW)
    ship(shop.layout, there, now=NOW, max_records=7)
    settle_events(shop.dataset, {"sales": SALES}, shop.journal, shop.layout, now=NOW)
    shop.offer(csv([line("r2", qty=4, known="2025-01-12T18:00:00")]))
    if is_trimmed:
        seal(shop.journal, shop.layout, min_records=1, max_records=9)
        assert trim(shop.journal, shop.layout, now=NOW.replace(year=2026)) == 20
    ship(shop.layout, there, now=NOW)
    expected = tables(shop, shop.layout, shop.journal)
    promote(there, shop.layout, now=NOW)
    assert tables(shop, there, Journal(there.journal)) == expected
    assert DeltaLake(there.lake).read(silver_table("sales")).height > 20


def test_a_fenced_root_sends_no_order_and_writes_no_table(tmp_path: Path) -> None:
    shop, there = Shop(tmp_path / "here"), RootLayout(tmp_path / "there")
    shop.offer(csv([line("r1")]))
    ship(shop.layout, there, now=NOW)
    promote(there, shop.layout, now=NOW)
    order = OutboxOrder("k", "d", "s", 1, "2025-02-04", NOW.isoformat(), None, "A1", "S1", 3, None, "why")
    with pytest.raises(Fenced):
        Outbox(shop.layout.outbox).put(order)
    with pytest.raises(Fenced):
        tables(shop, shop.layout, shop.journal)
    assert Outbox(there.outbox).put(order)
