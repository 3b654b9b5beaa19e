"""Random histories: everything that is hard occurs, and postings and frames are those that silver and gold hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from replenish.bitemporal import knowledge_date_expr, live_versions
from tests.oracle.compare import TEST_SEEDS, Batch, batch_of, question_of
from tests.oracle.frames import demand_frame, price_frame, stock_frame
from tests.oracle.histories import CLOCK_CHANGES, SHAPES, History, Statement, entities, ledger_of, postings_of
from tests.oracle.known_at import FACT_KINDS, Feature, cutoff_instant, known_values


def said(nr: int, hour: int, units: int | None, *, is_out: bool = False, day: int = 1) -> Statement:
    event_time = datetime(2025, 5, day, 12, tzinfo=UTC)
    known = datetime(2025, 5, 2, hour, tzinfo=UTC)
    return Statement(("f",), ("s", "l"), event_time, event_time.date(), known, nr, is_out, {"units": units})


def told(*statements: Statement) -> list[tuple[str, int, int, int | None, int]]:
    """(kind, version, hour, units, day) of the postings, by knowledge time."""
    rows = sorted(postings_of(statements), key=lambda p: (p["knowledge_time"], p["version_nr"]))
    return [
        (p["posting_kind"], p["version_nr"], p["knowledge_time"].hour, p["values"]["units"], p["event_date"].day)
        for p in rows
    ]


def test_a_correction_takes_exactly_the_version_before_it_back() -> None:
    assert told(said(1, 1, 5), said(2, 3, 7, day=2)) == [
        ("version", 1, 1, 5, 1),
        ("reversal", 1, 3, 5, 1),
        ("version", 2, 3, 7, 2),
    ]


def test_a_fact_is_retracted_and_told_again() -> None:
    assert told(said(1, 1, 5), said(2, 3, 5, is_out=True), said(3, 4, None, is_out=True), said(4, 6, 5)) == [
        ("version", 1, 1, 5, 1),
        ("reversal", 1, 3, 5, 1),
        ("version", 2, 6, 5, 1),
    ]


def test_what_says_the_same_again_brings_nothing() -> None:
    assert told(said(1, 1, None), said(2, 3, None)) == [("version", 1, 1, None, 1)]
    assert told(said(1, 1, 5, is_out=True)) == []


def test_knowledge_decides_and_arrival_breaks_ties() -> None:
    assert told(said(1, 4, 5), said(2, 1, 7)) == [
        ("version", 1, 1, 7, 1),
        ("reversal", 1, 4, 7, 1),
        ("version", 2, 4, 5, 1),
    ]
    assert told(said(2, 4, 7), said(1, 4, 5))[-1] == ("version", 2, 4, 7, 1)


def of_versions(postings: list[dict[str, Any]]) -> Iterator[str]:
    """What is hard about the versions of a history."""
    versions = {(p["fact"], p["version_nr"]): p for p in postings if p["posting_kind"] == "version"}
    ends = {(p["fact"], p["version_nr"]): p["knowledge_time"] for p in postings if p["posting_kind"] == "reversal"}
    yield from (
        "tie of knowledge times" for n in Counter(p["knowledge_time"] for p in versions.values()).values() if n > 1
    )
    yield from (
        "tie of event times" for n in Counter((p["key"], p["event_time"]) for p in versions.values()).values() if n > 1
    )
    for (fact, nr), p in versions.items():
        end, after = ends.get((fact, nr)), versions.get((fact, nr + 1))
        units = p["values"]["units"]
        is_retracted = end is not None and (after is None or after["knowledge_time"] != end)
        marks = {
            "late": p["knowledge_time"] - p["event_time"] > timedelta(days=1),
            "known before it happens": p["knowledge_time"] < p["event_time"],
            "retracted": is_retracted,
            "retracted and told again": is_retracted and after is not None,
            "taken back at once": end == p["knowledge_time"],
            "moved date": after is not None and after["event_date"] != p["event_date"],
            "moved entity": after is not None and after["key"] != p["key"],
            "corrected": after is not None and after["values"] != p["values"],
            "null": units is None,
            "zero": units == 0,
            "negative": units is not None and units < 0,
        }
        yield from (name for name, is_so in marks.items() if is_so)


def _without_facts(history: History) -> int:
    sold = {(s.key, s.event_date) for s in history.statements}
    return sum((c.key, c.event_date) not in sold for c in history.cancellations)


def of_history(batch: Batch, number: int) -> Iterator[str]:
    """What is hard about a history, once per occurrence."""
    history, setting = batch.histories[number], batch.setting
    told_by, postings = history.statements, postings_of(history.statements)
    n_versions = sum(p["posting_sign"] > 0 for p in postings)
    known = {p["knowledge_time"] for p in postings}
    changing = cutoff_instant(setting.centre, setting.zone, setting.cutoff)
    counts = {
        "no statements": not told_by,
        "told more than once": len(told_by) - len({s.fact for s in told_by}),
        "delivered twice": sum(not s.is_retraction for s in told_by) - n_versions,
        "out of order": sum(
            s.fact == after.fact and after.knowledge_time < s.knowledge_time for s, after in pairwise(told_by)
        ),
        "partly cancelled": sum(c.kind == "cancellation" for c in history.cancellations),
        "returned by itself": sum(c.kind == "return" for c in history.cancellations),
        "taken back on a day without facts": _without_facts(history),
        "cancellation taken back": sum(c.taken_back is not None for c in history.cancellations),
        "spine row twice": len(history.spine) - len(set(history.spine)),
        "entity that never occurs": sum(key == entities(number)[3] for key, _ in history.spine),
        "as of a knowledge time": sum(as_of in known for _, as_of in history.spine),
        "as of the cut-off of a clock change": sum(as_of == changing for _, as_of in history.spine),
    }
    yield from (name for name, n in counts.items() for _ in range(n))
    yield from of_versions(postings)


def test_every_difficulty_occurs() -> None:
    batches = [batch_of(seed) for seed in TEST_SEEDS]
    found = Counter(name for batch in batches for nr in range(len(batch.histories)) for name in of_history(batch, nr))
    expected = [
        *("no statements", "told more than once", "delivered twice", "out of order", "spine row twice"),
        *("entity that never occurs", "as of a knowledge time", "as of the cut-off of a clock change"),
        *("tie of knowledge times", "tie of event times", "late", "known before it happens", "retracted"),
        *("retracted and told again", "taken back at once", "moved date", "moved entity", "corrected"),
        *("null", "zero", "negative", "partly cancelled", "returned by itself", "cancellation taken back"),
        "taken back on a day without facts",
    ]
    assert {name: found[name] for name in expected if found[name] < 25} == {}
    assert {batch.setting.shape for batch in batches} == set(SHAPES)
    assert {batch.setting.zone for batch in batches} == {zone for zone, _, _ in CLOCK_CHANGES}
    assert sum(batch.setting.feed_zone != batch.setting.zone for batch in batches) > 5


def test_a_seed_gives_one_batch_for_ever() -> None:
    assert batch_of(3) == batch_of(3)
    assert batch_of(3) != batch_of(4)


@pytest.mark.parametrize("seed", TEST_SEEDS[:12])
def test_ledgers_keep_the_promises_of_silver(seed: int) -> None:
    question = question_of(batch_of(seed))
    ledger = question.ledger
    newest = ledger["knowledge_time"].max()
    assert isinstance(newest, datetime)
    live = live_versions(ledger, key=question.fact_key, as_of=newest)
    assert live.height == ledger.filter(pl.col("posting_kind").is_in(FACT_KINDS))["posting_sign"].sum()
    known = knowledge_date_expr("knowledge_time", question.zone, question.cutoff)
    assert ledger.select(known)["knowledge_time"].equals(ledger["knowledge_date"], check_names=False)


def test_gold_frames_have_the_columns_of_dbts_models() -> None:
    ledger = question_of(batch_of(0)).ledger
    marts = Path(__file__).resolve().parents[2] / "dbt" / "models" / "marts"
    for model, make in (("fct_stock", stock_frame), ("fct_price", price_frame), ("fct_demand", demand_frame)):
        text = (marts / f"{model}.sql").read_text(encoding="utf-8")
        block = text.split("final as (" if "final as (" in text else "summed as (")[1].split("from ")[0]
        names = [
            line.strip().rstrip(",").split(" ")[-1] for line in block.replace("select", "").splitlines() if line.strip()
        ]
        assert make(ledger).columns == names


@pytest.mark.parametrize("seed", TEST_SEEDS[:12])
def test_daily_increments_add_up_to_what_a_cutoff_knows(seed: int) -> None:
    batch = batch_of(seed)
    increments = demand_frame(question_of(batch).ledger)
    setting = batch.setting
    features = [Feature("units", "sum", "units", 7), Feature("lines", "count", None, 7)]
    for history in batch.histories:
        postings = ledger_of(history)
        for key, instant in history.spine:
            origin = instant.date()
            as_of = cutoff_instant(origin, setting.zone, setting.cutoff)
            taken = (*FACT_KINDS, "cancellation")
            known = known_values(features, postings, key, as_of, setting.zone, setting.cutoff, taken)
            sums = increments.filter(
                pl.col("sku_id") == key[0],
                pl.col("location_id") == key[1],
                pl.col("knowledge_date") <= origin,
                pl.col("event_date").is_between(origin - timedelta(days=7), origin - timedelta(days=1)),
            )
            assert (sums["units"].sum(), sums["lines"].sum()) == (known["units"], known["lines"])
