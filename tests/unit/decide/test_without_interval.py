from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from replenish.control.policy import read_policy
from replenish.decide.replenish import DecisionRun, decide_origin
from replenish.errors import NotApplicable
from replenish.stores.journal import Journal
from replenish.stores.lake import DeltaLake
from replenish.stores.outbox import Outbox
from tests.unit.decide.small_world import CONTRACTS, dataset

ORIGIN = date(2025, 2, 4)


def decide(root: Path, lake: DeltaLake, streams: tuple[str, ...]) -> DecisionRun:
    journal, outbox = Journal(root / "journal.sqlite"), Outbox(root / "outbox")
    return decide_origin(lake, journal, outbox, dataset(streams), read_policy(), CONTRACTS, ORIGIN)


def lake_with_a_forecast(root: Path) -> DeltaLake:
    lake = DeltaLake(root / "lake")
    row = {"origin_date": ORIGIN, "sku_id": "A1", "location_id": "S1", "step": 1, "mean_milli": 1000}
    lake.append("forecasts/demand", pl.DataFrame([row | {"model_digest": "m", "mode": "champion"}]))
    lake.append("silver/receipts", pl.DataFrame({"receipt_id": ["R1"]}))
    return lake


def test_an_item_without_a_protection_interval_is_decided_and_names_the_missing_feeds(tmp_path: Path) -> None:
    lake = lake_with_a_forecast(tmp_path)
    run = decide(tmp_path, lake, ("sales",))
    row = run.decisions.row(0, named=True)
    assert (row["verdict"], row["order_units"], run.n_sent) == ("no_action", 0, 0)
    texts = [reason["text"] for reason in json.loads(row["reasons"])]
    assert "not_applicable: no stock_counts feed" in texts
    assert "not_applicable: no receipts feed" not in texts, "receipts came as single events, without a declared feed"
    assert decide(tmp_path, lake, ("sales",)).n_new == 0, "the same decision again is the same decision"


def test_without_any_forecast_there_is_nothing_to_decide(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable):
        decide(tmp_path, DeltaLake(tmp_path / "lake"), ("sales",))
