"""The built-in retailer's shelves: its own reorder policy, deliveries, and sales cut off where shelves are empty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replenish.outcomes.retailer_assortment import HIDDEN_SUPPLIERS, Assortment
from replenish.outcomes.retailer_plan import Draw, RetailerPlan, draw_stream

MEMORY_DAYS = 28
SAFETY_FACTOR = 1.15
"""Standard deviations the retailer adds; chosen so that a few in a hundred sku-days see an empty shelf."""


@dataclass(frozen=True)
class PlacedOrder:
    """One order line and its true lead time. Days count from the first day of the world."""

    day: int
    location: int
    sku: int
    units: int
    lead_days: int


@dataclass(frozen=True)
class ShelfHistory:
    """What happened on the shelves; arrays of shape (n_days, n_locations, n_skus), all int64.

    Balance: on_hand[t] = on_hand[t-1] + received[t] - sales[t], with `initial` before the first day.
    """

    initial: np.ndarray
    received: np.ndarray
    sales: np.ndarray
    on_hand: np.ndarray
    """At close of day."""
    orders: tuple[PlacedOrder, ...]


def walk_shelves(plan: RetailerPlan, assortment: Assortment, demand: np.ndarray) -> ShelfHistory:
    """Run the retailer's own ordering day by day: goods arrive, orders are placed, customers buy what is there."""
    n_days = len(demand)
    suppliers = [HIDDEN_SUPPLIERS[i] for i in assortment.supplier]
    interval = np.array([s.lead_days_mean + s.review_days for s in suppliers])
    initial = np.ceil(assortment.level * (interval + 3)).astype(np.int64)
    on_hand, on_order = initial.copy(), np.zeros_like(initial)
    received, sales, close = (np.zeros_like(demand) for _ in range(3))
    orders: list[PlacedOrder] = []
    for day in range(n_days):
        on_hand = on_hand + received[day]
        on_order = on_order - received[day]
        lead = draw_lead_days(plan, assortment, day)
        due = np.array(
            [day % s.review_days == i % s.review_days for i, s in zip(assortment.supplier, suppliers, strict=True)]
        )
        target = _target(assortment, sales, close, day, interval)
        units = np.where(due, _round_up(target - on_hand - on_order, assortment), 0)
        for location, sku in zip(*np.nonzero(units), strict=True):
            placed = PlacedOrder(day, int(location), int(sku), int(units[location, sku]), int(lead[location, sku]))
            orders.append(placed)
            if day + placed.lead_days < n_days:
                received[day + placed.lead_days, location, sku] += placed.units
        on_order = on_order + units
        sales[day] = np.minimum(demand[day], on_hand)
        on_hand = on_hand - sales[day]
        close[day] = on_hand
    return ShelfHistory(initial, received, sales, close, tuple(orders))


def draw_lead_days(plan: RetailerPlan, assortment: Assortment, day: int) -> np.ndarray:
    """True lead times [days, >= 1] of orders placed on `day`, shape (n_locations, n_skus).

    One draw per supplier and location: what is ordered together travels together.
    """
    rng = draw_stream(plan.seed, Draw.LEAD_TIMES, day)
    per_supplier = np.empty((assortment.n_locations, len(HIDDEN_SUPPLIERS)), dtype=np.int64)
    for i, supplier in enumerate(HIDDEN_SUPPLIERS):
        mean, sd = supplier.lead_days_mean - 1, supplier.lead_days_sd
        days = 1 + np.rint(rng.gamma((mean / sd) ** 2, sd**2 / mean, assortment.n_locations))
        per_supplier[:, i] = np.minimum(days, supplier.lead_days_max)
    return per_supplier[:, assortment.supplier]


def _target(
    assortment: Assortment,
    sales: np.ndarray,
    close: np.ndarray,
    day: int,
    interval: np.ndarray,
) -> np.ndarray:
    """Order-up-to level from what was sold on days with goods on the shelf, in the last four weeks."""
    if day < MEMORY_DAYS:
        mean = assortment.level
        deviation = np.sqrt(mean * (1 + mean / assortment.dispersion))
    else:
        seen = slice(day - MEMORY_DAYS, day)
        had_stock = (close[seen] + sales[seen]) > 0
        n_stocked = np.maximum(had_stock.sum(axis=0), 1)
        mean = sales[seen].sum(axis=0) / n_stocked
        deviation = np.sqrt(np.maximum((sales[seen] ** 2).sum(axis=0) / n_stocked - mean**2, mean))
    level = mean * interval + SAFETY_FACTOR * deviation * np.sqrt(interval)
    return np.ceil(np.maximum(level, 1)).astype(np.int64)


def _round_up(missing: np.ndarray, assortment: Assortment) -> np.ndarray:
    """Whole packs, at least the minimum order, zero where nothing is missing."""
    pack = assortment.pack_size_units
    units = np.maximum(-(-missing // pack) * pack, assortment.min_order_units)
    return np.where(missing > 0, units, 0)
