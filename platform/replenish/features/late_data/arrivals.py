"""Which rows came late, and by how much. A row is due at the first cut-off after its event date.

Lateness is counted in origins: 0 is on time, 1 means that one origin went without the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import polars as pl

LATE_ROWS_TABLE = "monitoring/late_rows"
"""One row per report, stream, source, location, kind of change and days late, with the number of rows."""

DAYS_LATE = "days_late"
CHANGE_KIND = "change_kind"
UNKNOWN_SOURCE = "unknown"
"""Stands for the feed of a posting that no bronze record of its stream explains."""

LATE_ROWS_SCHEMA: dict[str, pl.DataType] = {
    "report_date": pl.Date(),
    "stream": pl.String(),
    "feed_id": pl.String(),
    "location_id": pl.String(),
    CHANGE_KIND: pl.String(),
    DAYS_LATE: pl.Int64(),
    "n_rows": pl.Int64(),
}


def days_late_expr() -> pl.Expr:
    """Origins that passed between the one a row was due at and the first that knew it; 0 where it was on time."""
    due = pl.col("event_date").dt.offset_by("1d")
    return (pl.col("knowledge_date") - due).dt.total_days().clip(lower_bound=0).alias(DAYS_LATE)


def arrivals(ledger: pl.DataFrame, fact_key: Sequence[str]) -> pl.DataFrame:
    """The postings of a silver ledger that stand for something that arrived, each with its `change_kind`.

    `fact` is a first version, `correction` a later one, `retraction` a reversal without a version in its place; other
    kinds keep their name. The reversal that a correction brings along is one arrival with it.

    Args:
        ledger: Rows of a silver table.
        fact_key: Its contract's.
    """
    versions = ledger.filter(pl.col("posting_kind") == "version").select(
        *fact_key, "knowledge_time", (pl.col("version_nr") - 1).alias("version_nr")
    )
    reversals = ledger.filter(pl.col("posting_kind") == "reversal")
    join = {"on": [*fact_key, "version_nr", "knowledge_time"], "how": "anti", "nulls_equal": True}
    retractions = reversals.join(versions, **join)  # type: ignore[arg-type]
    rest = ledger.filter(pl.col("posting_kind") != "reversal")
    is_first = (pl.col("posting_kind") == "version") & (pl.col("version_nr") == 1)
    is_later = (pl.col("posting_kind") == "version") & (pl.col("version_nr") > 1)
    kind = pl.when(is_first).then(pl.lit("fact")).when(is_later).then(pl.lit("correction")).otherwise("posting_kind")
    return pl.concat(
        [rest.with_columns(kind.alias(CHANGE_KIND)), retractions.with_columns(pl.lit("retraction").alias(CHANGE_KIND))]
    )


def with_source(arrived: pl.DataFrame, bronze: pl.DataFrame, fact_key: Sequence[str]) -> pl.DataFrame:
    """The rows with `feed_id`, the feed that delivered them.

    A cancellation has other keys than the sale that it takes back, so its feed is that of the rows known at the same
    instant. Of several feeds with the same record the first by name counts.

    Args:
        arrived: Rows with `fact_key` and `knowledge_time`.
        bronze: Records of the stream: `fact_key`, `knowledge_time`, `feed_id`.
        fact_key: The contract's.
    """
    key = [*fact_key, "knowledge_time"]
    of_fact = bronze.group_by(key).agg(pl.col("feed_id").min())
    of_instant = bronze.group_by("knowledge_time").agg(pl.col("feed_id").min().alias("_of_instant"))
    joined = arrived.join(of_fact, on=key, how="left", nulls_equal=True, maintain_order="left")
    joined = joined.join(of_instant, on="knowledge_time", how="left", maintain_order="left")
    feed = pl.coalesce("feed_id", "_of_instant").fill_null(UNKNOWN_SOURCE)
    return joined.with_columns(feed.alias("feed_id")).drop("_of_instant")


def late_rows(
    stream: str, ledger: pl.DataFrame, bronze: pl.DataFrame, fact_key: Sequence[str], report_date: date, n_days: int
) -> pl.DataFrame:
    """How late the rows of a stream were that became known in the `n_days` origins up to a report's.

    Args:
        stream: Its name.
        ledger: Rows of its silver table, at least those known in these days.
        bronze: Its bronze records, see `with_source`.
        fact_key: Its contract's.
        report_date: Newest origin date that counts.
        n_days: Origin dates that count.

    Returns:
        Rows of `LATE_ROWS_SCHEMA`, sorted; those on time have `days_late` 0.
    """
    is_in_time = pl.col("knowledge_date").is_between(
        report_date - timedelta(days=n_days), report_date, closed="right"
    ) & (pl.col("event_date").is_not_null())
    found = with_source(arrivals(ledger, fact_key).filter(is_in_time), bronze, fact_key)
    place = pl.col("location_id") if "location_id" in found.columns else pl.lit(None, pl.String).alias("location_id")
    keys = ["feed_id", "location_id", CHANGE_KIND, DAYS_LATE]
    counted = found.select("feed_id", place, CHANGE_KIND, days_late_expr()).group_by(keys).agg(n_rows=pl.len())
    labelled = counted.with_columns(report_date=pl.lit(report_date), stream=pl.lit(stream))
    return labelled.select(pl.col(name).cast(dtype) for name, dtype in LATE_ROWS_SCHEMA.items()).sort(
        keys, nulls_last=False
    )


def lateness_summary(rows: pl.DataFrame) -> pl.DataFrame:
    """Per stream, source and location: rows, late ones, their share; median, 90th percentile and most days late.

    Percentiles are over the late rows alone: the least number of days that so many of them are not later than.

    Args:
        rows: Of `LATE_ROWS_SCHEMA`, of one report.
    """
    keys = ["stream", "feed_id", "location_id"]
    late = rows.filter(pl.col(DAYS_LATE) > 0).group_by(*keys, DAYS_LATE).agg(pl.col("n_rows").sum())
    running = late.sort(*keys, DAYS_LATE, nulls_last=False).with_columns(
        share=pl.col("n_rows").cum_sum().over(keys) / pl.col("n_rows").sum().over(keys)
    )
    reached = [
        pl.col(DAYS_LATE).filter(pl.col("share") >= level - 1e-9).min().alias(f"days_late_p{round(level * 100)}")
        for level in (0.5, 0.9)
    ]
    spread = running.group_by(keys).agg(*reached, days_late_max=pl.col(DAYS_LATE).max())
    is_late = pl.col(DAYS_LATE) > 0
    counts = rows.group_by(keys).agg(n_rows=pl.col("n_rows").sum(), n_late=pl.col("n_rows").filter(is_late).sum())
    shares = counts.with_columns(late_share=(pl.col("n_late") / pl.col("n_rows")).round(4))
    return shares.join(spread, on=keys, how="left", nulls_equal=True).sort(keys, nulls_last=False)
