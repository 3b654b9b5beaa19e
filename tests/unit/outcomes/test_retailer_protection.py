"""True demand over protection intervals, against a count by hand."""

from datetime import date, timedelta

import polars as pl
import pytest

from replenish.errors import OutOfRange
from replenish.outcomes.retailer import World, build_world
from replenish.outcomes.retailer_assortment import HIDDEN_SUPPLIERS
from replenish.outcomes.retailer_plan import RetailerPlan
from replenish.outcomes.retailer_protection import true_protection_demand

PLAN = RetailerPlan(seed=5, n_skus=6, n_locations=2, n_days=90, with_faults=False)
ORIGINS = (date(2024, 2, 5), date(2024, 2, 12))


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(PLAN)


def test_an_interval_sums_the_true_demand_of_its_days(world):
    intervals = true_protection_demand(world, ORIGINS)
    assert intervals.height == len(ORIGINS) * 12
    for row in intervals.iter_rows(named=True):
        end = row["origin_date"] + timedelta(days=row["protection_days"])
        days = world.truth.filter(
            (pl.col("sku_id") == row["sku_id"])
            & (pl.col("location_id") == row["location_id"])
            & pl.col("event_date").is_between(row["origin_date"], end, closed="left")
        )
        assert row["demand_units"] == days["demand_units"].sum()


def test_an_interval_is_a_review_period_plus_the_lead_time_of_the_next_order(world):
    """Wherever the retailer did order on the next review day, that order took exactly the rest of the interval."""
    review = {s.supplier_id: s.review_days for s in HIDDEN_SUPPLIERS}
    origins = [date(2024, 2, 1) + timedelta(days=i) for i in range(20)]
    placed = world.lead_times.with_columns(
        origin_date=pl.col("order_date") - pl.duration(days=pl.col("supplier_id").replace_strict(review))
    )
    both = true_protection_demand(world, origins).join(placed, on=["origin_date", "sku_id", "location_id"])
    assert both.height > 10
    assert (both["protection_days"] == both["lead_time_days"] + both["supplier_id"].replace_strict(review)).all()


def test_an_interval_past_the_end_of_the_world_is_refused(world):
    with pytest.raises(OutOfRange):
        true_protection_demand(world, [PLAN.first_date + timedelta(days=PLAN.n_world_days - 1)])
