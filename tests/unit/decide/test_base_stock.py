"""Order-up-to levels against published values of the newsvendor, and the laws of the quantile grid."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replenish.control.policy import Objective, read_policy
from replenish.decide.base_stock import (
    DemandGrid,
    base_stock_level,
    critical_ratio,
    fill_rate_level,
    ratio_from_costs,
)
from replenish.errors import OutOfRange

LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 0.995)
FINE = tuple(np.arange(1, 2000) / 2000)
OBJECTIVE = read_policy().objective


def normal_grid(mean: float, sd: float, levels: tuple[float, ...] = LEVELS) -> DemandGrid:
    return DemandGrid(levels, tuple(NormalDist(mean, sd).inv_cdf(level) for level in levels), mean)


def test_the_published_newsvendor_level_is_met() -> None:
    # stockpyl newsvendor_normal(holding_cost=2, stockout_cost=18, mean=120, sd=10): S = 132.8155.
    assert normal_grid(120, 10).quantile(critical_ratio(18, 2)) == pytest.approx(132.8155, abs=5e-5)


def test_the_published_newsvendor_cost_is_met() -> None:
    # Same example: expected cost 35.0997 = h (S - mean) + (h + p) x expected shortage.
    shortage = normal_grid(120, 10, FINE).expected_shortage(132.8155)
    assert 2 * (132.8155 - 120) + 20 * shortage == pytest.approx(35.0997, abs=0.03)


def test_the_textbook_newsvendor_of_snyder_and_shen_is_met() -> None:
    # Snyder and Shen, example 4.3: h = 0.18, p = 0.70, demand N(50, 8): ratio 0.795, S = 56.6.
    ratio = critical_ratio(0.70, 0.18)
    assert ratio == pytest.approx(0.7955, abs=5e-5)
    assert normal_grid(50, 8, FINE).quantile(ratio) == pytest.approx(56.60, abs=0.01)


def test_expected_shortage_of_a_uniform_demand_is_exact() -> None:
    # Demand uniform on (0, 100): expected shortage at S is (100 - S)^2 / 200.
    grid = DemandGrid(FINE, tuple(100 * level for level in FINE), 50.0)
    for units in (0.0, 20.0, 50.03, 80.0, 99.0):
        assert grid.expected_shortage(units) == pytest.approx((100 - units) ** 2 / 200, abs=1e-4)


def test_a_fill_rate_level_leaves_just_the_allowed_shortage() -> None:
    grid = normal_grid(120, 30, FINE)
    level = fill_rate_level(grid, 0.98, cycle_share=0.7)
    assert grid.expected_shortage(level) == pytest.approx(0.02 * 120 * 0.7, rel=1e-6)


def test_a_fill_rate_beyond_the_grid_takes_its_end() -> None:
    grid = normal_grid(120, 30)
    assert fill_rate_level(grid, 0.99999999, cycle_share=0.1) == pytest.approx(grid.quantiles[-1], abs=1e-3)


def test_costs_give_the_ratio_inside_the_bounds_of_the_policy() -> None:
    objective = replace(OBJECTIVE, overage_share_of_cost=0.08, min_ratio=0.5, max_ratio=0.95)
    assert ratio_from_costs(100, 172, objective) == pytest.approx(72 / 80)
    assert ratio_from_costs(100, 10_000, objective) == 0.95
    assert ratio_from_costs(100, 101, objective) == 0.5


@pytest.mark.parametrize(("cost", "price"), [(None, 100), (100, None), (100, 100), (100, 90), (0, 10)])
def test_without_a_margin_the_default_ratio_is_taken_and_named(cost: int | None, price: int | None) -> None:
    level = base_stock_level(
        normal_grid(120, 10), OBJECTIVE, unit_cost_cents=cost, unit_price_cents=price, cycle_share=1.0
    )
    assert (level.basis, level.target) == ("default_ratio", OBJECTIVE.default_ratio)


def test_a_cycle_service_level_is_a_quantile() -> None:
    objective = replace(OBJECTIVE, kind="cycle_service_level", target=0.95)
    level = base_stock_level(
        normal_grid(120, 10), objective, unit_cost_cents=None, unit_price_cents=None, cycle_share=1.0
    )
    assert level.units == pytest.approx(136.4485, abs=1e-3)


@pytest.mark.parametrize(
    ("levels", "quantiles"),
    [((0.5, 0.4), (1.0, 2.0)), ((0.5, 0.9), (2.0, 1.0)), ((0.0, 0.5), (1.0, 2.0)), ((0.5,), (float("nan"),)), ((), ())],
)
def test_what_is_no_distribution_is_refused(levels: tuple[float, ...], quantiles: tuple[float, ...]) -> None:
    with pytest.raises(OutOfRange):
        DemandGrid(levels, quantiles, 1.0)


grids = st.lists(st.floats(0, 1000), min_size=len(LEVELS), max_size=len(LEVELS)).map(
    lambda values: DemandGrid(LEVELS, tuple(sorted(values)), float(np.mean(values)))
)


@given(grids, st.floats(0, 1200), st.floats(0, 100))
def test_more_stock_never_means_more_shortage(grid: DemandGrid, units: float, more: float) -> None:
    assert grid.expected_shortage(units + more) <= grid.expected_shortage(units) + 1e-6


@given(grids, st.floats(0.01, 0.999), st.floats(0, 0.5))
def test_a_higher_target_never_means_less_stock(grid: DemandGrid, level: float, more: float) -> None:
    assert grid.quantile(min(level + more, 0.999)) >= grid.quantile(level)


def _objective(kind: str, target: float) -> Objective:
    return replace(OBJECTIVE, kind=kind, target=target)  # type: ignore[arg-type]


@given(grids, st.floats(0.5, 0.98), st.floats(0.1, 1))
def test_a_higher_fill_rate_never_means_less_stock(grid: DemandGrid, rate: float, share: float) -> None:
    low, high = (
        base_stock_level(grid, _objective("fill_rate", t), unit_cost_cents=1, unit_price_cents=2, cycle_share=share)
        for t in (rate, rate + 0.01)
    )
    assert high.units >= low.units - 1e-6
