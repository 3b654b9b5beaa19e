"""The leakage study tells a leak from what was known."""

from datetime import UTC, datetime, time, timedelta
from random import Random

import polars as pl
import pytest

from replenish.cli.bench_leakage import LeakageCase, leakage_errors
from replenish.cli.leakage_features import late_by_outages, lead_time_sets

FIRST = datetime(2020, 1, 1, tzinfo=UTC)


def _lines(n: int = 400) -> pl.DataFrame:
    """Order lines whose lead times nobody can know before: each is a draw of its own."""
    dice = Random(3)
    rows = []
    for nr in range(n):
        ordered, days = FIRST + timedelta(days=nr), dice.randrange(10, 60)
        received = ordered + timedelta(days=days)
        rows.append((f"P{nr}", 1, f"S{nr % 2}", "L", "A", ordered, received, received + timedelta(days=1), days))
    names = ["po_id", "po_line", "supplier_id", "location_id", "sku_id", "ordered_at", "event_time", "knowledge_time"]
    lines = pl.DataFrame(rows, schema=[*names, "lead_time_days"], orient="row")
    return lines.with_columns(
        event_date=pl.col("event_time").dt.date(), posting_sign=1, posting_kind=pl.lit("version"), version_nr=1
    )


@pytest.mark.parametrize(("joined_by", "is_flattered"), [("ordered_at", True), ("event_time", False)])
def test_only_a_join_that_sees_the_answer_promises_too_much(joined_by: str, is_flattered: bool) -> None:
    lines = _lines()
    spine = lines.select(
        "supplier_id", "location_id", "sku_id", as_of="ordered_at", target="lead_time_days",
        target_event=joined_by, target_known="knowledge_time",
    )  # fmt: skip
    case = LeakageCase(lead_time_sets(), spine, lines, "UTC", time(6), joined_by)
    n, (promised, got, known) = leakage_errors(case, seeds=(1,))
    # The last row of all starts a fold that has no rows before its end.
    assert n == 239
    assert (promised < got / 2) == is_flattered, (promised, got, known)
    assert 8 < known < 20, "a draw from 10 to 59 days is told to within a quarter of its range, and no better"


def test_an_outage_holds_back_whole_days_of_a_store() -> None:
    times = [FIRST + timedelta(hours=hour) for hour in range(24 * 60)]
    sent = pl.DataFrame({"location_id": "S1", "event_date": [at.date() for at in times], "knowledge_time": times})
    late = late_by_outages(sent, 0.2, seed=1)
    waits = late.select("event_date", days=(late["knowledge_time"] - sent["knowledge_time"]).dt.total_days())
    by_day = waits.group_by("event_date").agg(pl.col("days").unique())["days"]
    assert by_day.list.len().to_list() == [1] * 60
    assert 5 <= (by_day.list.first() > 0).sum() <= 20
    assert late_by_outages(sent, 0, seed=1).equals(sent)
