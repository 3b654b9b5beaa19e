"""Records of the built-in retailer as its systems write them: text columns, and when each was recorded.

Times inside are whole local seconds since the first day 00:00; `local_times` makes them ISO text with the offset.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl

from replenish.outcomes.retailer_assortment import HIDDEN_SUPPLIERS, Assortment
from replenish.outcomes.retailer_plan import (
    CATEGORY_IDS,
    RETAILER_ZONE,
    Draw,
    RetailerPlan,
    draw_stream,
)
from replenish.outcomes.retailer_prices import PricePlan
from replenish.outcomes.retailer_stock import ShelfHistory

SECONDS_PER_DAY = 86_400
RECORDED_DAY = "recorded_day"
"""Column of every record frame: the day (0 = first) in whose file the record is; never written."""

COUNTED_AT = 21 * 3600
"""Shelves are counted after closing, an hour after the last sale."""
RECOUNT_CHANCE = 0.002
"""Share of counts that were first recorded wrong and corrected the next morning."""


def local_times(seconds: np.ndarray, first_date: date) -> pl.Series:
    """ISO times with the offset of the retailer's zone, e.g. 2024-07-01T09:30:00+02:00."""
    midnight = pl.lit(first_date).cast(pl.Datetime("us"))
    since = pl.lit(pl.Series(np.asarray(seconds, dtype=np.int64)))
    moment = midnight + pl.duration(seconds=since)
    return pl.select(t=moment.dt.replace_time_zone(RETAILER_ZONE).dt.strftime("%Y-%m-%dT%H:%M:%S%:z")).to_series()


def recorded_day(seconds: np.ndarray) -> np.ndarray:
    """The day whose file holds a record of these seconds: files span (00:00, 24:00]."""
    return (np.asarray(seconds, dtype=np.int64) - 1) // SECONDS_PER_DAY


def euros(cents: np.ndarray) -> pl.Series:
    """Amounts as text with two decimals."""
    value = pl.Series(np.asarray(cents, dtype=np.int64))
    size = value.abs()
    sign = pl.select(pl.when(value < 0).then(pl.lit("-")).otherwise(pl.lit(""))).to_series()
    return sign + (size // 100).cast(pl.String) + "." + (size % 100).cast(pl.String).str.zfill(2)


def reference_records(assortment: Assortment) -> dict[str, pl.DataFrame]:
    """The files `products`, `locations`, `suppliers`: master data, delivered once."""
    supplier_ids = np.array([s.supplier_id for s in HIDDEN_SUPPLIERS])
    products = pl.DataFrame(
        {
            "article": assortment.sku_ids,
            "name": [f"Article {sku[1:]}" for sku in assortment.sku_ids],
            "category": np.array(CATEGORY_IDS)[assortment.category],
            "supplier": supplier_ids[assortment.supplier],
            "pack": assortment.pack_size_units,
            "min_order": assortment.min_order_units,
            "cost": euros(assortment.unit_cost_cents),
            "price": euros(assortment.list_price_cents),
        }
    )
    n = assortment.n_locations
    locations = pl.DataFrame(
        {
            "store": assortment.location_ids,
            "name": [f"Store {i + 1}" for i in range(n)],
            "region": ["North" if i % 2 == 0 else "South" for i in range(n)],
        }
    )
    suppliers = pl.DataFrame(
        {
            "supplier": supplier_ids,
            "name": [s.name for s in HIDDEN_SUPPLIERS],
            "review_days": [s.review_days for s in HIDDEN_SUPPLIERS],
            "min_order_value": euros(np.array([s.min_order_value_cents for s in HIDDEN_SUPPLIERS])),
        }
    )
    return {"products": products, "locations": locations, "suppliers": suppliers}


def price_records(plan: RetailerPlan, assortment: Assortment, prices: PricePlan) -> pl.DataFrame:
    """One record per price change and store, recorded at 15:00 on the day it was decided."""
    n, locations = assortment.n_locations, np.array(assortment.location_ids)
    sku = np.repeat(np.array([c.sku for c in prices.changes]), n)
    valid_from = np.repeat(np.array([c.day for c in prices.changes]), n) * SECONDS_PER_DAY
    recorded = np.repeat(np.array([c.announced_day for c in prices.changes]), n) * SECONDS_PER_DAY + 15 * 3600
    cents = np.repeat(np.array([c.price_cents for c in prices.changes]), n)
    return pl.DataFrame(
        {
            "store": np.tile(locations, len(prices.changes)),
            "article": np.array(assortment.sku_ids)[sku],
            "valid_from": local_times(valid_from, plan.first_date),
            "price": euros(cents),
            "promo": np.repeat([str(int(c.is_promotion)) for c in prices.changes], n),
            "recorded_at": local_times(recorded, plan.first_date),
            RECORDED_DAY: recorded_day(recorded),
        }
    )


def stock_records(plan: RetailerPlan, assortment: Assortment, shelves: ShelfHistory) -> pl.DataFrame:
    """Counts of every shelf at close of day; a few were wrong at first and corrected the next morning."""
    n_days, n_locations, n_skus = shelves.on_hand.shape
    day, location, sku = (axis.ravel() for axis in np.indices(shelves.on_hand.shape))
    truth = shelves.on_hand.ravel()
    rng = draw_stream(plan.seed, Draw.STOCK_KNOWLEDGE)
    per_day = (n_days, n_locations * n_skus, 2)
    draws = rng.random(per_day).reshape(-1, 2)
    is_wrong = draws[:, 0] < RECOUNT_CHANCE
    first = np.where(is_wrong, truth + 1 + np.floor(draws[:, 1] * 5).astype(np.int64), truth)
    counted = day * SECONDS_PER_DAY + COUNTED_AT
    take = np.concatenate([np.arange(len(day)), np.flatnonzero(is_wrong)])
    recorded = np.concatenate([counted + 600, (counted + 10 * 3600)[is_wrong]])
    return pl.DataFrame(
        {
            "store": np.array(assortment.location_ids)[location[take]],
            "article": np.array(assortment.sku_ids)[sku[take]],
            "counted_at": local_times(counted[take], plan.first_date),
            "on_hand": np.concatenate([first, truth[is_wrong]]).astype(str),
            "recorded_at": local_times(recorded, plan.first_date),
            RECORDED_DAY: recorded_day(recorded),
        }
    )
