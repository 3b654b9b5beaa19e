"""What the platform's evaluators refuse, in random histories: the oracle says which rows, and never answers them."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from replenish.errors import OutOfRange
from tests.oracle.compare import TEST_SEEDS, Batch, batch_of, question_of, wrong_values
from tests.oracle.evaluators import EVALUATORS, PLATFORM
from tests.oracle.known_at import cutoff_instant, origin_date
from tests.oracle.range_join import Question


def at_cutoffs(batch: Batch) -> Batch:
    """The spine rows of a batch that ask at a cut-off, with what the oracle says of them."""
    zone, cutoff = batch.setting.zone, batch.setting.cutoff
    histories, expected = [], []
    for history, values in zip(batch.histories, batch.expected, strict=True):
        rows = [
            nr
            for nr, (_, as_of) in enumerate(history.spine)
            if cutoff_instant(origin_date(as_of, zone, cutoff), zone, cutoff) == as_of
        ]
        histories.append(replace(history, spine=tuple(history.spine[nr] for nr in rows)))
        expected.append(tuple(values[nr] for nr in rows))
    return replace(batch, histories=tuple(histories), expected=tuple(expected))


def daily(name: str, question: Question) -> pl.DataFrame:
    return EVALUATORS[name](replace(question, clock="daily"))


@pytest.mark.parametrize("name", PLATFORM)
def test_a_daily_set_is_asked_at_cutoffs_only(name: str) -> None:
    n_asked = 0
    for batch in map(batch_of, TEST_SEEDS[:8]):
        asked = at_cutoffs(batch)
        n_rows, n_left = (sum(len(h.spine) for h in b.histories) for b in (batch, asked))
        assert 0 < n_left < n_rows
        with pytest.raises(OutOfRange, match=f"at cut-offs only.*rows={n_rows - n_left},"):
            daily(name, question_of(batch))
        assert not list(wrong_values(lambda question: daily(name, question), asked))
        n_asked += n_left
    assert n_asked > 200


@pytest.mark.parametrize("name", PLATFORM)
@pytest.mark.parametrize("column", ["event_date", "knowledge_time", "event_time"])
def test_a_posting_without_a_clock_is_refused_where_its_entity_is_asked_about(name: str, column: str) -> None:
    for seed in TEST_SEEDS[:8]:
        question = question_of(batch_of(seed))
        entity = question.ledger.select(question.entity).row(7)
        of_entity = pl.all_horizontal(pl.col(c) == v for c, v in zip(question.entity, entity, strict=True))
        nulled = pl.when(of_entity).then(None).otherwise(pl.col(column)).alias(column)
        broken = replace(question, ledger=question.ledger.with_columns(nulled))
        others = question.spine.filter(~of_entity)
        n_rows = question.ledger.filter(of_entity).height
        if others.height < question.spine.height:
            with pytest.raises(OutOfRange, match="without a clock") as caught:
                EVALUATORS[name](broken)
            assert caught.value.ids["columns"] == [column]
            assert caught.value.ids["entity"] == entity
            assert caught.value.ids["rows"] == n_rows
        sound = EVALUATORS[name](replace(question, spine=others))
        assert EVALUATORS[name](replace(broken, spine=others)).equals(sound)


@pytest.mark.parametrize("name", PLATFORM)
def test_keys_of_other_types_than_the_spines_are_refused(name: str) -> None:
    question = question_of(batch_of(0))
    for dtype in (pl.Categorical(), pl.Binary(), pl.Enum(question.ledger["sku_id"].unique().sort())):
        ledger = question.ledger.with_columns(pl.col("sku_id").cast(dtype))
        with pytest.raises(OutOfRange, match=r"entity columns.*differ in type.*sku_id"):
            EVALUATORS[name](replace(question, ledger=ledger))


@pytest.mark.parametrize("name", PLATFORM)
def test_values_that_leave_64_bits_together_are_refused_with_their_entity(name: str) -> None:
    question = question_of(batch_of(0))
    entity = question.spine.select(question.entity).row(0)
    of_entity = pl.all_horizontal(pl.col(c) == v for c, v in zip(question.entity, entity, strict=True))
    great = pl.when(of_entity).then(2**62).otherwise(pl.col("cents")).alias("cents")
    broken = replace(question, ledger=question.ledger.with_columns(great))
    with pytest.raises(OutOfRange, match=r"leave 64 bits.*column=cents") as caught:
        EVALUATORS[name](broken)
    assert caught.value.ids["entity"] == entity
