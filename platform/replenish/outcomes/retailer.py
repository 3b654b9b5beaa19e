"""The built-in retailer: a seeded world with hidden truth, and the records its systems make of it.

Deterministic: equal plans give equal worlds, to the byte of every file. The platform sees only the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from replenish.outcomes.retailer_assortment import Assortment, build_assortment
from replenish.outcomes.retailer_demand import draw_demand, expected_demand
from replenish.outcomes.retailer_faults import PlantedFaults, break_prices, break_sales, make_absurd, silence_counts
from replenish.outcomes.retailer_plan import RetailerPlan
from replenish.outcomes.retailer_prices import PricePlan, build_price_plan
from replenish.outcomes.retailer_records import RECORDED_DAY, price_records, reference_records, stock_records
from replenish.outcomes.retailer_sales import join_lines, record_lines, ring_up, sale_records
from replenish.outcomes.retailer_stock import ShelfHistory, walk_shelves
from replenish.outcomes.retailer_supply import OrderLines, number_orders, order_records, receipt_records


@dataclass(frozen=True)
class World:
    """One built-in retailer. `records`: text frames by file name stem, each with `recorded_day`; sorted by it."""

    plan: RetailerPlan
    assortment: Assortment
    truth: pl.DataFrame
    """Hidden: (sku_id, location_id, event_date), one row per key and day, with expected_units (the true mean),
    demand_units, sales_units, received_units, on_hand_units (at close), unit_price_cents, is_promotion."""
    lead_times: pl.DataFrame
    """Hidden: one row per order line: po, line, supplier_id, sku_id, location_id, order_date, lead_time_days, units."""
    records: dict[str, pl.DataFrame]
    reference: dict[str, pl.DataFrame]
    faults: PlantedFaults


def build_world(plan: RetailerPlan) -> World:
    """Make the world of a plan: truth first, then what is recorded about it."""
    assortment = build_assortment(plan)
    prices = build_price_plan(plan, assortment)
    expected = expected_demand(plan, assortment, prices)
    demand = draw_demand(plan, assortment, expected)
    shelves = walk_shelves(plan, assortment, demand)
    lines = number_orders(assortment, shelves)
    records, faults = _records(plan, assortment, prices, shelves, lines)
    return World(
        plan=plan,
        assortment=assortment,
        truth=_truth(plan, assortment, prices, expected, demand, shelves),
        lead_times=_lead_times(plan, lines),
        records={name: frame.sort(RECORDED_DAY, "recorded_at", maintain_order=True) for name, frame in records.items()},
        reference=reference_records(assortment),
        faults=faults,
    )


def _records(
    plan: RetailerPlan, assortment: Assortment, prices: PricePlan, shelves: ShelfHistory, lines: OrderLines
) -> tuple[dict[str, pl.DataFrame], PlantedFaults]:
    days, absurd = [], None
    for day in range(plan.n_world_days):
        recorded = record_lines(plan, ring_up(plan, shelves, prices, day), day)
        if plan.with_faults and day == plan.n_days - 1:
            recorded, absurd = make_absurd(plan, recorded)
        days.append(recorded)
    records = {
        "sales": sale_records(plan, assortment, join_lines(days)),
        "prices": price_records(plan, assortment, prices),
        "stock": stock_records(plan, assortment, shelves),
        "orders": order_records(plan, lines),
        "receipts": receipt_records(plan, lines),
    }
    if not plan.with_faults:
        return records, PlantedFaults()
    silent = assortment.location_ids[-1]
    records["stock"] = silence_counts(plan, records["stock"], silent)
    records["sales"], n_text, n_repeated = break_sales(plan, records["sales"])
    records["prices"], n_negative = break_prices(plan, records["prices"])
    return records, PlantedFaults(
        n_text_quantities=n_text,
        n_negative_prices=n_negative,
        n_repeated_rows=n_repeated,
        absurd_sku_id=None if absurd is None else assortment.sku_ids[absurd[1]],
        absurd_location_id=None if absurd is None else assortment.location_ids[absurd[0]],
        silent_location_id=silent,
    )


def _truth(
    plan: RetailerPlan,
    assortment: Assortment,
    prices: PricePlan,
    expected: np.ndarray,
    demand: np.ndarray,
    shelves: ShelfHistory,
) -> pl.DataFrame:
    day, location, sku = (axis.ravel() for axis in np.indices(demand.shape))
    return pl.DataFrame(
        {
            "sku_id": np.array(assortment.sku_ids)[sku],
            "location_id": np.array(assortment.location_ids)[location],
            "event_date": _dates(plan, day),
            "expected_units": expected.ravel(),
            "demand_units": demand.ravel(),
            "sales_units": shelves.sales.ravel(),
            "received_units": shelves.received.ravel(),
            "on_hand_units": shelves.on_hand.ravel(),
            "unit_price_cents": prices.price_cents[day, sku],
            "is_promotion": prices.is_promotion[day, sku],
        }
    )


def _lead_times(plan: RetailerPlan, lines: OrderLines) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "po": lines.po,
            "line": lines.line,
            "supplier_id": lines.supplier,
            "sku_id": lines.article,
            "location_id": lines.store,
            "order_date": _dates(plan, lines.day),
            "lead_time_days": lines.lead_days,
            "units": lines.units,
        }
    )


def _dates(plan: RetailerPlan, day: np.ndarray) -> pl.Series:
    calendar = pl.Series([plan.first_date + timedelta(days=d) for d in range(plan.n_world_days)], dtype=pl.Date)
    return calendar[day]
