"""Evaluators over increments against the oracle, which reads the postings that these were summed from."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, time
from functools import lru_cache

import pytest
from hypothesis import given, settings

from tests.oracle.compare import (
    HISTORIES_PER_BATCH,
    TEST_SEEDS,
    Batch,
    batch_of,
    compare,
    first_mismatch,
    judged,
    question_of,
)
from tests.oracle.frames import ENTITY, demand_frame
from tests.oracle.histories import History, Seeded, Setting, cases, draw_features, draw_history
from tests.oracle.increments import (
    INCREMENT_EVALUATORS,
    IncrementJoin,
    asked_of_increments,
    increment_mutants,
    increments_of,
)
from tests.oracle.known_at import AGGREGATIONS, DENOMINATORS, Feature


@lru_cache(maxsize=len(TEST_SEEDS))
def asked(seed: int) -> Batch:
    return asked_of_increments(batch_of(seed))


@pytest.mark.parametrize("name", INCREMENT_EVALUATORS)
def test_increments_give_what_their_postings_give(name: str) -> None:
    done = compare(INCREMENT_EVALUATORS[name], [asked(seed) for seed in TEST_SEEDS])
    assert done.mismatch is None, f"{done.n_wrong} of {done.n_values} values differ\n{done.mismatch}"
    assert done.n_histories == HISTORIES_PER_BATCH * len(TEST_SEEDS)


@pytest.mark.parametrize("name", INCREMENT_EVALUATORS)
@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_increments_give_what_postings_give_in_histories_that_shrink(
    name: str, case: tuple[Setting, tuple[Feature, ...], History]
) -> None:
    setting, features, history = case
    for seed in (0, 1):
        found = first_mismatch(
            INCREMENT_EVALUATORS[name], asked_of_increments(judged(seed, setting, features, [history]))
        )
        assert found is None, str(found)


@pytest.mark.parametrize("name", INCREMENT_EVALUATORS)
@pytest.mark.parametrize("cutoff", [time(0), time(6), time(23)])
def test_increments_survive_a_date_that_never_was(name: str, cutoff: time) -> None:
    chooser = Seeded(1)
    setting = Setting("Pacific/Apia", "Pacific/Apia", cutoff, date(2011, 12, 30), "named", 10)
    histories = [draw_history(chooser, setting, number) for number in range(40)]
    features = draw_features(chooser)
    for seed in (0, 1):
        found = first_mismatch(
            INCREMENT_EVALUATORS[name], asked_of_increments(judged(seed, setting, features, histories))
        )
        assert found is None, str(found)


def test_the_draw_asks_for_all_that_increments_can_answer() -> None:
    features = [feature for seed in TEST_SEEDS for feature in asked(seed).features]
    assert {f.aggregation for f in features} == {*AGGREGATIONS} - {"last"}
    for kind in ("mean", "std"):
        assert {f.denominator for f in features if f.aggregation == kind} == set(DENOMINATORS)
    assert {f.denominator for f in features if f.aggregation == "lag"} == {"calendar", "observed"}
    values = [
        row[f.name] for seed in TEST_SEEDS for f in asked(seed).features for h in asked(seed).expected for row in h
    ]
    assert len(values) > 100_000
    assert sum(value not in (None, 0) for value in values) > len(values) / 8


@pytest.mark.parametrize("name", INCREMENT_EVALUATORS)
def test_an_evaluator_bears_empty_increments_and_an_empty_spine(name: str) -> None:
    batch = asked(0)
    silent = [replace(history, statements=(), cancellations=()) for history in batch.histories]
    assert first_mismatch(INCREMENT_EVALUATORS[name], judged(0, batch.setting, batch.features, silent)) is None
    question = question_of(batch)
    answer = INCREMENT_EVALUATORS[name](replace(question, spine=question.spine.head(0)))
    assert answer.height == 0
    assert answer.columns == INCREMENT_EVALUATORS[name](question).columns


def test_the_rule_of_increments_is_that_of_gold() -> None:
    keys = [*ENTITY, "event_date", "knowledge_date"]
    for seed in TEST_SEEDS[:8]:
        ledger = question_of(batch_of(seed)).ledger
        gold = demand_frame(ledger).select(*keys, "units", "lines", cents="revenue_cents").sort(keys)
        here = increments_of(ledger, ("version", "reversal", "cancellation")).sort(keys)
        both = gold.join(here, on=keys, how="full", suffix="_here", coalesce=True).fill_null(0)
        assert both.height >= gold.height > 0
        for name in ("units", "lines", "cents"):
            assert both[name].equals(both[f"{name}_here"].alias(name)), name


@pytest.mark.parametrize("mutant", increment_mutants(), ids=lambda m: m.__name__)
def test_the_comparison_sees(mutant: type[IncrementJoin]) -> None:
    found = next((m for m in (first_mismatch(mutant.answer, asked(seed)) for seed in TEST_SEEDS) if m), None)
    assert found is not None, f"{mutant.__doc__} Not seen in {len(TEST_SEEDS)} batches."
    assert len(found.history.statements) <= (12 if found.history.cancellations else 6), f"not cut down: {found}"
