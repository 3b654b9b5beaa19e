"""The twin against the oracle, under deliveries in any order, snapshots in between, and limits on what is kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest

from replenish.errors import BrokenPromise, OutOfRange
from replenish.features.definitions.model import FeatureDefinition, FeatureSet, FeatureSource, SourceColumn
from replenish.features.online.dropped_history import ForgottenHistory
from replenish.features.online.feature_twin import FeatureTwin
from replenish.features.online.postings import Posting, PostingBatch, instant_us
from replenish.features.online.snapshot_file import restore_twin, write_snapshot
from replenish.features.online.twin_plan import KEEP_ALL, KeptHistory
from tests.oracle.compare import batch_of, is_same, question_of
from tests.oracle.evaluators import feature_set_of, offline
from tests.oracle.histories import Seeded
from tests.oracle.known_at import AGGREGATIONS
from tests.unit.features.online.ledger_changes import (
    deliveries,
    expected_values,
    ledger_change,
    postings_told,
    questions,
    some_limit,
)

SEEDS = range(20)
N_CUTS = 4
DAY = timedelta(days=1)


def _twin_of(seed: int, limits: KeptHistory = KEEP_ALL) -> FeatureTwin:
    batch = batch_of(seed)
    start = min(as_of for history in batch.histories for _, as_of in history.spine)
    return FeatureTwin(feature_set_of(question_of(batch)), batch.setting.zone, batch.setting.cutoff, start, limits)


def _compare(seed: int, folder: Path | None = None, *, is_limited: bool = False) -> tuple[int, int, set[str]]:
    """Values that agreed with the oracle, questions that were refused, aggregations that were compared."""
    batch, chooser = batch_of(seed), Seeded(1000 + seed)
    limits = KeptHistory(some_limit(chooser), some_limit(chooser)) if is_limited else KEEP_ALL
    twin, told, n_equal, n_refused = _twin_of(seed, limits), Counter[Posting](), 0, 0
    asked = questions(batch, chooser, N_CUTS)
    for cut, histories in enumerate(deliveries(batch.histories, chooser, N_CUTS)):
        before, told = told, postings_told(batch, histories, twin.feature_set)
        twin.apply(ledger_change(before, told, cut + 1))
        if folder is not None:
            write_snapshot(twin, folder)
            clocks = batch.setting.zone, batch.setting.cutoff
            twin, found = restore_twin(twin.feature_set, *clocks, folder, twin.stands_at, limits)
            assert found.path is not None
        for nr, key, as_of in asked[cut]:
            try:
                values = twin.vector(key, as_of)
            except ForgottenHistory:
                n_refused += 1
                continue
            for name, value in expected_values(batch, histories[nr], key, as_of).items():
                found_value = values[twin.feature_set.feature_names.index(name)]
                assert is_same(found_value, value), (seed, cut, key, as_of, name, found_value, value)
                n_equal += 1
    return n_equal, n_refused, {feature.aggregation for feature in batch.features}


def test_vectors_are_the_oracles_whatever_arrives_when() -> None:
    found = [_compare(seed) for seed in SEEDS]
    assert sum(n_equal for n_equal, _, _ in found) > 35_000
    assert not any(n_refused for _, n_refused, _ in found)
    assert set().union(*(kinds for _, _, kinds in found)) == set(AGGREGATIONS)


def test_a_twin_that_goes_through_a_snapshot_at_every_step_says_the_same(tmp_path: Path) -> None:
    assert sum(_compare(seed, tmp_path / str(seed))[0] for seed in SEEDS[:6]) > 8_000


def test_with_limits_an_answer_is_right_or_refused(tmp_path: Path) -> None:
    found = [_compare(seed, tmp_path / str(seed) if seed % 2 else None, is_limited=True) for seed in SEEDS]
    n_equal, n_refused = sum(one[0] for one in found), sum(one[1] for one in found)
    # Corrections are far more frequent than anywhere in use, and limits far tighter.
    assert n_refused > 5
    assert n_equal > 20_000


def test_floats_are_the_offline_evaluators_to_the_last_bit() -> None:
    for seed in SEEDS[:8]:
        batch, twin = batch_of(seed), _twin_of(seed)
        told = postings_told(batch, batch.histories, twin.feature_set)
        twin.apply(ledger_change(Counter(), told, 1))
        question = question_of(batch)
        answer = offline(question).with_row_index("_row").sort("as_of")
        names = list(twin.feature_set.feature_names)
        for row in answer.iter_rows(named=True):
            key = tuple(row[name] for name in question.entity)
            assert twin.vector(key, row["as_of"]) == tuple(row[name] for name in names), (seed, key)


# By hand.

SALES = FeatureSource("sales", "gold/fct_demand", "sales", ("sale_id",), (SourceColumn("units", "units", "units"),))


def _set(*features: FeatureDefinition, clock: str = "daily") -> FeatureSet:
    return FeatureSet("by_hand", "1.0.0", "", "", clock, ("sku_id",), (SALES,), features)  # type: ignore[arg-type]


def _feature(aggregation: str, name: str = "found", **more: object) -> FeatureDefinition:
    return FeatureDefinition(name, aggregation, "units", "", "sales", "units", **more)  # type: ignore[arg-type]


def _sale(sale_id: str, at: datetime, units: int, known: datetime | None = None, **more: object) -> Posting:
    day = (at.date() - datetime(1970, 1, 1, tzinfo=UTC).date()).days
    known_us = instant_us(known or at)
    sale = Posting("sales", ("a",), (sale_id,), day, instant_us(at), known_us, 1, "version", 1, (units,))
    return sale._replace(**more)


T0 = datetime(2026, 3, 2, 6, tzinfo=UTC)
SUM_7 = _feature("sum", window_days=7)


def test_a_daily_set_answers_as_of_the_last_cutoff_and_refuses_other_instants() -> None:
    twin = FeatureTwin(_set(SUM_7), "UTC", time(6), T0)
    twin.apply(PostingBatch(1, [_sale("1", T0 - DAY, 3), _sale("2", T0 - DAY, 4, known=T0 + timedelta(hours=1))]))
    answer = twin.answer(("a",), T0 + timedelta(hours=5))
    assert (answer.values, answer.as_of, answer.seq) == ((3,), T0, 1)
    with pytest.raises(OutOfRange, match="cut-offs only"):
        twin.vector(("a",), T0 + timedelta(hours=5))
    assert twin.vector(("a",), T0 + DAY) == (7,)


def test_a_key_that_was_asked_answers_no_earlier_instant() -> None:
    twin = FeatureTwin(_set(SUM_7, clock="instant"), "UTC", time(6), T0)
    twin.apply(PostingBatch(1, [_sale("1", T0 - DAY, 3)]))
    twin.vector(("a",), T0 + timedelta(minutes=2))
    with pytest.raises(OutOfRange, match="does not go back"):
        twin.vector(("a",), T0 + timedelta(minutes=1))


def test_no_key_answers_before_the_instant_that_the_twin_stands_at() -> None:
    twin = FeatureTwin(_set(SUM_7, clock="instant"), "UTC", time(6), T0)
    twin.stand_at(T0 + DAY)
    with pytest.raises(OutOfRange, match="does not go back"):
        twin.vector(("never seen",), T0)
    assert twin.stands_at == T0 + DAY


def test_a_key_of_which_nothing_is_known_has_an_empty_history_and_stays_unknown() -> None:
    twin = FeatureTwin(_set(SUM_7, _feature("last", "newest")), "UTC", time(6), T0)
    assert twin.answer(("nobody",), T0).values == (0, None)
    assert ("nobody",) not in twin


def test_a_batch_that_was_taken_in_is_passed_over() -> None:
    twin = FeatureTwin(_set(SUM_7), "UTC", time(6), T0)
    batch = PostingBatch(5, [_sale("1", T0 - DAY, 3)])
    assert (twin.apply(batch), twin.apply(batch), twin.seq) == (1, 0, 5)
    assert twin.vector(("a",), T0) == (3,)


def test_a_withdrawn_posting_never_was() -> None:
    twin = FeatureTwin(_set(SUM_7, _feature("last", "newest")), "UTC", time(6), T0)
    first, second = _sale("1", T0 - 2 * DAY, 3), _sale("2", T0 - DAY, 4)
    later = _sale("3", T0 - DAY, 9, known=T0 + timedelta(hours=1))
    twin.apply(PostingBatch(1, [first, second, later]))
    assert twin.vector(("a",), T0) == (7, 4)
    gone = [posting._replace(is_withdrawn=True) for posting in (second, later)]
    twin.apply(PostingBatch(2, gone))
    assert twin.vector(("a",), T0) == (3, 3)
    assert twin.vector(("a",), T0 + DAY) == (3, 3)


def test_withdrawing_what_was_never_brought_is_a_broken_promise() -> None:
    twin = FeatureTwin(_set(_feature("last", "newest")), "UTC", time(6), T0)
    twin.apply(PostingBatch(1, [_sale("1", T0 - DAY, 3)]))
    with pytest.raises(BrokenPromise, match="never brought"):
        twin.apply(PostingBatch(2, [_sale("2", T0 - DAY, 3, is_withdrawn=True)]))


def test_the_first_sale_is_remembered_behind_the_limit_and_refused_once_it_changes() -> None:
    twin = FeatureTwin(_set(_feature("days_since_first")), "UTC", time(6), T0, KeptHistory(days=30))
    first, second = _sale("1", T0 - 90 * DAY, 3), _sale("2", T0 - 60 * DAY, 3)
    twin.apply(PostingBatch(1, [first, second]))
    assert twin.vector(("a",), T0) == (90,)
    # A sale that is older than all that is remembered moves the first day; one behind it changes nothing.
    assert twin.vector(("a",), T0 + DAY) == (91,)
    twin.apply(PostingBatch(2, [_sale("3", T0 - 99 * DAY, 1), _sale("4", T0 - 70 * DAY, 1)]))
    assert twin.vector(("a",), T0 + DAY) == (100,)
    taken_back = _sale("3", T0 - 99 * DAY, 1, known=T0, kind="reversal", sign=-1)
    twin.apply(PostingBatch(3, [taken_back]))
    with pytest.raises(ForgottenHistory):
        twin.vector(("a",), T0 + DAY)


def test_the_newest_of_the_dropped_versions_is_remembered_until_it_is_taken_back() -> None:
    twin = FeatureTwin(_set(_feature("last")), "UTC", time(6), T0, KeptHistory(versions=1))
    counts = [_sale(str(nr), T0 - (9 - nr) * DAY, nr) for nr in range(9)]
    twin.apply(PostingBatch(1, counts))
    back = [_sale(str(nr), T0 - (9 - nr) * DAY, nr, known=T0, kind="reversal", sign=-1) for nr in range(9)]
    answers = []
    for seq, posting in enumerate(reversed(back)):
        twin.apply(PostingBatch(2 + seq, [posting]))
        try:
            answers.append(twin.vector(("a",), T0)[0])
        except ForgottenHistory:
            break
    assert answers[0] == 7
    assert answers == list(range(7, 7 - len(answers), -1))
    assert len(answers) < 8, "nothing was dropped"


def test_two_threads_never_see_half_a_batch_of_a_key() -> None:
    import threading

    twin = FeatureTwin(_set(SUM_7, replace(SUM_7, name="again")), "UTC", time(6), T0)
    stop, seen = threading.Event(), set()

    def ask() -> None:
        while not stop.is_set():
            answer = twin.answer(("a",), T0)
            seen.add((answer.values[0], answer.seq))

    asking = threading.Thread(target=ask)
    asking.start()
    for seq in range(1, 300):
        twin.apply(PostingBatch(seq, [_sale(f"{seq}-{nr}", T0 - DAY, 1) for nr in range(7)]))
    stop.set()
    asking.join()
    assert all(units == 7 * seq for units, seq in seen)
