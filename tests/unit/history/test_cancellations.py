from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from replenish.history.cancellations import PlayedRecord, play_group

START = datetime(2024, 1, 1, tzinfo=UTC)
WINDOW = timedelta(days=30)


def record(index, key, units, *, day=0, known=None, kind="sale", cents=None) -> PlayedRecord:
    return PlayedRecord(
        index=index,
        key=(key,),
        is_sale=kind == "sale",
        is_cancellation=kind == "cancellation",
        is_of_cancellation=kind == "cancellation",
        event_time=START + timedelta(days=day),
        knowledge_time=START + timedelta(days=day if known is None else known),
        amounts=(units, units * 100 if cents is None else cents),
        arrival=(1, index),
    )


def played(*records, window=WINDOW):
    """Postings as (row, kind, sign, units, cents), and the outcomes."""
    postings, outcomes = play_group(records, window)
    return [(p.index, p.kind, p.sign, *p.amounts) for p in postings], outcomes


def test_the_newest_earlier_sale_is_taken_back_first():
    postings, _ = played(
        record(0, "a", 2, day=0), record(1, "b", 2, day=1), record(2, "x", 3, day=2, kind="cancellation")
    )
    assert postings == [(1, "cancellation", -1, 2, 200), (0, "cancellation", -1, 1, 100)]


def test_a_sale_after_the_cancellation_or_known_after_it_is_never_taken_back():
    postings, (outcome,) = played(
        record(0, "later", 2, day=3),
        record(1, "unknown", 2, day=0, known=5),
        record(2, "x", 2, day=2, kind="cancellation"),
    )
    assert postings == [(2, "return", -1, 2, 200)]
    assert outcome.matched_units == 0


def test_a_sale_older_than_the_window_is_left_alone():
    postings, _ = played(
        record(0, "a", 1, day=0), record(1, "x", 1, day=9, kind="cancellation"), window=timedelta(days=8)
    )
    assert postings == [(1, "return", -1, 1, 100)]


def test_a_sale_is_consumed_once():
    postings, outcomes = played(
        record(0, "a", 3),
        record(1, "x", 2, day=1, kind="cancellation"),
        record(2, "y", 2, day=2, kind="cancellation"),
    )
    assert postings == [(0, "cancellation", -1, 2, 200), (0, "cancellation", -1, 1, 100), (2, "return", -1, 1, 100)]
    assert [(o.units, o.matched_units) for o in outcomes] == [(2, 2), (2, 1)]


def test_parts_of_a_sale_add_up_to_its_revenue_whatever_the_rounding():
    postings, _ = played(
        record(0, "a", 3, cents=100),
        *(record(nr, f"x{nr}", 1, day=nr, kind="cancellation", cents=0) for nr in (1, 2, 3)),
    )
    assert sum(posting[4] for posting in postings) == 100


def test_an_exact_sale_counts_even_when_another_cancellation_used_it():
    _, outcomes = played(
        record(0, "a", 2),
        record(1, "x", 2, day=1, kind="cancellation"),
        record(2, "y", 2, day=2, kind="cancellation"),
        record(3, "z", 9, day=3, kind="cancellation"),
    )
    assert [o.has_exact_sale for o in outcomes] == [True, True, False]


def test_a_correction_carries_the_cancelled_part_as_far_as_it_goes():
    postings, _ = played(
        record(0, "a", 5), record(1, "x", 4, day=1, kind="cancellation"), record(2, "a", 3, day=0, known=2)
    )
    assert postings == [
        (0, "cancellation", -1, 4, 400),
        (0, "cancellation", 1, 4, 400),
        (2, "cancellation", -1, 3, 300),
    ]


def test_a_retracted_cancellation_gives_the_sale_back():
    postings, _ = played(
        record(0, "a", 2),
        record(1, "x", 3, day=1, kind="cancellation"),
        record(2, "x", 0, day=1, known=2, kind="retraction"),
        record(3, "y", 2, day=3, kind="cancellation"),
    )
    assert postings == [
        (0, "cancellation", -1, 2, 200),
        (1, "return", -1, 1, 100),
        (1, "return", 1, 1, 100),
        (0, "cancellation", 1, 2, 200),
        (0, "cancellation", -1, 2, 200),
    ]


@given(st.permutations(range(6)))
def test_the_order_of_the_records_does_not_matter(order):
    records = [
        record(0, "a", 3),
        record(1, "b", 3),
        record(2, "x", 2, day=1, kind="cancellation"),
        record(3, "y", 2, day=1, kind="cancellation"),
        record(4, "a", 1, day=0, known=2),
        record(5, "z", 4, day=3, kind="cancellation"),
    ]
    assert played(*(records[nr] for nr in order)) == played(*records)
