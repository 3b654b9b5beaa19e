"""Real data sets through gate, history and gold. They are not part of the project: without them these tests skip."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from replenish.cli.deployment import Deployment, open_deployment, prepare_deployment
from replenish.cli.overviews import supply_flags
from replenish.cli.stages import build_gold_tables, run_to_silver
from replenish.history.silver import SilverUpdate
from replenish.ingest.door import FileVerdict
from tests.scenario.worlds import NOW

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets do not lie beside the project"),
]


def take_in(name: str, root: Path) -> tuple[Deployment, dict[str, FileVerdict], dict[str, SilverUpdate]]:
    prepare_deployment(root, DATA / name, feed=None, assume=None)
    deployment = open_deployment(root)
    report, updates = run_to_silver(deployment, now=NOW)
    build_gold_tables(deployment.lake, root / "dbt")
    return deployment, {verdict.feed_id: verdict for verdict in report.files}, updates


def test_every_line_of_online_retail_is_accounted_for(tmp_path: Path) -> None:
    deployment, verdicts, updates = take_in("online_retail_ii", tmp_path)
    sales = verdicts["online_retail_ii.sales"]
    assert sales.offered == 1_067_370 == sales.accepted + sales.dead + sales.duplicate
    assert sales.duplicate == 22_523, "the second sheet's first nine days are in the first sheet, too"
    assert sum(sales.reasons.values()) == sales.dead
    cancelled = updates["sales"]
    matched, partly, unmatched = (
        cancelled.cancellations_matched,
        cancelled.cancellations_partly,
        cancelled.cancellations_unmatched,
    )
    assert matched + partly + unmatched == cancelled.cancellations == sales.cancellations
    demand = deployment.lake.read("gold/fct_demand")
    daily = demand.group_by("sku_id", "location_id", "event_date").agg(pl.col("units").sum())
    assert daily["units"].min() >= 0, "a cancellation never makes demand negative"
    assert demand["returned_units"].sum() > 0


def test_scms_is_read_by_its_feed_file_alone(tmp_path: Path) -> None:
    deployment, verdicts, _ = take_in("scms", tmp_path)
    receipts, orders = verdicts["scms.receipts"], verdicts["scms.purchase_orders"]
    assert (receipts.offered, receipts.accepted, receipts.reasons) == (10_324, 10_321, {"recorded_before_delivery": 3})
    assert orders.reasons["from_regional_warehouse"] == 5_404
    silver = deployment.lake.read("silver/receipts").filter(pl.col("posting_kind") == "version")
    zone = deployment.dataset.zone
    happened, known = (pl.col(c).dt.convert_time_zone(zone).dt.date() for c in ("event_time", "knowledge_time"))
    assert silver.filter(known > happened).height == 1_908
    flags = dict(supply_flags(deployment.lake.read("gold/fct_supply")).select("lead_time_flag", "lines").iter_rows())
    assert flags["negative"] == 5
    assert flags["ok"] == 4_584


def test_m5_knows_at_its_origin_what_was_sold_by_day_1913(tmp_path: Path) -> None:
    deployment, verdicts, _ = take_in("m5", tmp_path)
    assert verdicts["m5.sales"].accepted == 135_870
    demand = deployment.lake.read("gold/fct_demand")
    known = demand.filter(pl.col("knowledge_date") <= deployment.dataset.origin)
    assert known["units"].sum() == 65_695_409
