"""The inventory simulator obeys the laws of stock."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replenish.errors import OutOfRange
from replenish.outcomes.order_rules import base_stock_rule
from replenish.outcomes.simulate import OrderRule, StockTrajectory, simulate_stock

N_DAYS, N_SERIES = 40, 3


def order_up_to(level: int, n_days: int, n_series: int, *, review_days: int = 1, pack: int = 1) -> OrderRule:
    is_review_day = (np.arange(n_days) % review_days == 0)[:, None].repeat(n_series, axis=1)
    levels = np.full((n_days, n_series), level, dtype=np.int64)
    return base_stock_rule(levels, is_review_day, np.full(n_series, pack), np.zeros(n_series, dtype=np.int64))


def drawn_case(seed: int, lead_max: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    demand = rng.poisson(4.0, (N_DAYS, N_SERIES)).astype(np.int64)
    lead = rng.integers(0, lead_max + 1, (N_DAYS, N_SERIES))
    return demand, lead, rng.integers(0, 20, N_SERIES), rng.poisson(0.3, (N_DAYS, N_SERIES)).astype(np.int64)


def run_case(seed: int, level: int, *, unmet: str = "lost", review_days: int = 2, pack: int = 3) -> StockTrajectory:
    demand, lead, initial, pipeline = drawn_case(seed, 6)
    rule = order_up_to(level, N_DAYS, N_SERIES, review_days=review_days, pack=pack)
    return simulate_stock(demand, rule, lead, initial_on_hand=initial, pipeline=pipeline, unmet=unmet)


cases = given(
    seed=st.integers(0, 10_000),
    level=st.integers(0, 60),
    unmet=st.sampled_from(["lost", "backordered"]),
    review_days=st.integers(1, 7),
    pack=st.integers(1, 12),
)


@cases
@settings(max_examples=40, deadline=None)
def test_stock_flow_balances(seed, level, unmet, review_days, pack):
    _, _, initial, pipeline = drawn_case(seed, 6)
    run = run_case(seed, level, unmet=unmet, review_days=review_days, pack=pack)
    net = run.on_hand - run.backorders
    before = np.concatenate([initial[None], net[:-1]])
    assert (net == before + run.received - run.demand + run.lost).all()
    under_way = np.concatenate([pipeline.sum(axis=0)[None], run.on_order[:-1]])
    assert (run.on_order == under_way + run.ordered - run.received).all()


@cases
@settings(max_examples=40, deadline=None)
def test_nothing_is_negative_and_nobody_waits_beside_a_full_shelf(seed, level, unmet, review_days, pack):
    run = run_case(seed, level, unmet=unmet, review_days=review_days, pack=pack)
    for name in ("received", "ordered", "sales", "lost", "backorders", "on_hand", "on_order"):
        assert (getattr(run, name) >= 0).all(), name
    assert not ((run.on_hand > 0) & (run.lost + run.backorders > 0)).any()
    assert (run.ordered % pack == 0).all()


@given(seed=st.integers(0, 10_000), level=st.integers(0, 50), more=st.integers(1, 30), lead=st.integers(0, 8))
@settings(max_examples=40, deadline=None)
def test_a_higher_base_stock_level_never_leaves_more_demand_waiting(seed, level, more, lead):
    """With a constant lead time orders do not cross and backorders fall in the level: Zipkin, section 6.2."""
    demand, _, initial, _ = drawn_case(seed, 0)
    leads = np.full_like(demand, lead)
    low, high = (
        simulate_stock(
            demand, order_up_to(s, N_DAYS, N_SERIES), leads, initial_on_hand=initial + s, unmet="backordered"
        )
        for s in (level, level + more)
    )
    assert (high.backorders <= low.backorders).all()


@given(seed=st.integers(0, 10_000), level=st.integers(1, 30), more=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_more_stock_never_lowers_the_fill_rate_when_goods_arrive_at_once(seed, level, more):
    demand, _, initial, _ = drawn_case(seed, 0)
    at_once = np.zeros_like(demand)
    low, high = (
        simulate_stock(demand, order_up_to(s, N_DAYS, N_SERIES, review_days=3), at_once, initial_on_hand=initial)
        for s in (level, level + more)
    )
    assert high.sales.sum() >= low.sales.sum()


def test_without_lead_time_a_level_above_every_days_demand_loses_nothing():
    demand, _, initial, _ = drawn_case(1, 0)
    rule = order_up_to(int(demand.max()), N_DAYS, N_SERIES)
    run = simulate_stock(demand, rule, np.zeros_like(demand), initial_on_hand=np.zeros_like(initial))
    assert run.lost.sum() == 0


def test_an_order_arrives_exactly_its_lead_time_later():
    demand = np.zeros((6, 1), dtype=np.int64)
    run = simulate_stock(demand, order_up_to(5, 6, 1), np.full((6, 1), 3), initial_on_hand=np.array([0]))
    assert run.ordered[:, 0].tolist() == [5, 0, 0, 0, 0, 0]
    assert run.received[:, 0].tolist() == [0, 0, 0, 5, 0, 0]


def test_goods_under_way_count_as_ordered_and_arrive_on_their_day():
    demand = np.zeros((4, 1), dtype=np.int64)
    pipeline = np.array([[0], [0], [5], [0]])
    run = simulate_stock(
        demand, order_up_to(5, 4, 1), np.ones((4, 1), dtype=np.int64), initial_on_hand=np.array([0]), pipeline=pipeline
    )
    assert run.ordered.sum() == 0
    assert run.on_hand[:, 0].tolist() == [0, 0, 5, 5]


def test_a_minimum_order_is_ordered_even_where_less_is_missing():
    demand = np.array([[1], [0], [0]])
    rule = order_up_to(10, 3, 1)
    rule = OrderRule(rule.reorder_point, rule.order_up_to, rule.is_review_day, rule.pack_size, np.array([24]))
    run = simulate_stock(demand, rule, np.zeros((3, 1), dtype=np.int64), initial_on_hand=np.array([10]))
    assert run.ordered[:, 0].tolist() == [0, 24, 0]


def test_the_simulated_newsvendor_cost_meets_the_published_one():
    """h = 2, p = 18, demand N(120, 10): S = 132.8155 costs 35.0997 a day (value published with stockpyl)."""
    rng = np.random.default_rng(3)
    demand = np.rint(rng.normal(120, 10, (1_000, 200))).astype(np.int64)
    rule = order_up_to(133, 1_000, 200)
    run = simulate_stock(demand, rule, np.zeros_like(demand), initial_on_hand=np.full(200, 133), unmet="backordered")
    cost = 2 * run.on_hand.mean() + 18 * run.backorders.mean()
    assert cost == pytest.approx(35.0997, rel=0.01)


@pytest.mark.parametrize("broken", ["demand", "lead", "initial"])
def test_negative_amounts_are_refused(broken):
    arrays = {"demand": np.ones((3, 1), int), "lead": np.ones((3, 1), int), "initial": np.ones(1, int)}
    arrays[broken] = -arrays[broken]
    with pytest.raises(OutOfRange):
        simulate_stock(arrays["demand"], order_up_to(1, 3, 1), arrays["lead"], initial_on_hand=arrays["initial"])


def test_a_rule_of_another_shape_is_refused():
    with pytest.raises(OutOfRange, match="shape"):
        simulate_stock(
            np.ones((3, 2), int), order_up_to(1, 3, 1), np.ones((3, 2), int), initial_on_hand=np.ones(2, int)
        )
