"""Order rules, demand estimate and costs against worked examples."""

import numpy as np
import pytest

from replenish.errors import OutOfRange
from replenish.outcomes.demand_estimate import estimate_demand
from replenish.outcomes.order_rules import economic_order_quantity, seasonal_naive_levels
from replenish.outcomes.service_cost import CostRates, count_cycles, stock_costs
from replenish.outcomes.simulate import StockTrajectory


def levels(history: np.ndarray, **changes) -> tuple[int, int]:
    arguments = {
        "lead_mean_days": np.array([3.0]),
        "lead_sd_days": np.array([0.0]),
        "review_days": np.array([2]),
        "order_quantity": np.array([10.0]),
        "season_days": 7,
        "cycle_service_level": np.array([0.95]),
    } | changes
    s, up_to = seasonal_naive_levels(history, **arguments)
    return int(s[0]), int(up_to[0])


def trajectory(**columns: list[int]) -> StockTrajectory:
    """One series; columns that are not given are zero."""
    n_days = len(next(iter(columns.values())))
    names = ("demand", "received", "ordered", "sales", "lost", "backorders", "on_hand", "on_order")
    return StockTrajectory(**{name: np.array(columns.get(name, [0] * n_days))[:, None] for name in names})


def rates(unit_cost_cents: int) -> CostRates:
    return CostRates(np.array([unit_cost_cents]), np.array([150]), holding_rate_bp_per_year=2500, order_cost_cents=20)


def test_the_economic_order_quantity_meets_the_published_one():
    quantity = economic_order_quantity(np.array(8.0), np.array(0.225), np.array(1300.0))
    assert quantity == pytest.approx(304.0467800264368)


@pytest.mark.parametrize("arguments", [(-1.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, -1.0)])
def test_impossible_costs_are_refused(arguments):
    with pytest.raises(OutOfRange):
        economic_order_quantity(*(np.array(value) for value in arguments))


def test_demand_that_repeats_exactly_needs_no_safety_stock():
    history = np.tile([1, 2, 3, 4, 5, 6, 7], 4)[:, None]
    assert levels(history) == (20, 30)  # mean 4 a day x (3 + 2) days


def test_safety_stock_grows_with_errors_lead_time_variance_and_target():
    calm = np.full((28, 1), 4)
    wild = calm + np.tile([3, -3, 2, -2], 7)[:, None]
    assert levels(wild)[0] > levels(calm)[0] == 20
    # sd = daily mean x sd of the lead time = 8; z(0.95) = 1.645: 20 + 13.16.
    assert levels(calm, lead_sd_days=np.array([2.0]))[0] == 34
    assert levels(wild, cycle_service_level=np.array([0.99]))[0] > levels(wild)[0]


def test_two_seasons_of_history_are_needed():
    with pytest.raises(OutOfRange):
        levels(np.ones((13, 1), dtype=int))


@pytest.mark.parametrize("target", [0.0, 1.0, float("nan")])
def test_a_target_that_is_no_probability_is_refused(target):
    with pytest.raises(OutOfRange):
        levels(np.ones((28, 1), dtype=int), cycle_service_level=np.array([target]))


def test_an_empty_shelf_raises_demand_to_the_usual_and_never_lowers_it():
    sales = np.array([[4], [6], [1], [9]])
    demand, is_estimated = estimate_demand(sales, np.array([[False], [False], [True], [True]]))
    assert demand[:, 0].tolist() == [4, 6, 5, 9]
    assert is_estimated[:, 0].tolist() == [False, False, True, False]


def test_an_absurd_day_counts_as_a_usual_one():
    sales = np.array([[4], [6], [5], [5_000]])
    demand, is_estimated = estimate_demand(sales, np.zeros((4, 1), dtype=bool))
    assert demand[:, 0].tolist() == [4, 6, 5, 5]
    assert is_estimated[:, 0].tolist() == [False, False, False, True]


def test_a_strong_but_possible_day_is_believed():
    sales = np.array([[40], [60], [50], [500]])
    demand, _ = estimate_demand(sales, np.zeros((4, 1), dtype=bool))
    assert demand[:, 0].tolist() == [40, 60, 50, 500]


def test_holding_costs_lose_no_cent_to_rounding_by_day():
    """One unit of 100 cents costs 25 cents a year: 0.07 cents a day, which rounds to nothing on every single day."""
    run = trajectory(on_hand=[1] * 365)
    assert stock_costs(run, rates(100)).holding.sum() == 25


def test_shortage_costs_the_margin_and_an_order_its_line():
    costs = stock_costs(trajectory(lost=[0, 2], ordered=[7, 0]), rates(100))
    assert costs.shortage[:, 0].tolist() == [0, 300]
    assert costs.order[:, 0].tolist() == [20, 0]


def test_cycles_run_from_receipt_to_receipt_and_a_cycle_is_short_once():
    run = trajectory(received=[0, 5, 0, 0, 5, 0, 5], lost=[9, 0, 1, 1, 0, 0, 9])
    cycles = count_cycles(run)
    assert (cycles.n_cycles, cycles.n_stock_out_cycles) == (2, 1)


def test_cycles_begun_in_the_warm_up_do_not_count():
    run = trajectory(received=[0, 5, 0, 0, 5, 0, 5], lost=[9, 0, 1, 1, 0, 0, 9])
    cycles = count_cycles(run, first_day=2)
    assert (cycles.n_cycles, cycles.n_stock_out_cycles) == (1, 0)
