"""Evaluators against the oracle: the naive peer and the platform's, over the histories of `make test`."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, time

import polars as pl
import pytest
from hypothesis import given, settings

from tests.oracle.compare import (
    HISTORIES_PER_BATCH,
    TEST_SEEDS,
    batch_of,
    compare,
    first_mismatch,
    is_same,
    judged,
    question_of,
)
from tests.oracle.evaluators import EVALUATORS
from tests.oracle.histories import History, Seeded, Setting, cases, draw_features, draw_history
from tests.oracle.known_at import AGGREGATIONS, DENOMINATORS, Feature
from tests.oracle.mutants import RetractionsIgnored
from tests.oracle.range_join import Question, RangeJoin


@pytest.mark.parametrize("name", EVALUATORS)
def test_an_evaluator_says_what_the_oracle_says(name: str) -> None:
    done = compare(EVALUATORS[name], [batch_of(seed) for seed in TEST_SEEDS])
    assert done.mismatch is None, f"{done.n_wrong} of {done.n_values} values differ\n{done.mismatch}"
    assert done.n_histories == HISTORIES_PER_BATCH * len(TEST_SEEDS)


@pytest.mark.parametrize("name", EVALUATORS)
@settings(max_examples=40, deadline=None)
@given(case=cases())
def test_an_evaluator_agrees_on_histories_that_shrink(
    name: str, case: tuple[Setting, tuple[Feature, ...], History]
) -> None:
    setting, features, history = case
    found = first_mismatch(EVALUATORS[name], judged(0, setting, features, [history]))
    assert found is None, str(found)


def test_the_draw_asks_for_every_aggregation_and_parameter() -> None:
    features = [feature for seed in TEST_SEEDS for feature in batch_of(seed).features]
    assert {f.aggregation for f in features} == set(AGGREGATIONS)
    for kind in ("mean", "std"):
        assert {f.denominator for f in features if f.aggregation == kind} == set(DENOMINATORS)
    windowed = [f for f in features if f.window_days is not None]
    for kind in {f.aggregation for f in windowed}:
        assert {f.window_days for f in windowed if f.aggregation == kind} == {1, 2, 3, 7, 28}
        assert {f.offset_days for f in windowed if f.aggregation == kind} == {0, 1, 3, 7}
    assert {f.time_to_live_days for f in features if f.aggregation == "last"} == {None, 1, 2, 3, 14}
    assert {(f.lag_days, f.denominator) for f in features if f.aggregation == "lag"} == {
        (days, denominator) for days in (1, 2, 7, 14) for denominator in ("calendar", "observed")
    }
    answered = [
        row[f.name]
        for seed in TEST_SEEDS
        for f in batch_of(seed).features
        for rows in batch_of(seed).expected
        for row in rows
    ]
    assert sum(value not in (None, 0) for value in answered) > len(answered) / 8


@pytest.mark.parametrize("name", EVALUATORS)
def test_an_evaluator_bears_an_empty_ledger_and_an_empty_spine(name: str) -> None:
    batch = batch_of(0)
    silent = [replace(history, statements=(), cancellations=()) for history in batch.histories]
    assert first_mismatch(EVALUATORS[name], judged(0, batch.setting, batch.features, silent)) is None
    question = question_of(batch)
    answer = EVALUATORS[name](replace(question, spine=question.spine.head(0)))
    assert answer.height == 0
    assert answer.columns == EVALUATORS[name](question).columns


@pytest.mark.parametrize("name", EVALUATORS)
@pytest.mark.parametrize("cutoff", [time(0), time(6), time(23)])
def test_an_evaluator_survives_a_date_that_never_was(name: str, cutoff: time) -> None:
    # Samoa went from 29 to 31 December 2011: two origin dates begin at one instant, and the newer one counts.
    chooser = Seeded(1)
    setting = Setting("Pacific/Apia", "Pacific/Apia", cutoff, date(2011, 12, 30), "named", 10)
    histories = [draw_history(chooser, setting, number) for number in range(40)]
    found = first_mismatch(EVALUATORS[name], judged(1, setting, draw_features(chooser), histories))
    assert found is None, str(found)


@pytest.mark.parametrize("name", EVALUATORS)
def test_the_order_of_postings_and_spine_changes_nothing(name: str) -> None:
    for seed in TEST_SEEDS[:6]:
        question = question_of(batch_of(seed))
        straight = EVALUATORS[name](question)
        ledger, spine = question.ledger.sample(fraction=1, shuffle=True, seed=seed), question.spine.reverse()
        assert EVALUATORS[name](replace(question, ledger=ledger, spine=spine)).reverse().equals(straight)


@pytest.mark.parametrize("name", [name for name in EVALUATORS if name != "range_join"])
def test_the_zone_in_which_instants_are_shown_changes_nothing(name: str) -> None:
    question = question_of(batch_of(5))
    shown = pl.col("as_of").dt.convert_time_zone("Asia/Tokyo")
    clocks = pl.col("event_time", "knowledge_time").dt.convert_time_zone("America/New_York")
    other = replace(question, spine=question.spine.with_columns(shown), ledger=question.ledger.with_columns(clocks))
    answer = EVALUATORS[name](other).drop("as_of")
    assert answer.equals(EVALUATORS[name](question).drop("as_of"))


def test_a_failure_is_cut_down_and_names_its_seed() -> None:
    all_found = [m for m in (first_mismatch(RetractionsIgnored.answer, batch_of(seed)) for seed in TEST_SEEDS[:6]) if m]
    # Statements go one by one, so that a cancellation may keep one more than are needed.
    assert all(len(m.history.statements) <= 3 and len(m.history.spine) == 1 for m in all_found)
    found = min(all_found, key=lambda m: len(m.history.statements))
    assert len(found.history.statements) == 2
    assert f"seed {found.seed}: {found.feature} is {found.actual!r}, the oracle says {found.expected!r}" in str(found)
    assert "retracted" in str(found)


def test_an_evaluator_that_reorders_the_spine_is_refused() -> None:
    def reversing(question: Question) -> pl.DataFrame:
        return RangeJoin.answer(question).reverse()

    with pytest.raises(AssertionError, match="changed the spine"):
        first_mismatch(reversing, batch_of(0))


@pytest.mark.parametrize(
    ("actual", "expected", "same"),
    [
        (1, 1, True),
        (1.0, 1, False),
        (True, 1, False),
        (None, 0, False),
        (0.1 + 0.2, 0.3, True),
        (1e-13, 0.0, False),
        (float("nan"), None, False),
        (1.0 + 1e-11, 1.0, False),
    ],
)
def test_what_counts_as_equal(actual: object, expected: int | float | None, same: bool) -> None:
    assert is_same(actual, expected) is same
