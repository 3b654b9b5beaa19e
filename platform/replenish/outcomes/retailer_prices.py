"""The built-in retailer's prices: list prices that move a few times a year and weekly promotions, planned ahead."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from replenish.outcomes.retailer_assortment import Assortment
from replenish.outcomes.retailer_plan import Draw, RetailerPlan, draw_stream

PROMOTION_CHANCE_PER_WEEK = 0.06
LIST_PRICE_CHANGE_CHANCE_PER_WEEK = 0.02
DAYS_ANNOUNCED_AHEAD = 10
"""A week's prices are recorded ten days before they start: promotions are known when a forecast needs them."""


@dataclass(frozen=True)
class PriceChange:
    """From `day` on (00:00), the sku costs `price_cents` everywhere; recorded on `announced_day`, which lies before."""

    sku: int
    day: int
    price_cents: int
    is_promotion: bool
    announced_day: int


@dataclass(frozen=True)
class PricePlan:
    """Prices per day, arrays of shape (n_days, n_skus), and the changes that lead to them, by day and sku."""

    price_cents: np.ndarray
    is_promotion: np.ndarray
    changes: tuple[PriceChange, ...]


def build_price_plan(plan: RetailerPlan, assortment: Assortment) -> PricePlan:
    """Plan every price of the world, week by week; two promotions of a sku never touch."""
    n_days, n_skus = plan.n_world_days, assortment.n_skus
    price = np.zeros((n_days, n_skus), dtype=np.int64)
    promoted = np.zeros((n_days, n_skus), dtype=bool)
    listed = assortment.list_price_cents.copy()
    previously = np.zeros(n_skus, dtype=bool)
    for week, (start, end) in enumerate(_weeks(plan)):
        rng = draw_stream(plan.seed, Draw.PRICES, week)
        chance, move = rng.random((2, n_skus)), rng.uniform(0.92, 1.10, n_skus)
        cut = rng.choice([0.8, 0.75, 0.7], n_skus)
        moves = (rng.random(n_skus) < LIST_PRICE_CHANGE_CHANCE_PER_WEEK) & (week > 0)
        listed = np.where(moves, _end_in_nine(listed * move), listed)
        now = (chance[0] < PROMOTION_CHANCE_PER_WEEK) & ~previously & (week > 0)
        price[start:end] = np.where(now, _end_in_nine(listed * cut), listed)
        promoted[start:end] = now
        previously = now
    return PricePlan(price, promoted, _changes(price, promoted))


def _weeks(plan: RetailerPlan) -> list[tuple[int, int]]:
    """Half-open day ranges of the weeks, Monday first; the first may be short."""
    first = (7 - plan.first_date.weekday()) % 7 or 7
    bounds = [0, *range(first, plan.n_world_days, 7), plan.n_world_days]
    return [(a, b) for a, b in pairwise(bounds) if a < b]


def _end_in_nine(cents: np.ndarray) -> np.ndarray:
    return np.maximum(np.round(cents / 10).astype(np.int64) * 10 - 1, 9)


def _changes(price: np.ndarray, promoted: np.ndarray) -> tuple[PriceChange, ...]:
    moved = np.ones(price.shape, dtype=bool)
    moved[1:] = (price[1:] != price[:-1]) | (promoted[1:] != promoted[:-1])
    return tuple(
        PriceChange(int(sku), int(day), int(price[day, sku]), bool(promoted[day, sku]), int(day) - DAYS_ANNOUNCED_AHEAD)
        for day, sku in zip(*np.nonzero(moved), strict=True)
    )
