"""Everything a decision rests on, one row per item and location, read from tables as known at an origin."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import polars as pl

from replenish.bitemporal import live_versions
from replenish.contracts.dataset import Dataset
from replenish.control.policy import ReplenishmentPolicy
from replenish.control.present_streams import has_stream
from replenish.decide.stock_position import (
    COUNT_SCHEMA,
    ITEM,
    SentOrder,
    newest_counts,
    open_orders,
    pending_orders,
    roll_forward,
)
from replenish.errors import NotApplicable
from replenish.stores.lake import DeltaLake

PROTECTION_TABLE = "forecasts/protection_demand"
SUPPLY_SCHEMA: dict[str, pl.DataType] = {
    "po_id": pl.String(),
    "po_line": pl.String(),
    "supply_event": pl.String(),
    "supplier_id": pl.String(),
    "sku_id": pl.String(),
    "location_id": pl.String(),
    "ordered_at": pl.Datetime("us", "UTC"),
    "received_at": pl.Datetime("us", "UTC"),
    "knowledge_date": pl.Date(),
    "ordered_units": pl.Int64(),
    "received_units": pl.Int64(),
}
DEMAND_DAYS = 400
"""Older sales are not looked at: a stock count older than that says nothing about today."""
ASSUMABLE = ("on_hand_units", "unit_cost_cents", "unit_price_cents", "pack_size_units", "min_order_units")
"""Inputs that `dataset.assumptions` may stand in for; `lead_time_days` is used by the forecast of the interval."""


def has_interval_demand(lake: DeltaLake, origin: date) -> bool:
    """Whether demand over the protection interval was forecast for this origin."""
    if not lake.has(PROTECTION_TABLE):
        return False
    return not lake.read(PROTECTION_TABLE, columns=["sku_id"], filters=[("origin_date", "==", origin)]).is_empty()


def read_protection_demand(lake: DeltaLake, origin: date) -> pl.DataFrame:
    """Forecast demand of the protection interval, one row per item: lists `levels` and `quantiles_milli`, and the rest.

    Raises:
        NotApplicable: No such forecast was made for the origin.
    """
    rows = lake.read(PROTECTION_TABLE, filters=[("origin_date", "==", origin)]) if lake.has(PROTECTION_TABLE) else None
    if rows is None or rows.is_empty():
        raise NotApplicable("no forecast of protection-interval demand for this origin", origin=origin)
    first = ("mean_milli", "protection_days_mean", "protection_days_max", "horizon_ok", "model_digest", "mode")
    return (
        rows.sort(*ITEM, "quantile_level")
        .group_by(ITEM, maintain_order=True)
        .agg(
            pl.col("quantile_level").alias("levels"),
            pl.col("units_milli").alias("quantiles_milli"),
            *(pl.col(name).first() for name in first),
        )
    )


def read_products(lake: DeltaLake, as_of: datetime) -> pl.DataFrame:
    """What is known of each item: supplier, pack, minimum, cost, price, category; one row per `sku_id`."""
    schema = {
        "sku_id": pl.String(),
        "category_id": pl.String(),
        "supplier_id": pl.String(),
        "pack_size_units": pl.Int64(),
        "min_order_units": pl.Int64(),
        "unit_cost_cents": pl.Int64(),
        "unit_price_cents": pl.Int64(),
    }
    return _newest(lake, "gold/dim_product", "sku_id", schema, as_of)


def read_suppliers(lake: DeltaLake, as_of: datetime) -> pl.DataFrame:
    """What is known of each supplier: review period and minimum order value; one row per `supplier_id`."""
    schema = {"supplier_id": pl.String(), "review_period_days": pl.Int64(), "min_order_cents": pl.Int64()}
    return _newest(lake, "gold/dim_supplier", "supplier_id", schema, as_of)


def _newest(lake: DeltaLake, table: str, key: str, schema: dict[str, pl.DataType], as_of: datetime) -> pl.DataFrame:
    if not lake.has(table):
        return pl.DataFrame(schema=schema)
    live = live_versions(lake.read(table), key=[key], as_of=as_of)
    return live.select(pl.col(name).cast(dtype) for name, dtype in schema.items())


def usual_demand(fct_demand: pl.DataFrame, origin: date, policy: ReplenishmentPolicy) -> pl.DataFrame:
    """Recent against usual demand per item: `recent_peak_units`, `usual_peak_units`, `usual_units_total`, `usual_days`.

    A day of the usual window that is itself beyond reason does not become the measure of what is usual: the second
    largest day is its peak.
    """
    rule = policy.plausibility
    recent_from = origin - timedelta(days=rule.recent_days)
    usual_from = recent_from - timedelta(days=rule.usual_days)
    known = fct_demand.filter(
        (pl.col("knowledge_date") <= origin) & (pl.col("event_date") >= usual_from) & (pl.col("event_date") < origin)
    )
    days = known.group_by(*ITEM, "event_date").agg(pl.col("units").sum()).sort(*ITEM, "event_date")
    is_recent = pl.col("event_date") >= recent_from
    before = pl.col("units").filter(~is_recent)
    return (
        days.group_by(ITEM, maintain_order=True)
        .agg(
            pl.col("units").filter(is_recent).max().fill_null(0).alias("recent_peak_units"),
            before.sort(descending=True).head(2).min().fill_null(0).alias("usual_peak_units"),
            before.sum().alias("usual_units_total"),
        )
        .with_columns(pl.lit(rule.usual_days).alias("usual_days"))
    )


def read_order_inputs(
    lake: DeltaLake,
    dataset: Dataset,
    policy: ReplenishmentPolicy,
    sent: Sequence[SentOrder],
    *,
    origin: date,
    as_of: datetime,
) -> pl.DataFrame:
    """All inputs of one origin, sorted by item; nulls where an input is not known.

    Returns:
        The columns of `read_protection_demand`, `read_products`, `read_suppliers`, `roll_forward`, `open_orders`,
        `pending_orders` and `usual_demand`, and `assumed`: names of the inputs that were assumed, sorted, with commas.

    Raises:
        NotApplicable: No forecast of protection-interval demand for the origin.
    """
    demand = lake.read(
        "gold/fct_demand",
        columns=[*ITEM, "event_date", "knowledge_date", "units"],
        filters=[("event_date", ">=", origin - timedelta(days=DEMAND_DAYS))],
    )
    supply = _supply(lake)
    counts = pl.DataFrame(schema=COUNT_SCHEMA)
    if lake.has("gold/fct_stock"):
        counts = newest_counts(lake.read("gold/fct_stock"), as_of)
    frame = (
        read_protection_demand(lake, origin)
        .join(read_products(lake, as_of), on="sku_id", how="left")
        .join(read_suppliers(lake, as_of), on="supplier_id", how="left")
        .join(roll_forward(counts, demand, supply, origin), on=ITEM, how="left")
        .join(open_orders(supply, origin, policy.orders.max_open_days), on=ITEM, how="left")
        .join(pending_orders(sent, supply, origin), on=ITEM, how="left")
        .join(usual_demand(demand, origin, policy), on=ITEM, how="left")
    )
    zero = ("backorders_units", "on_order_units", "dead_order_units", "pending_units", "recent_peak_units")
    frame = frame.with_columns(
        pl.col(*zero, "usual_peak_units", "usual_units_total").fill_null(0).cast(pl.Int64),
        pl.col("usual_days").fill_null(policy.plausibility.usual_days),
    )
    return _with_assumptions(frame, dataset, lake).sort(ITEM)


def _supply(lake: DeltaLake) -> pl.DataFrame:
    if not lake.has("gold/fct_supply"):
        return pl.DataFrame(schema=SUPPLY_SCHEMA)
    rows = lake.read("gold/fct_supply", columns=list(SUPPLY_SCHEMA))
    return rows.select(pl.col(name).cast(dtype) for name, dtype in SUPPLY_SCHEMA.items())


def _with_assumptions(frame: pl.DataFrame, dataset: Dataset, lake: DeltaLake) -> pl.DataFrame:
    assumed: list[pl.Expr] = []
    fills: list[pl.Expr] = []
    for name in ASSUMABLE:
        value = dataset.assumptions.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            assumed.append(pl.when(pl.col(name).is_null()).then(pl.lit(name)))
            fills.append(pl.col(name).fill_null(value))
    if "lead_time_days" in dataset.assumptions and not has_stream(dataset, "receipts", lake):
        assumed.append(pl.lit("lead_time_days"))
    names = pl.concat_str(assumed, separator=",", ignore_nulls=True) if assumed else pl.lit("")
    return frame.with_columns(names.alias("assumed")).with_columns(fills)
