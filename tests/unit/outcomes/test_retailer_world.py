"""The built-in retailer's truth: deterministic, balanced, censored, and as varied as a real one."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from replenish.errors import OutOfRange
from replenish.outcomes.retailer import World, build_world
from replenish.outcomes.retailer_plan import DemandShift, RetailerPlan

PLAN = RetailerPlan(seed=5, n_skus=6, n_locations=2, n_days=90, n_extra_days=5)
KEY = ("sku_id", "location_id", "event_date")


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(PLAN)


@pytest.fixture(scope="module")
def full_size_truth() -> pl.DataFrame:
    return build_world(RetailerPlan(seed=7)).truth


def test_the_same_seed_gives_the_same_world(world):
    again = build_world(PLAN)
    assert_frame_equal(world.truth, again.truth)
    assert all(world.records[name].equals(again.records[name]) for name in world.records)


def test_another_seed_gives_another_world(world):
    assert not world.truth.equals(build_world(replace(PLAN, seed=6)).truth)


def test_a_longer_world_begins_with_the_days_of_a_shorter_one(world):
    longer = build_world(replace(PLAN, n_days=120)).truth
    days = world.truth["event_date"].unique().implode()
    assert_frame_equal(longer.filter(pl.col("event_date").is_in(days)), world.truth)


def test_stock_balances_every_day(world):
    rows = world.truth.sort(KEY).with_columns(before=pl.col("on_hand_units").shift(1).over("sku_id", "location_id"))
    walk = rows.drop_nulls("before")
    assert (walk["on_hand_units"] == walk["before"] + walk["received_units"] - walk["sales_units"]).all()


def test_a_stock_out_censors_sales_and_nothing_else_does(world):
    truth = world.truth
    assert (truth["sales_units"] <= truth["demand_units"]).all()
    assert (truth["on_hand_units"] >= 0).all()
    censored = truth.filter(pl.col("sales_units") < pl.col("demand_units"))
    assert censored.height > 0
    assert (censored["on_hand_units"] == 0).all()


def test_what_arrives_was_ordered_its_true_lead_time_ago(world):
    due = world.lead_times.with_columns(
        event_date=pl.col("order_date") + pl.duration(days=pl.col("lead_time_days"))
    ).filter(pl.col("event_date") <= world.truth["event_date"].max())
    arrived = due.group_by(KEY).agg(received_units=pl.col("units").sum()).sort(KEY)
    assert_frame_equal(
        arrived, world.truth.filter(pl.col("received_units") > 0).select(*KEY, "received_units").sort(KEY)
    )


def test_a_demand_shift_touches_its_category_from_its_day_on_and_nothing_before(world):
    shifted = build_world(replace(PLAN, demand_shift=DemandShift("C1", 1.5, from_day=60))).truth
    both = world.truth.join(shifted, on=KEY, suffix="_shifted").with_columns(
        ratio=pl.col("expected_units_shifted") / pl.col("expected_units")
    )
    start = pl.lit(PLAN.first_date).dt.offset_by("60d")
    is_shifted = (pl.col("event_date") >= start) & pl.col("sku_id").is_in(["A001", "A004"])
    assert both.filter(is_shifted)["ratio"].to_numpy() == pytest.approx(1.5)
    untouched = both.filter(~is_shifted)
    assert (untouched["ratio"] == 1.0).all()
    before = both.filter(pl.col("event_date") < start)
    assert (before["demand_units"] == before["demand_units_shifted"]).all()


def test_shelves_are_empty_about_as_often_as_in_real_shops(full_size_truth):
    share = (full_size_truth["on_hand_units"] == 0).mean()
    assert 0.03 <= share <= 0.08


def test_demand_ranges_from_intermittent_to_brisk(full_size_truth):
    series = full_size_truth.group_by("sku_id", "location_id").agg(
        mean=pl.col("demand_units").mean(), zero=(pl.col("demand_units") == 0).mean()
    )
    assert series["mean"].min() < 0.8
    assert series["mean"].max() > 15
    assert (series["zero"] > 0.7).sum() >= 5


def test_saturdays_sell_more_than_mondays_and_promotions_more_than_list_prices(full_size_truth):
    weekday = pl.col("event_date").dt.weekday()
    per_day = full_size_truth.group_by(weekday=weekday).agg(pl.col("demand_units").mean())
    means = dict(per_day.iter_rows())
    assert means[6] > 1.2 * means[1]
    relative = full_size_truth.with_columns(
        relative=pl.col("demand_units") / pl.col("demand_units").mean().over("sku_id", "location_id")
    )
    uplift = dict(relative.group_by("is_promotion").agg(pl.col("relative").mean()).iter_rows())
    assert uplift[True] > 1.5 * uplift[False]


def test_true_demand_scatters_around_its_hidden_mean(full_size_truth):
    """The mean of many draws meets the mean they were drawn from: within four standard errors."""
    excess = (full_size_truth["demand_units"] - full_size_truth["expected_units"]).to_numpy()
    assert abs(excess.mean()) < 4 * excess.std() / np.sqrt(len(excess))


@pytest.mark.parametrize("wrong", [{"n_skus": 0}, {"n_days": 0}, {"n_extra_days": -1}])
def test_an_impossible_retailer_is_refused(wrong):
    with pytest.raises(OutOfRange):
        replace(PLAN, **wrong)


def test_a_shift_of_an_unknown_category_is_refused():
    with pytest.raises(OutOfRange, match="C9"):
        replace(PLAN, demand_shift=DemandShift("C9", 2.0, 0))
