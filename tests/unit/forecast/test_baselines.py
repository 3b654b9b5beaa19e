import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replenish.forecast.baselines import (
    holt_winters,
    moving_average,
    residual_quantiles,
    seasonal_naive,
    simple_exponential_smoothing,
)

WEEK = np.array([[3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0]])


def test_seasonal_naive_repeats_the_last_season():
    history = np.concatenate([WEEK * 0, WEEK], axis=1)
    assert seasonal_naive(history, 9, 7).tolist() == [[3, 1, 4, 1, 5, 9, 2, 3, 1]]


def test_moving_average_looks_no_further_back_than_its_window():
    assert moving_average(np.array([[100.0, 2.0, 4.0]]), 2, 2).tolist() == [[3.0, 3.0]]


def test_exponential_smoothing_of_a_constant_is_that_constant():
    assert simple_exponential_smoothing(np.full((1, 30), 4.0), 3).tolist() == [[4.0, 4.0, 4.0]]


def test_holt_winters_learns_a_pure_season_exactly():
    history = np.tile(WEEK, (1, 8))
    assert holt_winters(history, 7, 7) == pytest.approx(WEEK)


def test_holt_winters_follows_the_phase_of_the_season_at_the_end():
    history = np.tile(WEEK, (1, 8))[:, :-2]
    assert holt_winters(history, 3, 7)[0] == pytest.approx([9.0, 2.0, 3.0])


def test_an_error_free_past_gives_quantiles_equal_to_the_forecast():
    history = np.tile(WEEK, (1, 8))
    quantiles = residual_quantiles(
        history, 7, lambda h, n: seasonal_naive(h, n, 7), [0.1, 0.9], min_history=8, stride=1
    )
    assert quantiles[0, :, 0] == pytest.approx(WEEK[0])
    assert quantiles[0, :, 1] == pytest.approx(WEEK[0])


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_residual_quantiles_never_cross_and_are_never_negative(seed):
    history = np.random.default_rng(seed).poisson(2.0, size=(3, 60)).astype(float)
    quantiles = residual_quantiles(
        history, 7, lambda h, n: moving_average(h, n, 14), [0.1, 0.5, 0.9], min_history=20, stride=5
    )
    assert (quantiles >= 0).all()
    assert (np.diff(quantiles, axis=2) >= 0).all()


def test_residual_quantiles_use_only_the_history_they_are_given():
    rng = np.random.default_rng(5)
    history = rng.poisson(5.0, size=(4, 90)).astype(float)
    method = lambda h, n: seasonal_naive(h, n, 7)  # noqa: E731
    before = residual_quantiles(history[:, :70], 7, method, [0.9], min_history=8, stride=1)
    history[:, 70:] = 1e6
    after = residual_quantiles(history[:, :70], 7, method, [0.9], min_history=8, stride=1)
    assert (before == after).all()
