"""What the leakage study forecasts from: past sales of a series, and past lead times of suppliers and articles."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl

from replenish.features.definitions.model import (
    Aggregation,
    FeatureClock,
    FeatureDefinition,
    FeatureSet,
    FeatureSource,
    SourceColumn,
)

SALES = FeatureSource(
    "sales", "silver/sales", "sales", ("location_id", "event_time", "sale_id"),
    (SourceColumn("units", "units", "units"),), ("version", "reversal", "cancellation"),
)  # fmt: skip
LEAD_TIMES = FeatureSource(
    "lead_times", "gold/fct_supply", "receipts", ("po_id", "po_line"),
    (SourceColumn("lead_time_days", "lead_time_days", "days"),),
)  # fmt: skip
DEMAND_LAGS = (*range(1, 15), 21, 28)
WINDOW_AGGREGATIONS: tuple[Aggregation, ...] = ("sum", "std", "count_nonzero")
DEMAND_WINDOWS = (7, 14, 28, 56)
LEAD_TIME_WINDOWS = (90, 365)
LONGEST_OUTAGE_DAYS = 3


def demand_set() -> tuple[FeatureSet, ...]:
    """Lags, sums, spreads and selling days of a series at the cut-off of a day."""
    lags = [
        FeatureDefinition(f"lag_{n}", "lag", "units", "Units of a day.", "sales", "units", lag_days=n)
        for n in DEMAND_LAGS
    ]
    windows = [
        FeatureDefinition(
            f"{name}_{n}", name, "units", "Units of some days.", "sales", "units", window_days=n,
            denominator="calendar" if name == "std" else None,
        )
        for n in DEMAND_WINDOWS for name in WINDOW_AGGREGATIONS
    ]  # fmt: skip
    return (_set("demand", ("sku_id", "location_id"), "daily", SALES, (*lags, *windows)),)


def lead_time_sets() -> tuple[FeatureSet, ...]:
    """Newest, mean and number of past lead times of a supplier, of its lane and of an article, at any instant."""
    features = [FeatureDefinition("newest", "last", "days", "Days.", "lead_times", "lead_time_days")]
    for n in LEAD_TIME_WINDOWS:
        features += [
            FeatureDefinition(f"days_{n}", "sum", "days", "Days.", "lead_times", "lead_time_days", window_days=n),
            FeatureDefinition(f"lines_{n}", "count", "facts", "Lines.", "lead_times", "lead_time_days", window_days=n),
            FeatureDefinition(
                f"mean_{n}", "ratio", "days/facts", "Days a line.",
                numerator=f"days_{n}", denominator_feature=f"lines_{n}",
            ),
        ]  # fmt: skip
    keys = (("supplier_id",), ("supplier_id", "location_id"), ("sku_id",))
    return tuple(_set("_".join(key), key, "instant", LEAD_TIMES, tuple(features)) for key in keys)


def received_lines(supply: pl.DataFrame) -> pl.DataFrame:
    """Received order lines with a lead time as a ledger: delivered at `event_time`, known at `knowledge_time`.

    Args:
        supply: `gold/fct_supply`.
    """
    lines = supply.filter((pl.col("supply_event") == "received") & (pl.col("lead_time_flag") == "ok"))
    return lines.sort("po_id", "po_line", "knowledge_time").with_columns(
        event_time="received_at",
        event_date=pl.col("received_at").dt.convert_time_zone("UTC").dt.date(),
        posting_kind=pl.when(pl.col("posting_sign") > 0).then(pl.lit("version")).otherwise(pl.lit("reversal")),
        version_nr=pl.lit(1, dtype=pl.Int64),
    )


def late_by_outages(postings: pl.DataFrame, share: float, *, seed: int) -> pl.DataFrame:
    """The postings as known if some days of a store were sent one to three days late, as after a broken line.

    Args:
        postings: Sales postings with `location_id`, `event_date` and `knowledge_time`.
        share: Of the days of all stores that are sent late.
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    days = postings.select("location_id", "event_date").unique().sort("location_id", "event_date")
    is_late = rng.random(len(days)) < share
    waits = np.where(is_late, rng.integers(1, LONGEST_OUTAGE_DAYS + 1, len(days)), 0)
    late = days.with_columns(_wait=pl.Series(waits) * timedelta(days=1))
    return (
        postings.join(late, on=["location_id", "event_date"], how="left", maintain_order="left")
        .with_columns(knowledge_time=pl.col("knowledge_time") + pl.col("_wait"))
        .drop("_wait")
    )


def _set(
    name: str,
    entity: tuple[str, ...],
    clock: FeatureClock,
    source: FeatureSource,
    features: tuple[FeatureDefinition, ...],
) -> FeatureSet:
    return FeatureSet(
        name, "1.0.0", "A study of leakage.", "data_science",
        clock, entity, (source,), features,
    )  # fmt: skip
