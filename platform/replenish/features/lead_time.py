"""Lead times as known at an origin: whole distributions, kept as counts of receipts by days."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import polars as pl

from replenish.contracts.dataset import Dataset
from replenish.control.present_streams import has_stream
from replenish.errors import NotApplicable
from replenish.stores.lake import DeltaLake, TableCommit, accept_all

LEAD_TIME_TABLE = "features/lead_time"
SUPPLY_TABLE = "gold/fct_supply"

MIN_LINES_PER_LOCATION = 8
"""Fewer receipts than this say too little about one location; the supplier's distribution stands in."""

_SCHEMA = {
    "origin_date": pl.Date(),
    "supplier_id": pl.String(),
    "sku_id": pl.String(),
    "location_id": pl.String(),
    "lead_time_days": pl.Int64(),
    "n_lines": pl.Int64(),
}


@dataclass(frozen=True)
class LeadTimeUpdate:
    """What `update_lead_times` wrote, and how many known lines it used or kept out, by reason."""

    commit: TableCommit
    n_ok: int
    n_negative: int
    """Received before ordered: kept out."""
    n_no_order: int
    """Received with no order known: kept out."""
    n_no_supplier: int
    """No supplier named: kept out."""


def lead_time_distribution(supply: pl.DataFrame, origin: date) -> pl.DataFrame:
    """Counts of receipts by lead time, as known at an origin.

    Args:
        supply: `fct_supply`.
        origin: Only rows with `knowledge_date` up to here are used.

    Returns:
        (origin_date, supplier_id, location_id, lead_time_days), sorted, with `n_lines`; `location_id` null is the whole
        supplier, a location has rows of its own from `MIN_LINES_PER_LOCATION` receipts on. `sku_id` is always null.
    """
    usable = _received(supply, origin).filter(
        (pl.col("lead_time_flag") == "ok") & pl.col("supplier_id").is_not_null() & (pl.col("lead_time_days") >= 0)
    )
    counted = (
        usable.group_by("supplier_id", "location_id", "lead_time_days")
        .agg(n_lines=pl.col("posting_sign").cast(pl.Int64).sum())
        .filter(pl.col("n_lines") > 0)
    )
    by_supplier = (
        counted.group_by("supplier_id", "lead_time_days")
        .agg(pl.col("n_lines").sum())
        .with_columns(location_id=pl.lit(None, dtype=pl.String))
    )
    is_enough = pl.col("n_lines").sum().over("supplier_id", "location_id") >= MIN_LINES_PER_LOCATION
    by_location = counted.filter(pl.col("location_id").is_not_null() & is_enough)
    together = pl.concat([by_supplier, by_location.select(by_supplier.columns)]).with_columns(
        origin_date=pl.lit(origin), sku_id=pl.lit(None, dtype=pl.String)
    )
    return together.select(pl.col(name).cast(dtype) for name, dtype in _SCHEMA.items()).sort(
        "supplier_id", "location_id", "lead_time_days", nulls_last=False
    )


def update_lead_times(
    lake: DeltaLake, dataset: Dataset, origin: date, audit: Callable[[pl.DataFrame], None] = accept_all
) -> LeadTimeUpdate:
    """Write the lead-time distributions of one origin into `features/lead_time`, replacing those of an earlier run.

    Raises:
        NotApplicable: Nothing delivers receipts, or purchase orders.
        AuditFailed: From `audit`; nothing is written.
    """
    for stream in ("receipts", "purchase_orders"):
        if not has_stream(dataset, stream, lake):
            raise NotApplicable(f"not_applicable: no {stream} feed", dataset=dataset.dataset_id)
    supply = lake.read(SUPPLY_TABLE)
    frame = lead_time_distribution(supply, origin)
    audit(frame)
    commit = lake.replace_partitions(LEAD_TIME_TABLE, frame, column="origin_date", values=[origin])
    received = _received(supply, origin)
    has_supplier = pl.col("supplier_id").is_not_null()
    counts = received.select(
        n_ok=_lines((pl.col("lead_time_flag") == "ok") & has_supplier),
        n_negative=_lines(pl.col("lead_time_flag") == "negative"),
        n_no_order=_lines(pl.col("lead_time_flag") == "no_order"),
        n_no_supplier=_lines((pl.col("lead_time_flag") == "ok") & ~has_supplier),
    ).row(0, named=True)
    return LeadTimeUpdate(commit, **counts)


def _received(supply: pl.DataFrame, origin: date) -> pl.DataFrame:
    return supply.filter((pl.col("supply_event") == "received") & (pl.col("knowledge_date") <= origin))


def _lines(which: pl.Expr) -> pl.Expr:
    """Number of lines as known: versions less their reversals."""
    return pl.col("posting_sign").cast(pl.Int64).filter(which).sum()
