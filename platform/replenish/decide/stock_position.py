"""Stock and open orders per item and location, as known at an origin: the terms of the inventory position."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl

from replenish.bitemporal import live_versions
from replenish.contracts.model import TIMESTAMP

ITEM = ["sku_id", "location_id"]
PO_LINE = ["po_id", "po_line"]
COUNT_SCHEMA: dict[str, pl.DataType] = {
    "sku_id": pl.String(),
    "location_id": pl.String(),
    "counted_units": pl.Int64(),
    "counted_at": TIMESTAMP,
    "counted_date": pl.Date(),
}
PENDING_SCHEMA: dict[str, pl.DataType] = {
    "sku_id": pl.String(),
    "location_id": pl.String(),
    "pending_units": pl.Int64(),
    "oldest_pending_date": pl.Date(),
}


@dataclass(frozen=True)
class SentOrder:
    """An order executed here: item, units and the origin date it was sent at."""

    sku_id: str
    location_id: str
    origin_date: date
    order_units: int


def newest_counts(fct_stock: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """The newest stock count of each item known at `as_of`: columns of `COUNT_SCHEMA`, one row per item."""
    live = live_versions(fct_stock, key=[*ITEM, "event_time"], as_of=as_of)
    past = live.filter(pl.col("event_time") <= as_of).sort(*ITEM, "event_time")
    newest = past.unique(subset=ITEM, keep="last", maintain_order=True)
    return newest.select(
        *ITEM,
        pl.col("on_hand_units").cast(pl.Int64).alias("counted_units"),
        pl.col("event_time").alias("counted_at"),
        pl.col("event_date").alias("counted_date"),
    )


def roll_forward(
    counts: pl.DataFrame, fct_demand: pl.DataFrame, fct_supply: pl.DataFrame, origin: date
) -> pl.DataFrame:
    """Counts brought up to the origin: less what was sold, plus what arrived since, as known at the origin.

    Without this a receipt after the count would leave `on_order` and never reach `on_hand`, and be ordered again.

    Args:
        counts: From `newest_counts`.
        fct_demand: `(sku_id, location_id, event_date, knowledge_date, units)`.
        fct_supply: As gold has it.
        origin: Only rows with `knowledge_date` up to it count.

    Returns:
        `counts` with `sold_since_units`, `received_since_units`, `on_hand_units` (>= 0) and `backorders_units` (>= 0).
    """
    known = fct_demand.filter(pl.col("knowledge_date") <= origin)
    since = known.join(counts.select(*ITEM, "counted_date"), on=ITEM).filter(
        pl.col("event_date") > pl.col("counted_date")
    )
    sold = since.group_by(ITEM).agg(pl.col("units").sum().alias("sold_since_units"))
    received = fct_supply.filter((pl.col("knowledge_date") <= origin) & (pl.col("supply_event") == "received"))
    received = received.join(counts.select(*ITEM, "counted_at"), on=ITEM)
    arrived = received.filter(pl.col("received_at") > pl.col("counted_at"))
    arrived = arrived.group_by(ITEM).agg(pl.col("received_units").sum().alias("received_since_units"))
    joined = counts.join(sold, on=ITEM, how="left").join(arrived, on=ITEM, how="left")
    joined = joined.with_columns(pl.col("sold_since_units", "received_since_units").fill_null(0).cast(pl.Int64))
    # A negative count is demand already promised; sales beyond the count are a count that was wrong, not a promise.
    rolled = pl.max_horizontal("counted_units", 0) - pl.col("sold_since_units") + pl.col("received_since_units")
    return joined.with_columns(
        pl.max_horizontal(rolled, 0).alias("on_hand_units"),
        pl.max_horizontal(-pl.col("counted_units"), 0).alias("backorders_units"),
    ).sort(ITEM)


def open_orders(fct_supply: pl.DataFrame, origin: date, max_open_days: int) -> pl.DataFrame:
    """Units on order per item and location: ordered less received per line, as known at the origin.

    Args:
        fct_supply: As gold has it.
        origin: Only rows with `knowledge_date` up to it count.
        max_open_days: A line ordered longer ago is taken for dead.

    Returns:
        `sku_id`, `location_id`, `on_order_units` (> 0), `dead_order_units`; sorted by item.
    """
    known = fct_supply.filter(pl.col("knowledge_date") <= origin)
    received = known.filter(pl.col("supply_event") == "received").group_by(PO_LINE)
    lines = (
        _live_order_lines(known)
        .join(received.agg(pl.col("received_units").sum()), on=PO_LINE, how="left")
        .with_columns((pl.col("ordered_units") - pl.col("received_units").fill_null(0)).alias("open_units"))
    )
    still_open = lines.filter(pl.col("open_units") > 0)
    is_dead = pl.col("ordered_at").dt.date() < pl.lit(origin - timedelta(days=max_open_days))
    return (
        still_open.group_by(ITEM)
        .agg(
            pl.col("open_units").filter(~is_dead).sum().cast(pl.Int64).alias("on_order_units"),
            pl.col("open_units").filter(is_dead).sum().cast(pl.Int64).alias("dead_order_units"),
        )
        .sort(ITEM)
    )


def _live_order_lines(known: pl.DataFrame) -> pl.DataFrame:
    """Purchase order lines as they stand now: `po_id, po_line, sku_id, location_id, ordered_at, ordered_units`.

    Postings of a version and of its reversal cancel each other, so what a correction replaced, and what was retracted,
    is left out.
    """
    ordered = known.filter((pl.col("supply_event") == "ordered") & pl.col("po_id").is_not_null())
    live = ordered.group_by(*PO_LINE, *ITEM, "ordered_at").agg(pl.col("ordered_units").sum())
    return live.filter((pl.col("ordered_units") > 0) & pl.col("sku_id").is_not_null())


def pending_orders(sent: Iterable[SentOrder], fct_supply: pl.DataFrame, origin: date) -> pl.DataFrame:
    """Units sent from here before the origin and not yet seen as a purchase order.

    A purchase order line of the same item, ordered on or after the day an order was sent, confirms the oldest order
    still waiting; one line confirms one order.

    Returns:
        Columns of `PENDING_SCHEMA`, sorted by item.
    """
    lines = _live_order_lines(fct_supply.filter(pl.col("knowledge_date") <= origin))
    lines = lines.with_columns(pl.col("ordered_at").dt.date())
    confirmations: dict[tuple[str, str], list[date]] = {}
    for sku, location, day in lines.select(*ITEM, "ordered_at").sort(*ITEM, "ordered_at").iter_rows():
        confirmations.setdefault((sku, location), []).append(day)
    waiting: dict[tuple[str, str], list[SentOrder]] = {}
    for order in sorted(sent, key=lambda o: (o.origin_date, o.sku_id, o.location_id, o.order_units)):
        if order.origin_date >= origin:
            continue
        days = confirmations.get((order.sku_id, order.location_id), [])
        match = next((day for day in days if day >= order.origin_date), None)
        if match is not None:
            days.remove(match)
        else:
            waiting.setdefault((order.sku_id, order.location_id), []).append(order)
    rows = [
        (*item, sum(order.order_units for order in orders), orders[0].origin_date)
        for item, orders in sorted(waiting.items())
    ]
    return pl.DataFrame(rows, schema=PENDING_SCHEMA, orient="row")
