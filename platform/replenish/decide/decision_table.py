"""`decisions/replenishment`: one row per decision (a revision of a slot), and how a new run changes the old rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from replenish.control.order_verdict import OrderVerdict
from replenish.decide.order_line import OrderLine, explain_line
from replenish.units import to_milli

DECISION_TABLE = "decisions/replenishment"
DECISION_SCHEMA: dict[str, pl.DataType] = {
    "decision_id": pl.String(),
    "slot_id": pl.String(),
    "revision": pl.Int64(),
    "origin_date": pl.Date(),
    "period_start": pl.Date(),
    "sku_id": pl.String(),
    "location_id": pl.String(),
    "category_id": pl.String(),
    "supplier_id": pl.String(),
    "verdict": pl.String(),
    "status": pl.String(),
    "reasons": pl.String(),
    "explanation": pl.String(),
    "order_units": pl.Int64(),
    "order_cost_cents": pl.Int64(),
    "need_units": pl.Int64(),
    "on_hand_units": pl.Int64(),
    "on_order_units": pl.Int64(),
    "backorders_units": pl.Int64(),
    "inventory_position_units": pl.Int64(),
    "base_stock_level_units": pl.Int64(),
    "base_stock_level_milli": pl.Int64(),
    "objective": pl.String(),
    "target": pl.Float64(),
    "mean_milli": pl.Int64(),
    "quantile_milli": pl.Int64(),
    "protection_days_mean": pl.Float64(),
    "protection_days_max": pl.Int64(),
    "review_period_days": pl.Int64(),
    "lead_time_days_mean": pl.Float64(),
    "lead_time_days_p90": pl.Int64(),
    "pack_size_units": pl.Int64(),
    "min_order_units": pl.Int64(),
    "unit_cost_cents": pl.Int64(),
    "forecast_mode": pl.String(),
    "is_assumed": pl.Boolean(),
    "inputs_digest": pl.String(),
    "model_digest": pl.String(),
    "policy_digest": pl.String(),
}
TABLE_ORDER = ["origin_date", "sku_id", "location_id", "revision"]


@dataclass(frozen=True)
class DecisionIdentity:
    """Ids and digests of one decision."""

    decision_id: str
    slot_id: str
    revision: int
    period_start: date
    inputs_digest: str
    policy_digest: str


def decision_row(
    line: OrderLine, verdict: OrderVerdict, identity: DecisionIdentity, *, origin: date, status: str
) -> dict[str, Any]:
    """The row of one decision. With `no_action` the quantity is zero, whatever was needed."""
    row, quantity, lead_time = line.row, line.quantity, line.lead_time
    explanation = explain_line(line)
    is_void = verdict.verdict == "no_action" or quantity is None
    return {
        "decision_id": identity.decision_id,
        "slot_id": identity.slot_id,
        "revision": identity.revision,
        "origin_date": origin,
        "period_start": identity.period_start,
        **{name: row[name] for name in ("sku_id", "location_id", "category_id", "supplier_id")},
        "verdict": verdict.verdict,
        "status": status,
        "reasons": reasons_json(verdict, explanation),
        "explanation": explanation,
        "order_units": 0 if is_void or quantity is None else quantity.order_units,
        "order_cost_cents": 0 if is_void else line.order_cost_cents,
        "need_units": None if quantity is None else quantity.need_units,
        "on_hand_units": row["on_hand_units"],
        "on_order_units": line.on_order_units,
        "backorders_units": row["backorders_units"],
        "inventory_position_units": line.position_units,
        "base_stock_level_units": -(-to_milli(line.level.units) // 1000),
        "base_stock_level_milli": to_milli(line.level.units),
        "objective": line.level.basis,
        "target": line.level.target,
        "mean_milli": row["mean_milli"],
        "quantile_milli": to_milli(line.level.units),
        "protection_days_mean": row["protection_days_mean"],
        "protection_days_max": row["protection_days_max"],
        "review_period_days": line.review_period_days,
        "lead_time_days_mean": None if lead_time is None else lead_time.mean_days,
        "lead_time_days_p90": None if lead_time is None else lead_time.quantile_days(0.9),
        **{name: row[name] for name in ("pack_size_units", "min_order_units", "unit_cost_cents")},
        "forecast_mode": row["mode"],
        "is_assumed": bool(row["assumed"]),
        "inputs_digest": identity.inputs_digest,
        "model_digest": row["model_digest"],
        "policy_digest": identity.policy_digest,
    }


def reasons_json(verdict: OrderVerdict, explanation: str) -> str:
    """Reasons of the verdict, then the sentence about the quantity: a JSON list of `{code, text, limit}`."""
    reasons = [{"code": r.code, "text": r.detail, "limit": r.limit} for r in verdict.reasons]
    reasons.append({"code": "quantity", "text": explanation, "limit": "auto"})
    return json.dumps(reasons, ensure_ascii=False)


def decision_frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows as a frame in table order."""
    return pl.DataFrame(list(rows), schema=DECISION_SCHEMA, orient="row").sort(TABLE_ORDER)


def merge_decisions(known: pl.DataFrame, made: pl.DataFrame) -> pl.DataFrame:
    """Known rows with a run's decisions put in: a decision known already keeps its row, its slot's older ones give way.

    Args:
        known: Rows of the table, at least all of the slots in `made`.
        made: One row per slot: its decision now.

    Returns:
        All rows, in table order. A row that was `proposed` for a slot that now has another decision is `superseded`,
        unless it belongs to a later origin.
    """
    kept = known.join(made.select("decision_id"), on="decision_id", how="anti")
    current = made.select("slot_id", pl.col("origin_date").alias("_made_at"))
    kept = kept.join(current, on="slot_id", how="left").with_columns(
        pl.when((pl.col("status") == "proposed") & (pl.col("origin_date") <= pl.col("_made_at")))
        .then(pl.lit("superseded"))
        .otherwise("status")
        .alias("status")
    )
    return pl.concat([kept.select(list(DECISION_SCHEMA)), made.select(list(DECISION_SCHEMA))]).sort(TABLE_ORDER)
