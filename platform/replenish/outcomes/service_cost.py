"""Money and service figures of a simulated stock trajectory: integer cents by day, ratios only in the summary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replenish.outcomes.simulate import StockTrajectory

BASIS_POINTS = 10_000
DAYS_PER_YEAR = 365


@dataclass(frozen=True)
class CostRates:
    """What stock, shortage and orders cost. Arrays of shape (n_series,), int64 cents; rates in basis points."""

    unit_cost_cents: np.ndarray
    unit_margin_cents: np.ndarray
    """Lost with every unit of demand that finds no stock."""
    holding_rate_bp_per_year: int
    """Share of the unit cost that a year of holding costs."""
    order_cost_cents: int
    """Cost of one order line, whatever its size."""


@dataclass(frozen=True)
class StockCosts:
    """Costs by day and series, (n_days, n_series), int64 cents."""

    holding: np.ndarray
    shortage: np.ndarray
    order: np.ndarray


def stock_costs(trajectory: StockTrajectory, rates: CostRates) -> StockCosts:
    """Cents spent on stock held at close, on unmet demand and on orders.

    A day's holding cost is the growth of the rounded-down running total, so no cents are lost to rounding by day.
    """
    value_days = np.cumsum(trajectory.on_hand * rates.unit_cost_cents, axis=0)
    running = value_days * rates.holding_rate_bp_per_year // (BASIS_POINTS * DAYS_PER_YEAR)
    holding = np.diff(running, axis=0, prepend=np.zeros_like(running[:1]))
    unmet = trajectory.lost + trajectory.backorders
    return StockCosts(
        holding=holding,
        shortage=unmet * rates.unit_margin_cents,
        order=(trajectory.ordered > 0).astype(np.int64) * rates.order_cost_cents,
    )


@dataclass(frozen=True)
class CycleCount:
    """Replenishment cycles (from one receipt to the next) and those in which demand went unmet."""

    n_cycles: int
    n_stock_out_cycles: int


def count_cycles(trajectory: StockTrajectory, first_day: int = 0) -> CycleCount:
    """Cycles that lie wholly in the trajectory from `first_day` on, over all series.

    The share of cycles without stock-out is the `cycle_service_level`.
    """
    arrivals = trajectory.received[first_day:] > 0
    cycle = np.cumsum(arrivals, axis=0)
    is_whole = (cycle > 0) & (cycle < cycle[-1])
    has_unmet = (trajectory.lost + trajectory.backorders)[first_day:] > 0
    n_cycles = int(np.maximum(cycle[-1] - 1, 0).sum())
    day, series = np.nonzero(is_whole & has_unmet)
    return CycleCount(n_cycles, len({(int(c), int(s)) for c, s in zip(cycle[day, series], series, strict=True)}))
