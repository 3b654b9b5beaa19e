"""Sale lines of the built-in retailer: receipts, and what its tills record late, wrong, or by mistake."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import polars as pl

from replenish.outcomes.retailer_assortment import Assortment
from replenish.outcomes.retailer_plan import Draw, RetailerPlan, draw_stream
from replenish.outcomes.retailer_prices import PricePlan
from replenish.outcomes.retailer_records import RECORDED_DAY, SECONDS_PER_DAY, euros, local_times, recorded_day
from replenish.outcomes.retailer_stock import ShelfHistory

OPENING, CLOSING = 8 * 3600, 20 * 3600
NEW_LINE_CHANCE = 0.6
"""Chance that the next unit of a sku goes to another line: lines of 1.7 units on average."""
NEW_BASKET_CHANCE = 0.45
KNOWN_CUSTOMER_CHANCE = 0.4


@dataclass(frozen=True)
class SaleLines:
    """True sale lines, arrays of one length; `sold` and `recorded` in local seconds since the first day.

    A version has another `units` or `recorded` under the same `receipt` and `line`; `is_retraction` takes it back.
    """

    location: np.ndarray
    sku: np.ndarray
    units: np.ndarray
    price_cents: np.ndarray
    receipt: np.ndarray
    line: np.ndarray
    customer: np.ndarray
    sold: np.ndarray
    recorded: np.ndarray
    is_retraction: np.ndarray

    def take(self, rows: np.ndarray) -> SaleLines:
        """These rows, in this order."""
        return SaleLines(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def join_lines(parts: list[SaleLines]) -> SaleLines:
    """All lines of the parts, one after the other."""
    return SaleLines(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(SaleLines)})


def ring_up(plan: RetailerPlan, shelves: ShelfHistory, prices: PricePlan, day: int) -> SaleLines:
    """The true lines of one day: units of a shelf split into lines, lines gathered into receipts in opening hours."""
    rng = draw_stream(plan.seed, Draw.BASKETS, day)
    sales = shelves.sales[day]
    cell = np.repeat(np.arange(sales.size), sales.ravel())
    starts = rng.random(len(cell)) < NEW_LINE_CHANCE
    starts[np.flatnonzero(np.diff(cell, prepend=-1))] = True
    first = np.flatnonzero(starts)
    units = np.diff(first, append=len(cell))
    location, sku = np.divmod(cell[first], sales.shape[1])
    order = np.lexsort((rng.random(len(first)), location))
    location, sku, units = location[order], sku[order], units[order]
    opens = rng.random(len(first)) < NEW_BASKET_CHANCE
    opens[np.flatnonzero(np.diff(location, prepend=-1))] = True
    basket = np.cumsum(opens) - 1
    head = np.flatnonzero(opens)
    times = OPENING + np.floor(rng.beta(2.0, 1.6, len(head)) * (CLOSING - OPENING)).astype(np.int64)
    sold = times[np.lexsort((times, location[head]))]
    number = np.arange(len(head)) - np.searchsorted(location[head], location[head])
    customer = np.where(rng.random(len(head)) < KNOWN_CUSTOMER_CHANCE, 1 + rng.integers(0, 5_000, len(head)), 0)
    return SaleLines(
        location=location,
        sku=sku,
        units=units.astype(np.int64),
        price_cents=prices.price_cents[day, sku],
        receipt=(day * 100_000 + number)[basket],
        line=np.arange(len(first)) - head[basket] + 1,
        customer=customer[basket],
        sold=day * SECONDS_PER_DAY + sold[basket],
        recorded=np.zeros(len(first), dtype=np.int64),
        is_retraction=np.zeros(len(first), dtype=bool),
    )


def record_lines(plan: RetailerPlan, true: SaleLines, day: int) -> SaleLines:
    """What the tills write about one day: every version of every line, with the second it was recorded.

    A wrong first version is followed by the true one; a line rung up by mistake is followed by its retraction. So what
    is known in the end is exactly what was sold.
    """
    rng = draw_stream(plan.seed, Draw.SALES_KNOWLEDGE, day)
    n = len(true.units)
    chance = rng.random((3, n))
    lag = rng.integers(30, 1_200, n)
    later = (1 + rng.integers(0, 5, n)) * SECONDS_PER_DAY + rng.integers(-7_200, 7_200, n)
    recorded = np.where(chance[0] < plan.shares.late, _morning(true.sold) + later, true.sold + lag)
    mended = _morning(recorded) + (1 + rng.integers(0, 8, n)) * SECONDS_PER_DAY + rng.integers(-7_200, 7_200, n)
    is_wrong, is_mistake = chance[1] < plan.shares.corrected, chance[2] < plan.shares.retracted
    excess = np.where(is_wrong, 1 + rng.integers(0, 3, n), 0)
    first = replace(true, units=true.units + excess, recorded=recorded)
    correction = replace(true, recorded=mended).take(np.flatnonzero(is_wrong))
    phantom = replace(true, receipt=true.receipt + 50_000, recorded=recorded).take(np.flatnonzero(is_mistake))
    withdrawn = replace(
        true, receipt=true.receipt + 50_000, recorded=mended, is_retraction=np.ones(n, dtype=bool)
    ).take(np.flatnonzero(is_mistake))
    return join_lines([first, correction, phantom, withdrawn])


def _morning(seconds: np.ndarray) -> np.ndarray:
    """11:00 of the same day: late records and corrections are made around then."""
    return seconds // SECONDS_PER_DAY * SECONDS_PER_DAY + 11 * 3600


def sale_records(plan: RetailerPlan, assortment: Assortment, lines: SaleLines) -> pl.DataFrame:
    """The lines as text columns, one row per record."""
    store = np.array(assortment.location_ids)[lines.location]
    customer = pl.Series(lines.customer)
    return pl.DataFrame(
        {
            "store": store,
            "receipt": pl.Series(store) + "-" + pl.Series(lines.receipt).cast(pl.String).str.zfill(8),
            "line": lines.line.astype(str),
            "sold_at": local_times(lines.sold, plan.first_date),
            "article": np.array(assortment.sku_ids)[lines.sku],
            "qty": lines.units.astype(str),
            "amount": euros(lines.units * lines.price_cents),
            "customer": pl.select(
                pl.when(customer > 0).then(pl.lit("K") + customer.cast(pl.String).str.zfill(4))
            ).to_series(),
            "op": np.where(lines.is_retraction, "D", "I"),
            "recorded_at": local_times(lines.recorded, plan.first_date),
            RECORDED_DAY: recorded_day(lines.recorded),
        }
    )
