"""Purchase orders and receipts of the built-in retailer, as its buyers and its ramps record them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from replenish.outcomes.retailer_assortment import HIDDEN_SUPPLIERS, Assortment
from replenish.outcomes.retailer_plan import Draw, RetailerPlan, draw_stream
from replenish.outcomes.retailer_records import RECORDED_DAY, SECONDS_PER_DAY, local_times, recorded_day
from replenish.outcomes.retailer_stock import PlacedOrder, ShelfHistory

ORDERED_AT = 7 * 3600
RECEIVED_AT = 6 * 3600 + 1800
"""Goods arrive before opening, an hour and a half before the first customer."""
LATE_RECEIPT_CHANCE = 0.05
WRONG_RECEIPT_CHANCE = 0.01


@dataclass(frozen=True)
class OrderLines:
    """Placed orders with the numbers the buyers gave them; arrays of one length, in order of placement."""

    po: np.ndarray
    line: np.ndarray
    supplier: np.ndarray
    store: np.ndarray
    article: np.ndarray
    day: np.ndarray
    lead_days: np.ndarray
    units: np.ndarray
    promised_days: np.ndarray


def number_orders(assortment: Assortment, shelves: ShelfHistory) -> OrderLines:
    """One purchase order per supplier, store and day; its lines are numbered by sku."""
    orders = sorted(shelves.orders, key=lambda o: (o.day, o.location, int(assortment.supplier[o.sku]), o.sku))
    suppliers = [HIDDEN_SUPPLIERS[assortment.supplier[o.sku]] for o in orders]
    stores = [assortment.location_ids[o.location] for o in orders]
    po = [f"PO-{store}-{s.supplier_id}-{o.day:04d}" for o, s, store in zip(orders, suppliers, stores, strict=True)]
    lines: list[int] = []
    previous = ""
    for name in po:
        lines.append(lines[-1] + 1 if name == previous else 1)
        previous = name
    return OrderLines(
        po=np.array(po, dtype=str),
        line=np.array(lines, dtype=np.int64),
        supplier=np.array([s.supplier_id for s in suppliers], dtype=str),
        store=np.array(stores, dtype=str),
        article=np.array([assortment.sku_ids[o.sku] for o in orders], dtype=str),
        day=_column(orders, "day"),
        lead_days=_column(orders, "lead_days"),
        units=_column(orders, "units"),
        promised_days=np.array([s.promised_days for s in suppliers], dtype=np.int64),
    )


def order_records(plan: RetailerPlan, lines: OrderLines) -> pl.DataFrame:
    """Order lines, recorded five minutes after the order went out."""
    ordered = lines.day * SECONDS_PER_DAY + ORDERED_AT
    promised = (lines.day + lines.promised_days) * SECONDS_PER_DAY + RECEIVED_AT
    return pl.DataFrame(
        {
            "po": lines.po,
            "line": lines.line.astype(str),
            "supplier": lines.supplier,
            "store": lines.store,
            "article": lines.article,
            "ordered_at": local_times(ordered, plan.first_date),
            "promised_at": local_times(promised, plan.first_date),
            "qty": lines.units.astype(str),
            "recorded_at": local_times(ordered + 300, plan.first_date),
            RECORDED_DAY: recorded_day(ordered + 300),
        }
    )


def receipt_records(plan: RetailerPlan, lines: OrderLines) -> pl.DataFrame:
    """Goods received: some recorded a day or two late, some with a wrong quantity that is corrected two days later."""
    received_day = lines.day + lines.lead_days
    draws = _draws_by_day(plan, lines.day)
    late_days = np.where(draws[:, 0] < LATE_RECEIPT_CHANCE, 1 + (draws[:, 1] < 0.4), 0)
    is_wrong = (draws[:, 2] < WRONG_RECEIPT_CHANCE) & (lines.units > 1)
    received = received_day * SECONDS_PER_DAY + RECEIVED_AT
    first_recorded = received + 1200 + late_days * SECONDS_PER_DAY
    take = np.concatenate([np.arange(len(lines.day)), np.flatnonzero(is_wrong)])
    recorded = np.concatenate([first_recorded, (first_recorded + 2 * SECONDS_PER_DAY)[is_wrong]])
    units = np.concatenate([np.where(is_wrong, lines.units - 1, lines.units), lines.units[is_wrong]])
    ids = np.char.add(np.char.add(np.char.replace(lines.po, "PO-", "GR-"), "-"), lines.line.astype(str))
    return pl.DataFrame(
        {
            "receipt": ids[take],
            "po": lines.po[take],
            "line": lines.line[take].astype(str),
            "store": lines.store[take],
            "article": lines.article[take],
            "received_at": local_times(received[take], plan.first_date),
            "qty": units.astype(str),
            "recorded_at": local_times(recorded, plan.first_date),
            RECORDED_DAY: recorded_day(recorded),
        }
    )


def _column(orders: list[PlacedOrder], name: str) -> np.ndarray:
    return np.array([getattr(order, name) for order in orders], dtype=np.int64)


def _draws_by_day(plan: RetailerPlan, day: np.ndarray) -> np.ndarray:
    """Three uniform draws per order line, from the stream of its day; shape (n_lines, 3)."""
    counts = np.bincount(day, minlength=plan.n_world_days)
    parts = [draw_stream(plan.seed, Draw.SUPPLY_KNOWLEDGE, d).random((int(n), 3)) for d, n in enumerate(counts) if n]
    return np.concatenate(parts) if parts else np.empty((0, 3))
