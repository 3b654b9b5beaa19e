"""Tables as they would be, had every row become known when it was due: at the first cut-off after its event date.

On them every feature of past days has the value that a join by event time gives, which ignores when rows became known.
What was known before it was due, a price list say, stays as it was. Of day t itself, the hours between midnight and the
cut-off, a join by event time would see more: rows of that day are due only at the next cut-off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, time

import polars as pl

from replenish.bitemporal import knowledge_date_expr, origin_instant_expr

TableChange = Callable[[pl.LazyFrame], pl.LazyFrame]
"""What is done to the rows of a table before anyone reads them."""


def known_by(report_date: date) -> TableChange:
    """Only rows that the origin of a report knows, so that a report says the same whenever it is made."""
    return lambda rows: rows.filter(pl.col("knowledge_date") <= report_date)


def punctual_postings(rows: pl.LazyFrame, zone: str, cutoff: time, event_date: pl.Expr | None = None) -> pl.LazyFrame:
    """A ledger with `knowledge_time` and `knowledge_date` moved back to when each posting was due, never forward.

    A correction and the reversal it brings are due together, with the fact, so the version that it replaced was never
    known.

    Args:
        rows: Columns `knowledge_time`, `knowledge_date` and, without `event_date`, that one.
        zone: IANA zone of the deployment.
        cutoff: Cut-off of an origin, in `zone`.
        event_date: Where the table has no such column; rows where it is null stay as they are.
    """
    day = pl.col("event_date") if event_date is None else event_date
    due = origin_instant_expr(day.dt.offset_by("1d"), zone, cutoff)
    moved = rows.with_columns(pl.min_horizontal("knowledge_time", due).alias("knowledge_time"))
    return moved.with_columns(knowledge_date_expr("knowledge_time", zone, cutoff).alias("knowledge_date"))


def punctual_increments(rows: pl.LazyFrame) -> pl.LazyFrame:
    """`punctual_postings` of a table of increments, which has dates alone."""
    due = pl.col("event_date").dt.offset_by("1d")
    return rows.with_columns(pl.min_horizontal("knowledge_date", due).alias("knowledge_date"))


def punctual_supply(rows: pl.LazyFrame, zone: str, cutoff: time) -> pl.LazyFrame:
    """`punctual_postings` of `gold/fct_supply`: an order is of the day it was placed, a receipt of the day it came."""
    at = pl.when(pl.col("supply_event") == "received").then("received_at").otherwise("ordered_at")
    return punctual_postings(rows, zone, cutoff, at.dt.convert_time_zone(zone).dt.date())


def punctual_changes(report_date: date, streams: tuple[str, ...], zone: str, cutoff: time) -> Mapping[str, TableChange]:
    """What makes gold and silver punctual, by table.

    Args:
        report_date: See `known_by`.
        streams: Streams that have event dates; reference data has none and is never late.
        zone: IANA zone of the deployment.
        cutoff: Cut-off of an origin, in `zone`.
    """
    cut = known_by(report_date)

    def postings(rows: pl.LazyFrame) -> pl.LazyFrame:
        return punctual_postings(cut(rows), zone, cutoff)

    return {
        "gold/fct_demand": lambda rows: punctual_increments(cut(rows)),
        "gold/fct_stock": postings,
        "gold/fct_price": postings,
        "gold/fct_supply": lambda rows: punctual_supply(cut(rows), zone, cutoff),
        **{f"silver/{stream}": postings for stream in streams},
    }


def recorded_changes(report_date: date, streams: tuple[str, ...]) -> Mapping[str, TableChange]:
    """The same tables as they are, cut at the report's origin."""
    cut = known_by(report_date)
    gold = ("fct_demand", "fct_stock", "fct_price", "fct_supply")
    return {**{f"gold/{name}": cut for name in gold}, **{f"silver/{stream}": cut for stream in streams}}
