"""Which rows came late, by how much, and through which feed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl

from replenish.features.late_data.arrivals import arrivals, late_rows, lateness_summary

KEY = ("sale_id",)
MONDAY = date(2025, 3, 10)


def posting(sale: str, day: date, known: date, version_nr: int = 1, kind: str = "version") -> dict[str, object]:
    """A posting that the origin `known` is the first to know."""
    at = datetime(known.year, known.month, known.day, 4, tzinfo=UTC)
    row = {"sale_id": sale, "location_id": "S1", "event_date": day, "knowledge_time": at, "knowledge_date": known}
    return {**row, "version_nr": version_nr, "posting_kind": kind}


def after(n_days: int) -> date:
    return MONDAY + timedelta(days=n_days)


LEDGER = pl.DataFrame(
    [
        posting("on time", MONDAY, after(1)),
        posting("three late", MONDAY, after(4)),
        posting("corrected", MONDAY, after(1)),
        posting("corrected", MONDAY, after(3), 1, "reversal"),
        posting("corrected", MONDAY, after(3), 2),
        posting("retracted", MONDAY, after(1)),
        posting("retracted", MONDAY, after(2), 1, "reversal"),
        posting("cancelled", MONDAY, after(6), 1, "cancellation"),
        posting("planned", after(5), after(1)),
    ]
)
BRONZE = LEDGER.filter(pl.col("posting_kind").is_in(["version", "reversal"])).select(
    "sale_id",
    "knowledge_time",
    feed_id=pl.when(pl.col("sale_id") == "three late").then(pl.lit("mail")).otherwise(pl.lit("till")),
)


def test_a_correction_and_its_reversal_are_one_arrival() -> None:
    kinds = arrivals(LEDGER, KEY).group_by("sale_id").agg(pl.col("change_kind").sort())
    assert dict(kinds.iter_rows()) == {
        "on time": ["fact"],
        "three late": ["fact"],
        "corrected": ["correction", "fact"],
        "retracted": ["fact", "retraction"],
        "cancelled": ["cancellation"],
        "planned": ["fact"],
    }


def test_lateness_counts_origins_since_the_one_a_row_was_due_at() -> None:
    rows = late_rows("sales", LEDGER, BRONZE, KEY, after(10), 28)
    counts = rows.filter(pl.col("days_late") > 0).select("feed_id", "change_kind", "days_late", "n_rows").rows()
    assert sorted(counts) == [
        ("mail", "fact", 3, 1),
        ("till", "correction", 2, 1),
        ("till", "retraction", 1, 1),
        ("unknown", "cancellation", 5, 1),
    ]
    assert rows["n_rows"].sum() == 8


def test_a_row_that_shares_its_instant_with_a_feed_came_through_it() -> None:
    cancelled = LEDGER.filter(pl.col("sale_id") == "cancelled")["knowledge_time"][0]
    other = pl.DataFrame({"sale_id": ["x"], "knowledge_time": [cancelled], "feed_id": ["returns"]})
    rows = late_rows("sales", LEDGER, pl.concat([BRONZE, other]), KEY, after(10), 28)
    assert rows.filter(pl.col("change_kind") == "cancellation")["feed_id"].to_list() == ["returns"]


def test_only_rows_known_in_the_days_of_the_report_count() -> None:
    rows = late_rows("sales", LEDGER, BRONZE, KEY, after(3), 2)
    assert sorted(rows.select("change_kind", "days_late", "n_rows").rows()) == [
        ("correction", 2, 1),
        ("retraction", 1, 1),
    ]


def test_the_summary_tells_share_and_percentiles_of_the_late() -> None:
    rows = [("sales", "till", "S1", 0, 90), ("sales", "till", "S1", 1, 5), ("sales", "till", "S1", 4, 4)]
    rows.append(("sales", "till", "S1", 9, 1))
    frame = pl.DataFrame(rows, schema=["stream", "feed_id", "location_id", "days_late", "n_rows"], orient="row")
    (found,) = lateness_summary(frame).iter_rows(named=True)
    assert (found["n_rows"], found["n_late"], found["late_share"]) == (100, 10, 0.1)
    assert (found["days_late_p50"], found["days_late_p90"], found["days_late_max"]) == (1, 4, 9)
