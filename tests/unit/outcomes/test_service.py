"""The simulation of past weeks reads what was known, writes each origin once, and says when it cannot."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from replenish.contracts.dataset import Dataset
from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.reader import PLATFORM_FOLDER
from replenish.errors import AuditFailed, ContractError, NotApplicable
from replenish.outcomes.retailer import World, build_world
from replenish.outcomes.retailer_plan import RetailerPlan
from replenish.outcomes.service import SERVICE_TABLE, update_service
from replenish.stores.lake import DeltaLake

PLAN = RetailerPlan(seed=5, n_skus=6, n_locations=2, n_days=150, with_faults=False)
ORIGIN = PLAN.first_date + timedelta(days=PLAN.n_days)
KEY = ["method", "sku_id", "location_id", "event_date"]
VERSION = {"version_nr": pl.lit(1, pl.Int32), "posting_kind": pl.lit("version"), "posting_sign": pl.lit(1, pl.Int8)}


def at_evening(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Datetime("us")).dt.offset_by("20h").dt.replace_time_zone("UTC")


def cents(column: str) -> pl.Expr:
    return (pl.col(column).cast(pl.Float64) * 100).round().cast(pl.Int64)


def fill_gold(lake: DeltaLake, world: World) -> None:
    """Gold as it would be if everything were recorded on the day it happened."""
    truth = world.truth.filter(pl.col("event_date") < ORIGIN)
    next_day = pl.col("event_date").dt.offset_by("1d")
    demand = truth.select("sku_id", "location_id", "event_date", knowledge_date=next_day, units="sales_units")
    lake.overwrite("gold/fct_demand", demand)
    evening = at_evening("event_date")
    keys = ("sku_id", "location_id", "event_date")
    stock = truth.select(*keys, "on_hand_units", event_time=evening, knowledge_time=evening, **VERSION)
    lake.overwrite("gold/fct_stock", stock)
    arrived = world.lead_times.with_columns(at=pl.col("order_date") + pl.duration(days=pl.col("lead_time_days")))
    supply = arrived.filter(pl.col("at") < ORIGIN).select(
        "supplier_id",
        "sku_id",
        "location_id",
        "lead_time_days",
        supply_event=pl.lit("received"),
        ordered_at=at_evening("order_date"),
        received_at=at_evening("at"),
        knowledge_time=at_evening("at"),
        knowledge_date=pl.col("at").dt.offset_by("1d"),
        received_units="units",
        lead_time_flag=pl.lit("ok"),
        posting_sign=pl.lit(1, pl.Int8),
    )
    lake.overwrite("gold/fct_supply", supply)
    always = pl.lit(datetime(2000, 1, 1, tzinfo=UTC))
    products = world.reference["products"].select(
        sku_id="article",
        supplier_id="supplier",
        pack_size_units="pack",
        min_order_units="min_order",
        unit_cost_cents=cents("cost"),
        unit_price_cents=cents("price"),
        knowledge_time=always,
        **VERSION,
    )
    lake.overwrite("gold/dim_product", products)
    suppliers = world.reference["suppliers"].select(
        supplier_id="supplier", review_period_days="review_days", knowledge_time=always, **VERSION
    )
    lake.overwrite("gold/dim_supplier", suppliers)


def write_levels(lake: DeltaLake, world: World, level_units: int) -> None:
    """The same base-stock level for every series, at eight weekly origins."""
    series = world.truth.select("sku_id", "location_id").unique()
    origins = pl.DataFrame({"origin_date": [ORIGIN - timedelta(days=7 * week) for week in range(8, 0, -1)]})
    levels = origins.join(series, how="cross").with_columns(base_stock_level_units=pl.lit(level_units))
    lake.overwrite("forecasts/policy_levels", levels)


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(PLAN)


@pytest.fixture
def lake(world, tmp_path) -> DeltaLake:
    lake = DeltaLake(tmp_path)
    fill_gold(lake, world)
    return lake


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return read_dataset(Path(PLATFORM_FOLDER) / "feeds" / "retailer.yaml")


def service(lake: DeltaLake) -> pl.DataFrame:
    return lake.read(SERVICE_TABLE).sort(KEY)


def test_each_method_has_one_row_per_series_and_day(lake, world, dataset):
    write_levels(lake, world, 60)
    update_service(lake, dataset, ORIGIN)
    rows = service(lake)
    assert rows.height == 2 * 12 * 56
    assert not rows.select(KEY).is_duplicated().any()
    assert (rows["event_date"].min(), rows["event_date"].max()) == (
        ORIGIN - timedelta(days=56),
        ORIGIN - timedelta(days=1),
    )


def test_without_our_levels_only_the_baseline_runs(lake, dataset):
    summary = update_service(lake, dataset, ORIGIN).summary
    assert summary["method"].to_list() == ["s_S_seasonal_naive"]
    assert 0.8 < summary["fill_rate"].item() <= 1.0


def test_both_methods_meet_the_same_demand(lake, world, dataset):
    write_levels(lake, world, 60)
    update_service(lake, dataset, ORIGIN)
    parts = service(lake).partition_by("method", as_dict=True)
    ours, baseline = (parts[(name,)].drop("method") for name in ("replenish", "s_S_seasonal_naive"))
    assert ours["demand_units"].to_list() == baseline["demand_units"].to_list()


def test_higher_levels_hold_more_stock_and_lose_less(lake, world, dataset):
    summaries = []
    for level in (10, 400):
        write_levels(lake, world, level)
        summaries.append(update_service(lake, dataset, ORIGIN).summary.row(0, named=True))
    low, high = summaries
    assert low["method"] == high["method"] == "replenish"
    assert high["fill_rate"] > low["fill_rate"]
    assert high["mean_on_hand_units"] > low["mean_on_hand_units"]


def test_past_forecasts_give_our_levels_where_none_were_written(lake, world, dataset):
    """The smallest quantile at or above the target counts: of 0.8, 0.9 and 0.95 that of 0.9."""
    write_levels(lake, world, 60)
    written = update_service(lake, dataset, ORIGIN).summary
    levels = lake.read("forecasts/policy_levels")
    quantiles = pl.DataFrame({"quantile_level": [0.95, 0.8, 0.9], "units_milli": [90_000, 30_000, 59_001]})
    lake.overwrite("forecasts/protection_demand", levels.drop("base_stock_level_units").join(quantiles, how="cross"))
    lake.overwrite("forecasts/policy_levels", levels.clear())
    assert_frame_equal(update_service(lake, dataset, ORIGIN).summary, written)


def test_the_baseline_aims_at_the_ratio_our_levels_were_made_for(lake, world, dataset):
    write_levels(lake, world, 60)
    fill_rates = []
    for ratio in (0.5, 0.99):
        levels = lake.read("forecasts/policy_levels").with_columns(critical_ratio=pl.lit(ratio))
        lake.overwrite("forecasts/policy_levels", levels)
        ours, baseline = update_service(lake, dataset, ORIGIN).summary["fill_rate"].to_list()
        fill_rates.append((ours, baseline))
    (ours_low, baseline_low), (ours_high, baseline_high) = fill_rates
    assert ours_low == ours_high
    assert baseline_low < baseline_high


def test_levels_of_the_last_days_only_are_too_few_to_judge(lake, world, dataset):
    write_levels(lake, world, 60)
    levels = lake.read("forecasts/policy_levels")
    lake.overwrite("forecasts/policy_levels", levels.filter(pl.col("origin_date") > ORIGIN - timedelta(days=28)))
    assert update_service(lake, dataset, ORIGIN).summary["method"].to_list() == ["s_S_seasonal_naive"]


def test_a_series_is_not_ordered_before_its_first_level(lake, world, dataset):
    write_levels(lake, world, 400)
    levels = lake.read("forecasts/policy_levels")
    start = ORIGIN - timedelta(days=28)
    is_late = (pl.col("sku_id") == "A001") & (pl.col("origin_date") < start)
    lake.overwrite("forecasts/policy_levels", levels.filter(~is_late))
    update_service(lake, dataset, ORIGIN)
    ours = service(lake).filter((pl.col("method") == "replenish") & (pl.col("sku_id") == "A001"))
    assert ours.filter(pl.col("event_date") < start)["ordered_units"].sum() == 0
    assert ours.filter(pl.col("event_date") >= start)["ordered_units"].sum() > 0


def test_running_an_origin_twice_is_running_it_once(lake, dataset):
    first = update_service(lake, dataset, ORIGIN)
    rows = service(lake)
    second = update_service(lake, dataset, ORIGIN)
    assert_frame_equal(service(lake), rows)
    assert second.commit.n_rows == first.commit.n_rows


def test_another_origin_leaves_the_rows_of_the_first(lake, dataset):
    update_service(lake, dataset, ORIGIN - timedelta(days=7))
    before = service(lake)
    update_service(lake, dataset, ORIGIN)
    earlier = service(lake).filter(pl.col("origin_date") == ORIGIN - timedelta(days=7))
    assert_frame_equal(earlier, before)


def test_what_became_known_after_the_origin_changes_nothing(lake, world, dataset):
    origin = ORIGIN - timedelta(days=7)
    before = update_service(lake, dataset, origin).summary
    late = lake.read("gold/fct_demand").filter(pl.col("event_date") == origin - timedelta(days=3))
    late = late.with_columns(knowledge_date=pl.lit(origin + timedelta(days=1)), units=pl.col("units") + 50)
    lake.append("gold/fct_demand", late)
    assert_frame_equal(update_service(lake, dataset, origin).summary, before)


def test_costs_and_service_of_the_warm_up_stay_out_of_the_summary(lake, dataset):
    summary = update_service(lake, dataset, ORIGIN).summary
    counted = service(lake).filter(pl.col("event_date") >= ORIGIN - timedelta(days=35))
    assert summary["lost_units"].item() == counted["lost_units"].sum()
    assert summary["n_days"].item() == 35


def test_an_audit_that_fails_keeps_everything_out(lake, dataset):
    def refuse(frame: pl.DataFrame) -> None:
        raise AuditFailed("no")

    with pytest.raises(AuditFailed):
        update_service(lake, dataset, ORIGIN, refuse)
    assert not lake.has(SERVICE_TABLE)


@pytest.mark.parametrize("stream", ["purchase_orders", "sales"])
def test_a_data_set_without_an_input_says_so(lake, dataset, stream):
    poorer = replace(dataset, feeds=tuple(feed for feed in dataset.feeds if feed.stream != stream))
    with pytest.raises(NotApplicable, match=f"not_applicable: no {stream} feed"):
        update_service(lake, poorer, ORIGIN)


def test_an_origin_before_all_sales_says_so(lake, dataset):
    with pytest.raises(NotApplicable):
        update_service(lake, dataset, date(2020, 1, 1))


@pytest.mark.parametrize(
    "options",
    [
        {"holding": 1},
        {"n_days": "many"},
        {"n_days": 0},
        {"order_cost_cents": -1},
        {"seed": True},
        {"holding_rate_bp_per_year": 0},
        {"cycle_service_level_bp": 10_000},
    ],
)
def test_an_unknown_or_impossible_option_is_refused(lake, dataset, options):
    with pytest.raises(ContractError, match=r"options\.outcomes"):
        update_service(lake, replace(dataset, options={"outcomes": options}), ORIGIN)


def test_options_reach_the_simulation(lake, dataset):
    free = replace(dataset, options={"outcomes": {"holding_rate_bp_per_year": 1, "order_cost_cents": 0, "n_days": 28}})
    summary = update_service(lake, free, ORIGIN).summary
    assert summary["n_days"].item() == 7
    assert summary["order_cost_cents"].item() == 0
