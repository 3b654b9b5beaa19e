"""Property tests of window sums against brute force: every mixture of prompt, late, corrected and future changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replenish.bitemporal_windows import (
    NO_EVENT,
    Changes,
    Window,
    compacted,
    derived_changes,
    extreme_known_event,
    known_window_sums,
    latest_known,
)
from replenish.errors import OutOfRange

N_SERIES = 3
Row = tuple[int, int, int, int]

rows_of_changes = st.lists(
    st.tuples(st.integers(0, N_SERIES - 1), st.integers(0, 12), st.integers(0, 16), st.integers(-3, 5)), max_size=25
)
blocks = st.tuples(st.integers(-2, 14), st.integers(1, 9))


def changes_from(rows: list[Row]) -> Changes:
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    return Changes(*table.T)


def known_total(rows: list[Row], series: int, event: int, origin: int) -> int:
    return sum(d for s, e, k, d in rows if s == series and e == event and k <= origin)


@settings(max_examples=100, deadline=None)
@given(rows_of_changes, blocks, st.integers(1, 4), st.integers(0, 6))
def test_window_sums_equal_those_added_up_one_by_one(
    rows: list[Row], block: tuple[int, int], first: int, more: int
) -> None:
    first_origin, n_origins = block
    window = Window(first, first + more)
    sums, _ = known_window_sums(
        changes_from(rows), [window, Window(1, 1)], n_series=N_SERIES, first_origin=first_origin, n_origins=n_origins
    )
    for series in range(N_SERIES):
        for column, origin in enumerate(range(first_origin, first_origin + n_origins)):
            events = range(origin - window.last, origin - window.first + 1)
            assert sums[series, column] == sum(known_total(rows, series, e, origin) for e in events)


@settings(max_examples=100, deadline=None)
@given(rows_of_changes, blocks, st.integers(1, 6))
def test_sums_of_squared_totals_equal_those_added_up_one_by_one(
    rows: list[Row], block: tuple[int, int], length: int
) -> None:
    first_origin, n_origins = block
    squares = derived_changes(compacted(changes_from(rows)), np.square)
    [sums] = known_window_sums(
        squares, [Window(1, length)], n_series=N_SERIES, first_origin=first_origin, n_origins=n_origins
    )
    for series in range(N_SERIES):
        for column, origin in enumerate(range(first_origin, first_origin + n_origins)):
            events = range(origin - length, origin)
            assert sums[series, column] == sum(known_total(rows, series, e, origin) ** 2 for e in events)


@settings(max_examples=100, deadline=None)
@given(rows_of_changes, blocks, st.booleans())
def test_the_first_and_last_period_with_sales_are_those_known_at_the_origin(
    rows: list[Row], block: tuple[int, int], newest: bool
) -> None:
    first_origin, n_origins = block
    active = derived_changes(compacted(changes_from(rows)), lambda total: (total > 0).astype(np.int64))
    found = extreme_known_event(
        active, newest=newest, n_series=N_SERIES, first_origin=first_origin, n_origins=n_origins
    )
    for series in range(N_SERIES):
        for column, origin in enumerate(range(first_origin, first_origin + n_origins)):
            sold = [e for e in range(origin) if known_total(rows, series, e, origin) > 0]
            assert found[series, column] == (NO_EVENT if not sold else max(sold) if newest else min(sold))


@settings(max_examples=50, deadline=None)
@given(rows_of_changes, blocks)
def test_changes_known_after_the_last_origin_have_no_influence(rows: list[Row], block: tuple[int, int]) -> None:
    first_origin, n_origins = block
    shape = {"n_series": N_SERIES, "first_origin": first_origin, "n_origins": n_origins}
    past = [row for row in rows if row[2] < first_origin + n_origins]
    future = [(s, e, k, 1000 * d) for s, e, k, d in rows if k >= first_origin + n_origins]
    [one] = known_window_sums(changes_from(past), [Window(1, 5)], **shape)
    [other] = known_window_sums(changes_from(past + future), [Window(1, 5)], **shape)
    assert (one == other).all()


@settings(max_examples=100, deadline=None)
@given(rows_of_changes, st.randoms())
def test_the_order_of_changes_does_not_matter(rows: list[Row], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = compacted(changes_from(rows)), compacted(changes_from(shuffled))
    for name in ("series", "event", "known", "delta"):
        assert (getattr(one, name) == getattr(other, name)).all()


def test_the_latest_row_counts_from_the_origin_that_knows_it() -> None:
    found = latest_known(
        np.array([0, 0, 0, 2]),
        np.array([-5, 3, 3, 4]),
        np.array([0, 1, 2, 3]),
        n_series=3,
        first_origin=2,
        n_origins=3,
    )
    assert found.tolist() == [[0, 2, 2], [-1, -1, -1], [-1, -1, 3]]


def test_a_window_that_reaches_into_the_unfinished_period_is_refused() -> None:
    with pytest.raises(OutOfRange, match="complete periods"):
        Window(0, 3)
