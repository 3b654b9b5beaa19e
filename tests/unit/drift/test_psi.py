"""The stability index: zero for equal shares, growing with the shift, independent of order and scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replenish.drift.psi import count_in_bins, population_stability_index, psi_against, reference_bins
from replenish.errors import OutOfRange

counts = st.lists(st.integers(0, 10_000), min_size=3, max_size=12).filter(lambda c: sum(c) > 0)


def test_a_worked_example_by_hand() -> None:
    # 0.3 x ln(0.8 / 0.5) + (-0.3) x ln(0.2 / 0.5), the half rows vanish in a million.
    value = population_stability_index(np.array([500_000, 500_000]), np.array([800_000, 200_000]))
    assert value == pytest.approx(0.3 * np.log(1.6) - 0.3 * np.log(0.4), abs=1e-4)


@given(counts, st.integers(1, 50))
def test_equal_shares_have_no_distance_whatever_their_number(one: list[int], factor: int) -> None:
    value = population_stability_index(np.array(one), np.array(one) * factor)
    assert value == pytest.approx(0.0, abs=1e-9)


@given(counts, st.integers(1, 100))
def test_the_index_is_never_negative_and_symmetric(one: list[int], seed: int) -> None:
    other = np.random.default_rng(seed).permutation(one)
    forth, back = (population_stability_index(*pair) for pair in ((np.array(one), other), (other, np.array(one))))
    assert forth >= 0 and forth == pytest.approx(back)


def test_the_same_distribution_stays_far_below_the_threshold_and_a_shifted_one_far_above() -> None:
    draw = np.random.default_rng(1)
    bins = reference_bins(draw.normal(size=20_000))
    assert psi_against(bins, draw.normal(size=4_000)) < 0.02
    assert psi_against(bins, draw.normal(0.8, 1, size=4_000)) > 0.25


def test_integers_that_many_rows_share_do_not_drift_by_binning() -> None:
    draw = np.random.default_rng(2)
    bins = reference_bins(draw.poisson(1.5, 20_000).astype(float))
    assert psi_against(bins, draw.poisson(1.5, 5_000).astype(float)) < 0.02


def test_values_that_go_missing_are_drift() -> None:
    values = np.random.default_rng(3).normal(size=5_000)
    gone = values.copy()
    gone[::3] = np.nan
    assert psi_against(reference_bins(values), gone) > 0.25


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False, width=32), min_size=1, max_size=60))
def test_every_row_is_counted_once_in_any_order(values: list[float]) -> None:
    array = np.array(values)
    bins = reference_bins(array)
    assert sum(bins.counts) == len(values)
    assert np.array_equal(count_in_bins(array[::-1], bins.edges), np.array(bins.counts))


@pytest.mark.parametrize(("one", "other"), [([1, 2], [1, 2, 3]), ([0, 0], [1, 1]), ([1, -1], [1, 1])])
def test_counts_that_cannot_be_compared_are_refused(one: list[int], other: list[int]) -> None:
    with pytest.raises(OutOfRange):
        population_stability_index(np.array(one), np.array(other))
