"""dbt on a small lake: hand-made silver in, gold out."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from replenish.contracts.reader import read_contracts
from replenish.digests import table_digest
from replenish.stores.lake import DeltaLake

DBT_FOLDER = Path(__file__).resolve().parents[2] / "dbt"
CONTRACTS = read_contracts()
GOLD = ("fct_demand", "fct_price", "fct_stock", "fct_supply", "dim_product", "dim_location", "dim_supplier")


def at(day: int, hour: int = 12) -> datetime:
    return datetime(2024, 3, day, hour, tzinfo=UTC)


def silver(stream: str, rows: list[dict]) -> pl.DataFrame:
    """Silver rows: `event` and `known` are days of March 2024; the event column and the clocks follow from them."""
    contract = CONTRACTS[stream]
    full = []
    for row in rows:
        event, known = row.pop("event"), row.pop("known")
        clocks = {
            contract.event_time: at(event),
            "event_time": at(event),
            "event_date": date(2024, 3, event),
            "knowledge_time": at(known),
            "knowledge_date": date(2024, 3, known + 1),
        }
        full.append({"version_nr": 1, "posting_kind": "version", "posting_sign": 1} | row | clocks)
    schema = contract.silver_schema | ({} if contract.is_reference else {"event_month": pl.Int32()})
    frame = pl.DataFrame([{name: row.get(name) for name in schema} for row in full], schema=schema)
    return frame if contract.is_reference else frame.with_columns(event_month=pl.lit(202403, pl.Int32))


def sale(units: int, event: int, known: int, kind: str = "version", sign: int = 1, sku: str = "A") -> dict:
    posting = {"posting_kind": kind, "posting_sign": sign, "event": event, "known": known}
    return {"location_id": "L", "sale_id": "1", "sku_id": sku, "units": units, "revenue_cents": units * 100} | posting


def order(po: str, units: int, event: int, known: int, **more: object) -> dict:
    item = {"po_id": po, "po_line": "1", "supplier_id": "V", "sku_id": "A", "location_id": "L"}
    return item | {"ordered_units": units, "event": event, "known": known} | more


def receipt(name: str, po: str, units: int, event: int, known: int) -> dict:
    return {"receipt_id": name, "po_id": po, "po_line": "1", "received_units": units, "event": event, "known": known}


SILVER = {
    "sales": [
        sale(5, 1, 1),
        sale(5, 1, 3, "reversal", -1),
        sale(3, 1, 3) | {"version_nr": 2},
        sale(2, 1, 4, "cancellation", -1),
        sale(4, 5, 5, "return", -1),
    ],
    "prices": [
        {"sku_id": "A", "location_id": "L", "unit_price_cents": 100, "is_promotion": False, "event": 9, "known": 1}
    ],
    "stock_counts": [],
    "purchase_orders": [
        order("P1", 10, 1, 1),
        order("P1", 10, 1, 20, posting_kind="reversal", posting_sign=-1),
        order("P1", 8, 5, 20, version_nr=2),
        order("P2", 6, 12, 2),
        order("P4", 3, 8, 12),
    ],
    "receipts": [
        receipt("R1", "P1", 10, 9, 10),
        receipt("R2", "P2", 6, 10, 10),
        receipt("R3", "P9", 1, 10, 10),
        receipt("R4", "P4", 3, 10, 10),
    ],
    "products": [{"sku_id": "A", "category_id": "C", "event": 1, "known": 1}],
    "locations": [{"location_id": "L", "event": 1, "known": 1}],
    "suppliers": [{"supplier_id": "V", "event": 1, "known": 1}],
}


def dbt(command: str, lake: DeltaLake, scratch: Path, *, threads: int) -> None:
    arguments = ["--project-dir", DBT_FOLDER, "--profiles-dir", DBT_FOLDER]
    folders = ["--target-path", scratch / "target", "--log-path", scratch / "logs"]
    environment = os.environ | {"REPLENISH_LAKE": str(lake.root), "REPLENISH_DBT_THREADS": str(threads)}
    run = subprocess.run(
        [Path(sys.executable).parent / "dbt", command, *arguments, *folders],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("dbt")


@pytest.fixture(scope="module")
def lake(scratch):
    """A lake with hand-made silver and the gold that dbt built of it, every dbt test passed."""
    tables = DeltaLake(scratch / "lake")
    for stream, rows in SILVER.items():
        tables.overwrite(f"silver/{stream}", silver(stream, [dict(row) for row in rows]))
    dbt("build", tables, scratch, threads=2)
    return tables


def test_demand_holds_what_each_day_of_knowledge_added(lake):
    rows = lake.read("gold/fct_demand").sort("event_date", "knowledge_date")
    assert rows.select("event_date", "knowledge_date", "units", "revenue_cents", "returned_units", "lines").rows() == [
        (date(2024, 3, 1), date(2024, 3, 2), 5, 500, 0, 1),
        (date(2024, 3, 1), date(2024, 3, 4), -2, -200, 0, 0),
        (date(2024, 3, 1), date(2024, 3, 5), -2, -200, 0, 0),
        (date(2024, 3, 5), date(2024, 3, 6), 0, 0, 4, 0),
    ]


def test_sums_in_gold_are_integers(lake):
    schema = lake.schema("gold/fct_demand")
    assert {schema[name] for name in ("units", "revenue_cents", "returned_units", "lines")} == {pl.Int64()}


def test_a_lead_time_never_follows_a_later_correction_of_its_order(lake):
    received = lake.read("gold/fct_supply", filters=[("supply_event", "==", "received"), ("po_id", "!=", "P4")])
    received = received.sort("po_id")
    assert received.select("po_id", "lead_time_days", "lead_time_flag").rows() == [
        ("P1", 8, "ok"),
        ("P2", -2, "negative"),
        ("P9", None, "no_order"),
    ]


def test_a_receipt_known_before_its_order_has_a_lead_time_from_then_on(lake):
    rows = lake.read("gold/fct_supply", filters=[("supply_event", "==", "received"), ("po_id", "==", "P4")])
    changes = rows.sort("knowledge_time", "posting_sign").select("knowledge_time", "lead_time_days", "received_units")
    assert changes.rows() == [(at(10), None, 3), (at(12), None, -3), (at(12), 2, 3)]


def test_what_is_on_order_is_a_plain_sum_at_any_instant(lake):
    rows = lake.read("gold/fct_supply", filters=[("po_id", "==", "P1")])
    on_order = {
        day: rows.filter(pl.col("knowledge_time") <= at(day))
        .select(pl.col("ordered_units").sum() - pl.col("received_units").sum())
        .item()
        for day in (1, 9, 10, 20)
    }
    assert on_order == {1: 10, 9: 10, 10: 0, 20: -2}


def test_a_model_without_rows_is_an_empty_table_with_its_schema(lake):
    stock = lake.read("gold/fct_stock")
    assert stock.height == 0
    assert stock.schema["on_hand_units"] == pl.Int64()


def test_gold_is_the_same_when_built_again_on_one_thread(lake, scratch):
    def digests() -> dict[str, str]:
        return {name: table_digest(lake.read(f"gold/{name}"), []) for name in GOLD}

    before = digests()
    dbt("run", lake, scratch, threads=1)
    assert digests() == before
    assert lake.version("gold/fct_demand") == 1
