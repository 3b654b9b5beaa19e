"""Decisions of items that have a forecast but no protection interval: `no_action`, with the feed that is missing.

Without a lead time nobody can say how much demand an order has to cover. Such an item is decided all the same, so that
every forecast leads to a decision or to the reason why there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import polars as pl

from replenish.contracts.dataset import Dataset
from replenish.control.order_verdict import OrderVerdict, Reason
from replenish.control.present_streams import has_stream
from replenish.decide.decision_table import DECISION_SCHEMA, DecisionIdentity, reasons_json
from replenish.decide.stock_position import ITEM
from replenish.errors import NotApplicable
from replenish.stores.lake import DeltaLake

FORECAST_TABLE = "forecasts/demand"
NEEDED_STREAMS = ("stock_counts", "purchase_orders", "receipts")


def read_forecast_items(lake: DeltaLake, origin: date) -> pl.DataFrame:
    """Items with a demand forecast of this origin: `sku_id, location_id, model_digest, mode`, sorted.

    Raises:
        NotApplicable: No demand forecast was made for the origin either.
    """
    columns = [*ITEM, "model_digest", "mode"]
    if not lake.has(FORECAST_TABLE):
        raise NotApplicable("no forecast for this origin", origin=origin)
    rows = lake.read(FORECAST_TABLE, columns=columns, filters=[("origin_date", "==", origin)])
    if rows.is_empty():
        raise NotApplicable("no forecast for this origin", origin=origin)
    return rows.unique().sort(ITEM)


def missing_inputs(dataset: Dataset, lake: DeltaLake) -> OrderVerdict:
    """`no_action`, with one reason for each stream that nothing delivers."""
    absent = [stream for stream in NEEDED_STREAMS if not has_stream(dataset, stream, lake)]
    details = [f"not_applicable: no {stream} feed" for stream in absent]
    details = details or ["not_applicable: no lead time is known yet"]
    return OrderVerdict("no_action", tuple(Reason("not_applicable", detail, "no_action") for detail in details))


def empty_decision(
    item: Mapping[str, Any], verdict: OrderVerdict, identity: DecisionIdentity, *, origin: date, status: str
) -> dict[str, Any]:
    """The row of an item nothing can be decided for: ids, verdict and reasons; every term is null."""
    row: dict[str, Any] = dict.fromkeys(DECISION_SCHEMA)
    explanation = f"No order: {'; '.join(reason.detail for reason in verdict.reasons)}."
    return row | {
        "decision_id": identity.decision_id,
        "slot_id": identity.slot_id,
        "revision": identity.revision,
        "origin_date": origin,
        "period_start": identity.period_start,
        "sku_id": item["sku_id"],
        "location_id": item["location_id"],
        "verdict": verdict.verdict,
        "status": status,
        "reasons": reasons_json(verdict, explanation),
        "explanation": explanation,
        "order_units": 0,
        "order_cost_cents": 0,
        "forecast_mode": item["mode"],
        "is_assumed": False,
        "inputs_digest": identity.inputs_digest,
        "model_digest": item["model_digest"],
        "policy_digest": identity.policy_digest,
    }
