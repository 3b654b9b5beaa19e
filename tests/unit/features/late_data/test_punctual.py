"""Punctual ledgers give the values of a join by event time, and a what-if lake changes nothing below it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time
from pathlib import Path

import polars as pl
import pytest

from replenish.bitemporal import origin_instant
from replenish.errors import BrokenPromise
from replenish.features.late_data.punctual import punctual_increments, punctual_postings, punctual_supply
from replenish.features.late_data.what_if_lake import WhatIfLake
from replenish.stores.lake import DeltaLake
from tests.oracle.compare import batch_of, question_of
from tests.oracle.frames import demand_frame
from tests.oracle.range_join import Question
from tests.unit.features.offline.oracle_question import answered

LONG_AGO = datetime(1990, 1, 1, tzinfo=UTC)
BERLIN, SIX = "Europe/Berlin", time(6)
NOT_OF_DAYS = {"last", "ratio"}


def of_days(question: Question) -> Question:
    """The question's features that read whole days before the origin's."""
    features = tuple(f for f in question.features if f.aggregation not in NOT_OF_DAYS)
    return replace(question, features=features)


@pytest.mark.parametrize("seed", range(7_000, 7_006))
def test_features_of_past_days_are_those_of_a_join_by_event_time(seed: int) -> None:
    question = of_days(question_of(batch_of(seed)))
    punctual = punctual_postings(question.ledger.lazy(), question.zone, question.cutoff).collect()
    timeless = question.ledger.with_columns(knowledge_time=pl.lit(LONG_AGO, pl.Datetime("us", "UTC")))
    known, on_time, by_event_time = (
        answered(replace(question, ledger=ledger)) for ledger in (question.ledger, punctual, timeless)
    )
    assert on_time.equals(by_event_time)
    assert not known.equals(on_time), "nothing of this draw was late"


@pytest.mark.parametrize("seed", range(7_000, 7_003))
def test_increments_are_moved_as_their_postings_are(seed: int) -> None:
    question = question_of(batch_of(seed))
    postings = punctual_postings(question.ledger.lazy(), question.zone, question.cutoff).collect()
    totals = ["units", "revenue_cents", "returned_units", "lines"]
    key = ["sku_id", "location_id", "event_date", "knowledge_date"]
    moved = punctual_increments(demand_frame(question.ledger).lazy()).collect()
    summed = moved.group_by(key).agg(pl.col(totals).sum())
    summed = summed.filter(pl.any_horizontal(pl.col(totals) != 0))
    assert summed.sort(key).equals(demand_frame(postings).select(summed.columns).sort(key))


def test_what_was_known_before_it_was_due_stays() -> None:
    known = datetime(2025, 2, 1, tzinfo=UTC)
    ledger = pl.DataFrame({"event_date": [date(2025, 3, 1)], "knowledge_time": [known]})
    ledger = ledger.with_columns(pl.col("knowledge_time").dt.cast_time_unit("us"), knowledge_date=date(2025, 2, 1))
    assert punctual_postings(ledger.lazy(), BERLIN, SIX).collect().equals(ledger)


def test_an_order_is_due_after_its_day_and_a_receipt_after_its_own() -> None:
    instants = {
        name: datetime(2025, 3, day, 23, 30, tzinfo=UTC) for name, day in (("ordered_at", 3), ("received_at", 5))
    }
    rows = pl.DataFrame(
        {"supply_event": ["ordered", "received"], "knowledge_time": [datetime(2025, 3, 20, tzinfo=UTC)] * 2}
    )
    rows = rows.with_columns(knowledge_date=pl.lit(date(2025, 3, 20)), **{n: pl.lit(t) for n, t in instants.items()})
    # Half past eleven in UTC is the next day in Berlin.
    due = [origin_instant(date(2025, 3, day), BERLIN, SIX) for day in (5, 7)]
    moved = punctual_supply(rows.lazy(), BERLIN, SIX).collect()
    assert moved["knowledge_time"].to_list() == due
    assert moved["knowledge_date"].to_list() == [date(2025, 3, 5), date(2025, 3, 7)]


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    lake = DeltaLake(tmp_path / "lake")
    lake.append("gold/fct_demand", pl.DataFrame({"day": [1, 2], "units": [10, 20]}), partition_by=["day"])
    return lake


def test_a_what_if_lake_shows_changed_tables_and_keeps_what_stages_write(lake: DeltaLake) -> None:
    seen = WhatIfLake(lake, {"gold/fct_demand": lambda rows: rows.with_columns(pl.col("units") + 1)})
    assert seen.read("gold/fct_demand", filters=[("day", "==", 2)]).rows() == [(2, 21)]
    seen.replace_partitions("gold/fct_demand", pl.DataFrame({"day": [2], "units": [5]}), column="day", values=[2])
    seen.replace_partitions("forecasts/demand", pl.DataFrame({"day": [2]}), column="day", values=[2])
    assert sorted(seen.read("gold/fct_demand").rows()) == [(1, 11), (2, 5)]
    assert seen.has("forecasts/demand")
    assert seen.row_count("gold/fct_demand") == 2
    assert sorted(lake.read("gold/fct_demand").rows()) == [(1, 10), (2, 20)]
    assert not lake.has("forecasts/demand")


def test_a_what_if_lake_never_writes(lake: DeltaLake) -> None:
    seen = WhatIfLake(lake, {})
    with pytest.raises(BrokenPromise, match="writes nothing"):
        seen.append("gold/fct_demand", pl.DataFrame({"day": [3], "units": [1]}))
    with pytest.raises(BrokenPromise, match="writes nothing"):
        seen.overwrite("gold/fct_demand", pl.DataFrame({"day": [3], "units": [1]}))
    assert lake.version("gold/fct_demand") == 0
