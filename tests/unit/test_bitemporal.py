"""Property tests of the as-of functions against brute force over small random histories."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replenish.bitemporal import (
    as_of_join,
    knowledge_date_expr,
    live_versions,
    origin_instant,
    origin_instant_expr,
    planned_value_at_step,
    state_log,
)
from replenish.errors import BrokenPromise, OutOfRange

BERLIN = "Europe/Berlin"
DAY_0 = datetime(2025, 1, 1, tzinfo=UTC)
UTC_TIME = pl.Datetime("us", "UTC")
ENTITY, FACT = ["sku_id"], ["sku_id", "fact_id"]


def day(n: int) -> datetime:
    return DAY_0 + timedelta(days=n)


@dataclass(frozen=True)
class Step:
    """At `known` (a day number) a fact of an entity becomes (event, value), or is retracted (value None)."""

    sku_id: str
    fact_id: int
    known: int
    event: int
    value: int | None


histories = st.lists(
    st.builds(
        Step,
        sku_id=st.sampled_from("abcd"),
        fact_id=st.integers(0, 2),
        known=st.integers(0, 8),
        event=st.integers(0, 10),
        value=st.one_of(st.none(), st.integers(0, 99)),
    ),
    max_size=40,
)


def applied(steps: list[Step]) -> list[Step]:
    """The steps in knowledge order; a retraction of nothing is dropped. One fact changes at most once a day."""
    done: dict[tuple[str, int, int], Step] = {}
    for step in steps:
        done.setdefault((step.sku_id, step.fact_id, step.known), step)
    kept, live = [], set()
    for step in sorted(done.values(), key=lambda s: (s.sku_id, s.fact_id, s.known)):
        fact = (step.sku_id, step.fact_id)
        if step.value is not None or fact in live:
            kept.append(step)
        (live.add if step.value is not None else live.discard)(fact)
    return kept


def ledger_of(steps: list[Step]) -> pl.DataFrame:
    """The postings that such a history leaves in silver."""
    rows: list[tuple[object, ...]] = []
    live: dict[tuple[str, int], tuple[Step, int]] = {}
    numbers: dict[tuple[str, int], int] = {}
    for step in steps:
        fact = (step.sku_id, step.fact_id)
        if fact in live:
            old, number = live.pop(fact)
            rows.append((*fact, day(old.event), day(step.known), number, "reversal", -1, old.value))
        if step.value is not None:
            numbers[fact] = numbers.get(fact, 0) + 1
            live[fact] = (step, numbers[fact])
            rows.append((*fact, day(step.event), day(step.known), numbers[fact], "version", 1, step.value))
    schema = {
        "sku_id": pl.String,
        "fact_id": pl.Int64,
        "event_time": UTC_TIME,
        "knowledge_time": UTC_TIME,
        "version_nr": pl.Int32,
        "posting_kind": pl.String,
        "posting_sign": pl.Int8,
        "value": pl.Int64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def live_steps(steps: list[Step], sku_id: str, at: int) -> list[Step]:
    """What was known at a day, by going through the history step by step."""
    latest: dict[int, Step] = {}
    for step in steps:
        if step.sku_id == sku_id and step.known <= at:
            latest[step.fact_id] = step
    return [step for step in latest.values() if step.value is not None]


def expected_value(steps: list[Step], sku_id: str, at: int, ahead: int = 0) -> int | None:
    in_force = [s for s in live_steps(steps, sku_id, at) if s.event <= at + ahead]
    best = max(in_force, key=lambda s: (s.event, s.known, s.fact_id), default=None)
    return None if best is None else best.value


SPINE = pl.DataFrame(
    [(sku, day(n), n) for n in range(-1, 13) for sku in "dcba"],
    schema={"sku_id": pl.String, "as_of": UTC_TIME, "n": pl.Int64},
    orient="row",
)


@settings(max_examples=60, deadline=None)
@given(histories)
def test_the_state_log_gives_the_latest_value_known_at_every_instant(raw: list[Step]) -> None:
    steps = applied(raw)
    log = state_log(ledger_of(steps), key=ENTITY, fact_key=FACT, values=["value"])
    assert not log.select("sku_id", "known_from").is_duplicated().any()
    found = as_of_join(SPINE, log, key=ENTITY, as_of="as_of", values=["value"])
    assert found["value"].to_list() == [expected_value(steps, sku, n) for sku, _, n in SPINE.rows()]


@settings(max_examples=30, deadline=None)
@given(histories, st.integers(1, 5))
def test_a_planned_value_is_the_one_in_force_at_the_step_and_known_at_the_origin(raw: list[Step], step: int) -> None:
    steps = applied(raw)
    found = planned_value_at_step(
        SPINE, ledger_of(steps), key=ENTITY, fact_key=FACT, as_of="as_of", values=["value"], step=step
    )
    assert found["value"].to_list() == [expected_value(steps, sku, n, step - 1) for sku, _, n in SPINE.rows()]


@settings(max_examples=30, deadline=None)
@given(histories, st.integers(-1, 9))
def test_live_versions_are_the_facts_known_and_not_taken_back(raw: list[Step], at: int) -> None:
    steps = applied(raw)
    live = live_versions(ledger_of(steps), key=FACT, as_of=day(at))
    expected = sorted((s.sku_id, s.fact_id, s.value) for sku in "abcd" for s in live_steps(steps, sku, at))
    assert live.select(*FACT, "value").rows() == expected


@settings(max_examples=30, deadline=None)
@given(histories, st.integers(0, 9))
def test_what_becomes_known_later_never_changes_an_earlier_view(raw: list[Step], at: int) -> None:
    steps = applied(raw)
    spine = SPINE.filter(pl.col("as_of") <= day(at))
    views = [
        as_of_join(
            spine,
            state_log(ledger_of(known), key=ENTITY, fact_key=FACT, values=["value"]),
            key=ENTITY,
            as_of="as_of",
            values=["value"],
        )
        for known in (steps, [s for s in steps if s.known <= at])
    ]
    assert views[0].equals(views[1])


def test_a_value_older_than_its_time_to_live_is_not_used() -> None:
    steps = [Step("a", 0, known=3, event=1, value=7)]
    log = state_log(ledger_of(steps), key=ENTITY, fact_key=FACT, values=["value"])
    schema = {"sku_id": pl.String, "as_of": UTC_TIME}
    spine = pl.DataFrame([("a", day(n)) for n in (2, 4, 5)], schema=schema, orient="row")
    found = as_of_join(spine, log, key=ENTITY, as_of="as_of", values=["value"], time_to_live=timedelta(days=3))
    assert found["value"].to_list() == [None, 7, None]


def test_a_part_of_the_fact_key_is_refused() -> None:
    steps = [Step("a", 0, known=1, event=1, value=7), Step("a", 1, known=1, event=2, value=8)]
    with pytest.raises(BrokenPromise, match="two live versions"):
        live_versions(ledger_of(steps), key=ENTITY, as_of=day(5))


def test_a_join_that_would_overwrite_a_column_is_refused() -> None:
    log = state_log(ledger_of([]), key=ENTITY, fact_key=FACT, values=["value"])
    with pytest.raises(OutOfRange, match="already has"):
        as_of_join(SPINE.rename({"n": "value"}), log, key=ENTITY, as_of="as_of", values=["value"])


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([datetime(2024, 3, 29, tzinfo=UTC), datetime(2024, 10, 25, tzinfo=UTC)]),
    st.lists(st.integers(0, 4 * 24 * 60), min_size=1),
    st.sampled_from([time(0), time(2), time(2, 30), time(6), time(23, 45)]),
    st.sampled_from([BERLIN, "UTC", "America/New_York", "Asia/Kathmandu"]),
)
def test_the_knowledge_date_is_the_first_origin_that_is_not_before(
    start: datetime, minutes: list[int], cutoff: time, zone: str
) -> None:
    instants = [start + timedelta(minutes=n) for n in minutes]
    frame = pl.DataFrame({"known": instants}, schema={"known": UTC_TIME})
    dates = frame.select(knowledge_date_expr("known", zone, cutoff)).to_series()
    for instant, found in zip(instants, dates, strict=True):
        assert origin_instant(found - timedelta(days=1), zone, cutoff) < instant <= origin_instant(found, zone, cutoff)


@pytest.mark.parametrize("cutoff", [time(2, 30), time(6)])
def test_origin_instants_of_a_column_equal_those_of_single_dates(cutoff: time) -> None:
    dates = [date(2024, 3, 30) + timedelta(days=n) for n in range(215)]
    instants = pl.DataFrame({"origin_date": dates}).select(origin_instant_expr("origin_date", BERLIN, cutoff))
    assert instants.to_series().to_list() == [origin_instant(d, BERLIN, cutoff) for d in dates]
