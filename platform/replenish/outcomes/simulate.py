"""Inventory simulator: what a replenishment rule would have done to stock, sales and lost demand, day by day.

One array row per day, one column per series (a sku at a location). Within a day: orders are placed if it is a review
day, goods arrive, customers come, stock is counted. Randomness (lead times) comes in as an argument: two rules run
with equal draws meet equal luck.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from replenish.errors import OutOfRange

Unmet = Literal["lost", "backordered"]


@dataclass(frozen=True)
class OrderRule:
    """When and how much to order; arrays of shape (n_days, n_series), int64 units.

    On a review day a series whose inventory position is at or below `reorder_point` is ordered up to `order_up_to`, in
    whole packs of `pack_size` (n_series,), at least `min_order` (n_series,).
    """

    reorder_point: np.ndarray
    order_up_to: np.ndarray
    is_review_day: np.ndarray
    pack_size: np.ndarray
    min_order: np.ndarray

    def order_units(self, day: int, inventory_position: np.ndarray) -> np.ndarray:
        """Units to order on `day` at this inventory position; shape (n_series,)."""
        missing = self.order_up_to[day] - inventory_position
        wants = self.is_review_day[day] & (inventory_position <= self.reorder_point[day]) & (missing > 0)
        packed = -(-missing // self.pack_size) * self.pack_size
        return np.where(wants, np.maximum(packed, self.min_order), 0)


@dataclass(frozen=True)
class StockTrajectory:
    """What happened; arrays of shape (n_days, n_series), int64 units, stock at close of day.

    Balance: on_hand[t] - backorders[t] = on_hand[t-1] - backorders[t-1] + received[t] - demand[t] + lost[t].
    """

    demand: np.ndarray
    received: np.ndarray
    ordered: np.ndarray
    sales: np.ndarray
    lost: np.ndarray
    backorders: np.ndarray
    on_hand: np.ndarray
    on_order: np.ndarray


def simulate_stock(
    demand: np.ndarray,
    rule: OrderRule,
    lead_days: np.ndarray,
    *,
    initial_on_hand: np.ndarray,
    pipeline: np.ndarray | None = None,
    unmet: Unmet = "lost",
) -> StockTrajectory:
    """Run an order rule against demand.

    Args:
        demand: Units wanted, (n_days, n_series), int64 >= 0.
        rule: The order rule, of the same shape.
        lead_days: Days until an order of that day arrives, (n_days, n_series), >= 0; 0 arrives before the customers.
        initial_on_hand: Units on the shelf before the first day, (n_series,).
        pipeline: Units already under way, by day of arrival, (n_days, n_series); None = nothing.
        unmet: Whether unmet demand is lost or waits; waiting demand is served first.

    Raises:
        OutOfRange: Shapes differ, or an amount is negative.
    """
    _check(demand, rule, lead_days, initial_on_hand, pipeline)
    n_days = len(demand)
    arriving = np.zeros_like(demand) if pipeline is None else pipeline.astype(np.int64).copy()
    on_hand, waiting = initial_on_hand.astype(np.int64), np.zeros_like(initial_on_hand, dtype=np.int64)
    under_way = arriving.sum(axis=0)
    received, ordered, sales, lost, backorders, close, open_orders = (np.zeros_like(demand) for _ in range(7))
    series = np.arange(demand.shape[1])
    for day in range(n_days):
        units = rule.order_units(day, on_hand + under_way - waiting)
        ordered[day] = units
        due = day + lead_days[day]
        in_time = due < n_days
        np.add.at(arriving, (due[in_time], series[in_time]), units[in_time])
        # Whatever is due today, an order without lead time included, is on the shelf when customers come.
        received[day] = arriving[day]
        under_way = under_way + units - received[day]
        available = on_hand + received[day]
        wanted = demand[day] + waiting
        sales[day] = np.minimum(wanted, available)
        on_hand = available - sales[day]
        short = wanted - sales[day]
        waiting = short if unmet == "backordered" else np.zeros_like(short)
        lost[day] = short - waiting
        backorders[day], close[day], open_orders[day] = waiting, on_hand, under_way
    return StockTrajectory(demand, received, ordered, sales, lost, backorders, close, open_orders)


def _check(
    demand: np.ndarray, rule: OrderRule, lead_days: np.ndarray, initial: np.ndarray, pipeline: np.ndarray | None
) -> None:
    by_day = [rule.reorder_point, rule.order_up_to, rule.is_review_day, lead_days]
    if any(a.shape != demand.shape for a in [*by_day, *([] if pipeline is None else [pipeline])]):
        raise OutOfRange("arrays by day and series must have the shape of the demand", shape=demand.shape)
    if any(a.shape != demand.shape[1:] for a in (initial, rule.pack_size, rule.min_order)):
        raise OutOfRange("arrays by series must have one entry per series", n_series=demand.shape[1])
    amounts = [demand, lead_days, initial, *([] if pipeline is None else [pipeline])]
    if any((a < 0).any() for a in amounts) or (rule.pack_size < 1).any():
        raise OutOfRange("demand, lead times, stock and pipeline are never negative, packs hold at least one unit")
