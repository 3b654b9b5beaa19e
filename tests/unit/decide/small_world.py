"""A lake of two items at one location, small enough to count by hand: what the decision tests stand on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from statistics import NormalDist

import polars as pl

from replenish.contracts.dataset import ColumnRule, Dataset, Feed, FileFormat, KnowledgeRule
from replenish.contracts.model import Column, Contract, ServiceLevel
from replenish.stores.journal import Journal
from replenish.stores.lake import DeltaLake
from replenish.stores.outbox import Outbox

ORIGIN = date(2025, 2, 4)
CUTOFF = time(6)
LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 0.995)
STREAMS = ("sales", "stock_counts", "purchase_orders", "receipts", "prices")
ITEMS = (("A1", "S1"), ("A2", "S1"))


def at(day: date, hour: int = 18) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


def feed(stream: str) -> Feed:
    return Feed(
        f"test.{stream}", stream, ("*",), FileFormat(), "UTC", {"x": ColumnRule(column="x")}, KnowledgeRule("arrival")
    )


def dataset(streams: tuple[str, ...] = STREAMS, **assumptions: object) -> Dataset:
    feeds = tuple(feed(stream) for stream in streams)
    return Dataset("test", "UTC", CUTOFF, "daily", None, feeds, assumptions=dict(assumptions))


def contract(stream: str) -> Contract:
    columns = (Column("sku_id", "string", ""), Column("location_id", "string", ""))
    level = ServiceLevel(30, 54, "gold")
    return Contract(
        stream, "1.0.0", "", "owner@example.org", "x", "docs/runbooks/feeds.md", columns, ("sku_id",), "at", False,
        0.1, level, 100,
    )  # fmt: skip


CONTRACTS = {stream: contract(stream) for stream in STREAMS}


@dataclass(frozen=True)
class SmallWorld:
    """Stores of one test."""

    lake: DeltaLake
    journal: Journal
    outbox: Outbox


def posting(**columns: object) -> dict[str, object]:
    return {**columns, "version_nr": 1, "posting_kind": "version", "posting_sign": 1}


def put_stock(lake: DeltaLake, on_hand: int, counted: date) -> None:
    rows = [
        posting(
            sku_id=s, location_id=p, event_time=at(counted), event_date=counted, knowledge_time=at(counted, 20),
            knowledge_date=counted + timedelta(days=1), on_hand_units=on_hand,
        )
        for s, p in ITEMS
    ]  # fmt: skip
    lake.overwrite("gold/fct_stock", pl.DataFrame(rows, schema_overrides={"version_nr": pl.Int32}))


def put_demand(lake: DeltaLake, daily: int, extra: tuple[tuple[str, date, date, int], ...] = ()) -> None:
    rows = [
        (s, p, ORIGIN - timedelta(days=n), ORIGIN - timedelta(days=n - 1), daily)
        for s, p in ITEMS
        for n in range(1, 60)
    ]
    rows += [(s, "S1", e, k, u) for s, e, k, u in extra]
    schema = {"sku_id": pl.String, "location_id": pl.String, "event_date": pl.Date, "knowledge_date": pl.Date}
    lake.overwrite("gold/fct_demand", pl.DataFrame(rows, schema={**schema, "units": pl.Int64}, orient="row"))


def put_forecast(lake: DeltaLake, mean: float, sd: float, *, mode: str = "champion", origin: date = ORIGIN) -> None:
    rows = [
        {
            "origin_date": origin, "sku_id": s, "location_id": p, "quantile_level": q,
            "units_milli": round(1000 * max(NormalDist(mean, sd).inv_cdf(q), 0)), "mean_milli": round(1000 * mean),
            "protection_days_mean": 10.0, "protection_days_max": 14, "horizon_ok": True,
            "model_digest": "m1", "mode": mode,
        }
        for s, p in ITEMS
        for q in LEVELS
    ]  # fmt: skip
    lake.replace_partitions("forecasts/protection_demand", pl.DataFrame(rows), column="origin_date", values=[origin])


def put_products(lake: DeltaLake, cost: int = 100, price: int = 172, pack: int = 12, review_days: int = 7) -> None:
    day = date(2024, 1, 1)
    product = [
        posting(
            sku_id=s, event_time=at(day), knowledge_time=at(day), category_id="C1", supplier_id="V1",
            pack_size_units=pack, min_order_units=0, unit_cost_cents=cost, unit_price_cents=price,
        )
        for s, _ in ITEMS
    ]  # fmt: skip
    supplier = posting(
        supplier_id="V1", event_time=at(day), knowledge_time=at(day), review_period_days=review_days, min_order_cents=0
    )
    lake.overwrite("gold/dim_product", pl.DataFrame(product))
    lake.overwrite("gold/dim_supplier", pl.DataFrame([supplier]))


def put_supply(lake: DeltaLake, rows: list[dict[str, object]]) -> None:
    schema = {
        "po_id": pl.String, "po_line": pl.String, "supply_event": pl.String, "supplier_id": pl.String,
        "sku_id": pl.String, "location_id": pl.String, "ordered_at": pl.Datetime("us", "UTC"),
        "received_at": pl.Datetime("us", "UTC"), "knowledge_date": pl.Date, "ordered_units": pl.Int64,
        "received_units": pl.Int64,
    }  # fmt: skip
    lake.overwrite("gold/fct_supply", pl.DataFrame(rows, schema=schema, orient="row"))


def ordered(po: str, sku: str, day: date, units: int) -> dict[str, object]:
    return {
        "po_id": po, "po_line": "1", "supply_event": "ordered", "supplier_id": "V1", "sku_id": sku, "location_id": "S1",
        "ordered_at": at(day), "received_at": None, "knowledge_date": day + timedelta(days=1), "ordered_units": units,
        "received_units": 0,
    }  # fmt: skip


def received(po: str, sku: str, day: date, units: int, ordered_on: date) -> dict[str, object]:
    return ordered(po, sku, ordered_on, 0) | {
        "supply_event": "received", "received_at": at(day), "knowledge_date": day + timedelta(days=1),
        "received_units": units,
    }  # fmt: skip


def put_silver(lake: DeltaLake, newest: date = ORIGIN - timedelta(days=1), late: tuple[str, ...] = ()) -> None:
    for stream in STREAMS:
        seen = newest - timedelta(days=10) if stream in late else newest
        frame = pl.DataFrame({"sku_id": ["A1"], "location_id": ["S1"], "knowledge_time": [at(seen, 20)]})
        lake.overwrite(f"silver/{stream}", frame.with_columns(pl.col("knowledge_time").dt.cast_time_unit("us")))


def small_world(root: Path) -> SmallWorld:
    """Mean demand of the interval 120, deviation 10, 100 on hand, packs of 12, nothing on order."""
    world = SmallWorld(DeltaLake(root / "lake"), Journal(root / "journal.sqlite"), Outbox(root / "outbox"))
    put_stock(world.lake, 100, ORIGIN - timedelta(days=1))
    put_demand(world.lake, 12)
    put_forecast(world.lake, 120.0, 10.0)
    put_products(world.lake)
    put_supply(world.lake, [])
    put_silver(world.lake)
    return world
