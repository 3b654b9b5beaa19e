"""Demand behind stock-outs: the estimate by the book, and nearer to hidden truth than sales."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replenish.features.unconstrained.product_limit import (
    REFERENCE_DAYS,
    mean_from,
    product_limit,
    unconstrained_milli,
)
from replenish.outcomes.retailer import build_world
from replenish.outcomes.retailer_plan import RetailerPlan
from replenish.units import MILLI

REMISSION = (6, 6, 6, 7, 10, 13, 16, 22, 23)
REMISSION_BOUNDS = (6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35)
"""Weeks of remission under 6-mercaptopurine, and those that were still going on: Freireich et al., Blood 21 (1963)."""


def test_the_product_limit_is_that_of_the_literature() -> None:
    values = np.array([[*REMISSION, *REMISSION_BOUNDS]], dtype=np.float64)
    is_bound = np.array([[False] * len(REMISSION) + [True] * len(REMISSION_BOUNDS)])
    ordered, chance = product_limit(values, is_bound)
    beyond = {week: round(float(chance[ordered > week].sum()), 3) for week in (6, 7, 10, 13, 16, 22, 23)}
    assert beyond == {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.69, 16: 0.627, 22: 0.538, 23: 0.448}


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=1, max_size=30),
    st.integers(0, 60),
)
def test_a_distribution_sums_to_one_and_its_mean_is_never_below_what_was_sold(
    days: list[tuple[int, bool]], sold: int
) -> None:
    values, is_bound = np.array([[float(v) for v, _ in days]]), np.array([[b for _, b in days]])
    ordered, chance = product_limit(values, is_bound)
    assert chance.sum() == pytest.approx(1.0)
    assert (chance >= 0).all()
    (mean,) = mean_from(ordered, chance, np.array([float(sold)]))
    assert sold <= mean <= max(sold, values.max()) + 1e-9
    if not is_bound.any():
        above = values[values >= sold]
        assert mean == pytest.approx(above.mean() if above.size else sold)


def days_of(units: list[int], empty: set[int]) -> tuple[np.ndarray, np.ndarray]:
    censored = np.zeros((1, len(units)), dtype=np.bool_)
    censored[0, list(empty)] = True
    return np.array([units], dtype=np.int64), censored


def test_days_with_stock_are_what_was_sold_and_sold_out_ones_what_is_beyond() -> None:
    units, censored = days_of([4, 8] * 14 + [5], {28})
    begun = np.ones(units.shape, dtype=np.bool_)
    milli = unconstrained_milli(units, censored, begun, 0)
    assert (milli[0, :28] == units[0, :28] * MILLI).all()
    # Every weekday has both numbers twice, so nothing is scaled: of the days, 8 alone is beyond 5.
    assert milli[0, 28] == 8_000


def test_a_sold_out_day_is_brought_to_its_weekday() -> None:
    # Mondays sell three times as much as other days; the last day is a Monday.
    units, censored = days_of([30 if n % 7 == 0 else 10 for n in range(29)], {28})
    units[0, 28] = 2
    milli = unconstrained_milli(units, censored, np.ones(units.shape, dtype=np.bool_), 0)
    assert milli[0, 28] == 30_000


def test_days_before_the_first_sale_say_nothing_of_demand() -> None:
    units, censored = days_of([0] * 24 + [6, 6, 6, 6, 0], {28})
    begun = np.arange(29)[None, :] >= 24
    assert unconstrained_milli(units, censored, begun, 0)[0, 28] == 6_000
    assert unconstrained_milli(units, censored, np.ones_like(begun), 0)[0, 28] < 2_000


def test_a_broken_record_moves_no_estimate() -> None:
    units = np.full((3, 36), 5, dtype=np.int64)
    censored = np.zeros(units.shape, dtype=np.bool_)
    units[:, 35], censored[:, 35] = 1, True
    begun = np.ones(units.shape, dtype=np.bool_)
    right = unconstrained_milli(units, censored, begun, 0)
    assert (right[:, 35] == 5_000).all()
    # The same weekday a week before, and the day before.
    units[0, 28], units[1, 34] = 40_000, 70_000
    broken = unconstrained_milli(units, censored, begun, 0)
    assert (broken[:, 35] == right[:, 35]).all()
    assert broken[0, 28] == 40_000_000, "what was sold is left to whoever judges records"


def test_a_series_that_was_never_in_stock_keeps_its_sales() -> None:
    units, censored = days_of([3] * 29, set(range(29)))
    milli = unconstrained_milli(units, censored, np.ones(units.shape, dtype=np.bool_), 0)
    assert (milli == 3_000).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_later_days_and_other_days_known_change_no_estimate(seed: int) -> None:
    draw = np.random.default_rng(seed)
    units = draw.poisson(3.0, (4, 60))
    censored = draw.random((4, 60)) < 0.2
    begun = np.ones(units.shape, dtype=np.bool_)
    whole = unconstrained_milli(units, censored, begun, 3)
    assert (whole >= units * MILLI).all()
    assert (whole[~censored] == units[~censored] * MILLI).all()
    assert (unconstrained_milli(units[:, :45], censored[:, :45], begun[:, :45], 3) == whole[:, :45]).all()


@pytest.mark.parametrize("seed", [5, 7])
def test_the_estimate_is_nearer_to_hidden_demand_than_sales_are(seed: int) -> None:
    """On 150 series of 400 days and five seeds: bias -56 to -62 % of sales, -2 to -8 % of the estimate."""
    world = build_world(RetailerPlan(seed=seed, n_skus=30, n_locations=3, n_days=240, with_faults=False))
    truth = world.truth.sort("sku_id", "location_id", "event_date")
    shape = (90, -1)
    names = ("sales_units", "demand_units", "on_hand_units")
    sold, wanted, left = (truth[name].to_numpy().reshape(shape) for name in names)
    censored = left <= 0
    begun = np.cumsum(sold, axis=1) > 0
    estimate = unconstrained_milli(sold, censored & begun, begun, world.plan.first_date.weekday()) / MILLI
    judged = censored & begun
    judged[:, :REFERENCE_DAYS] = False
    assert judged.sum() > 1_000
    real = wanted[judged]
    bias_of_sales, bias = ((values[judged] - real).sum() / real.sum() for values in (sold, estimate))
    assert bias_of_sales < -0.4
    assert abs(bias) < abs(bias_of_sales) / 4
    assert np.abs(estimate[judged] - real).mean() < 0.85 * np.abs(sold[judged] - real).mean()
