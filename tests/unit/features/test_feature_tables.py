"""The feature tables in the lake: incremental, immutable, told apart by feature set; lead times by origin."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, time, timedelta
from pathlib import Path

import polars as pl
import pytest

from replenish.contracts.dataset import Dataset, Feed, FileFormat, KnowledgeRule
from replenish.contracts.profile import read_profile
from replenish.errors import AuditFailed, NotApplicable
from replenish.features.demand import FEAT_DEMAND_TABLE, update_feat_demand
from replenish.features.lead_time import LEAD_TIME_TABLE, MIN_LINES_PER_LOCATION, update_lead_times
from replenish.stores.lake import DeltaLake

DAY_0 = date(2025, 1, 6)
PROFILE = replace(read_profile("demo"), lags=(1, 2), windows=(3,))


def day(n: int) -> date:
    return DAY_0 + timedelta(days=n)


def dataset(*streams: str) -> Dataset:
    feeds = tuple(
        Feed(stream, stream, (f"{stream}-*.csv",), FileFormat(), "UTC", {}, KnowledgeRule("arrival"))
        for stream in streams
    )
    return Dataset("shop", "Europe/Berlin", time(6), "demo", None, feeds)


def demand(rows: list[tuple[str, int, int, int]]) -> pl.DataFrame:
    """Increments from (sku, event day, known day, units)."""
    table = [(sku, "S1", day(e), day(k), units, 100 * units) for sku, e, k, units in rows]
    names = ["sku_id", "location_id", "event_date", "knowledge_date", "units", "revenue_cents"]
    return pl.DataFrame(table, schema=names, orient="row")


def features_in(lake: DeltaLake) -> pl.DataFrame:
    return lake.read(FEAT_DEMAND_TABLE).sort("feature_set_id", "sku_id", "origin_date")


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    lake = DeltaLake(tmp_path)
    lake.overwrite("gold/fct_demand", demand([("a", n, n + 1, n % 4 + 1) for n in range(8)] + [("b", 2, 3, 9)]))
    return lake


def test_each_update_appends_only_the_origins_since_the_last(lake: DeltaLake) -> None:
    update_feat_demand(lake, dataset("sales"), PROFILE, through=day(5))
    assert features_in(lake)["origin_date"].max() == day(5)
    update_feat_demand(lake, dataset("sales"), PROFILE)
    stepwise = features_in(lake)
    assert stepwise["origin_date"].max() == day(8)
    assert not stepwise.select("sku_id", "location_id", "origin_date").is_duplicated().any()


def test_twice_gives_what_once_gave(lake: DeltaLake) -> None:
    first = update_feat_demand(lake, dataset("sales"), PROFILE)
    assert update_feat_demand(lake, dataset("sales"), PROFILE) == first


def test_a_late_sale_changes_only_the_origins_after_it(lake: DeltaLake) -> None:
    update_feat_demand(lake, dataset("sales"), PROFILE, through=day(6))
    before = features_in(lake)
    lake.append("gold/fct_demand", demand([("a", 6, 8, 1000)]))
    update_feat_demand(lake, dataset("sales"), PROFILE)
    after = features_in(lake)
    assert after.filter(pl.col("origin_date") <= day(6)).equals(before)
    of_a = after.filter(sku_id="a")
    assert dict(of_a.select("origin_date", "units_lag_2").rows())[day(8)] == 1003


def test_two_feature_sets_stand_beside_each_other(lake: DeltaLake) -> None:
    other = replace(PROFILE, windows=(5,))
    update_feat_demand(lake, dataset("sales"), PROFILE)
    update_feat_demand(lake, dataset("sales"), other)
    update_feat_demand(lake, dataset("sales"), PROFILE)
    rows = features_in(lake)
    assert rows.group_by("feature_set_id").len()["len"].n_unique() == 1
    assert rows.filter(feature_set_id=other.feature_set_id)["units_sum__3"].is_null().all()
    assert not rows.filter(feature_set_id=other.feature_set_id)["units_sum__5"].is_null().any()


def test_the_chosen_series_stay_the_same_in_later_updates(lake: DeltaLake) -> None:
    profile = replace(PROFILE, max_series=1, horizon_steps=2, n_backtest_origins=1)
    update_feat_demand(lake, dataset("sales"), profile, through=day(5))
    lake.append("gold/fct_demand", demand([("a", 6, 7, 1000)]))
    update_feat_demand(lake, dataset("sales"), profile)
    assert features_in(lake)["sku_id"].unique().to_list() == ["b"]


def test_rows_that_fail_their_audit_are_not_written(lake: DeltaLake) -> None:
    def refuse(frame: pl.DataFrame) -> None:
        raise AuditFailed("too few rows", n_rows=frame.height)

    with pytest.raises(AuditFailed):
        update_feat_demand(lake, dataset("sales"), PROFILE, refuse)
    assert not lake.has(FEAT_DEMAND_TABLE)


def test_no_demand_is_not_applicable(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path)
    lake.overwrite("gold/fct_demand", demand([("a", 0, 1, 1)]).clear())
    with pytest.raises(NotApplicable, match="no demand is known"):
        update_feat_demand(lake, dataset("sales"), PROFILE)


def test_an_origin_before_the_first_sale_is_not_applicable(lake: DeltaLake) -> None:
    with pytest.raises(NotApplicable, match="no demand was known then"):
        update_feat_demand(lake, dataset("sales"), PROFILE, through=day(0))


def supply(rows: list[tuple[str | None, str, int | None, str, int, int]]) -> pl.DataFrame:
    """Received lines from (supplier, location, days, flag, known day, sign)."""
    table = [("received", s, place, days, flag, day(k), sign) for s, place, days, flag, k, sign in rows]
    names = ["supply_event", "supplier_id", "location_id", "lead_time_days", "lead_time_flag", "knowledge_date"]
    return pl.DataFrame(table, schema=[*names, "posting_sign"], orient="row")


def test_lead_times_are_counted_as_known_and_faulty_lines_are_kept_out(lake: DeltaLake) -> None:
    often = [("V1", "S1", 4, "ok", 1, 1)] * MIN_LINES_PER_LOCATION
    corrected = [("V1", "S2", 9, "ok", 1, 1), ("V1", "S2", 9, "ok", 2, -1), ("V1", "S2", 6, "ok", 2, 1)]
    faulty = [("V1", "S1", -2, "negative", 1, 1), (None, "S1", None, "no_order", 1, 1), (None, "S1", 3, "ok", 1, 1)]
    later = [("V1", "S1", 30, "ok", 7, 1)]
    lake.overwrite("gold/fct_supply", supply([*often, *corrected, *faulty, *later]))
    update = update_lead_times(lake, dataset("purchase_orders", "receipts"), day(5))
    assert (update.n_ok, update.n_negative, update.n_no_order, update.n_no_supplier) == (9, 1, 1, 1)
    counts = lake.read(LEAD_TIME_TABLE).sort("location_id", "lead_time_days")
    assert counts.select("origin_date", "supplier_id", "location_id", "lead_time_days", "n_lines").rows() == [
        (day(5), "V1", None, 4, MIN_LINES_PER_LOCATION),
        (day(5), "V1", None, 6, 1),
        (day(5), "V1", "S1", 4, MIN_LINES_PER_LOCATION),
    ]


def test_an_origin_is_replaced_and_others_stay(lake: DeltaLake) -> None:
    lake.overwrite("gold/fct_supply", supply([("V1", "S1", 4, "ok", 1, 1)]))
    streams = dataset("purchase_orders", "receipts")
    for origin in (day(5), day(6), day(5)):
        update_lead_times(lake, streams, origin)
    assert sorted(lake.read(LEAD_TIME_TABLE)["origin_date"]) == [day(5), day(6)]


def test_an_origin_before_any_receipt_has_no_rows(lake: DeltaLake) -> None:
    lake.overwrite("gold/fct_supply", supply([("V1", "S1", 4, "ok", 3, 1)]))
    update = update_lead_times(lake, dataset("purchase_orders", "receipts"), day(2))
    assert (update.n_ok, update.commit.n_rows) == (0, 0)


def test_without_receipts_lead_times_are_not_applicable(lake: DeltaLake) -> None:
    with pytest.raises(NotApplicable, match="not_applicable: no receipts feed"):
        update_lead_times(lake, dataset("sales"), day(5))


def test_lead_times_come_from_streams_that_no_feed_was_declared_for(lake: DeltaLake) -> None:
    lake.overwrite("gold/fct_supply", supply([("V1", "S1", 4, "ok", 1, 1)]))
    for stream in ("receipts", "purchase_orders"):
        lake.overwrite(f"silver/{stream}", pl.DataFrame({"order_id": ["O1"]}))
    assert update_lead_times(lake, dataset("sales"), day(5)).n_ok == 1
