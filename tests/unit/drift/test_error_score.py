"""Error drift: a shift of a whole category is seen, a promotion, a broken record or a lost day is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from replenish.drift.error_score import ERROR_THRESHOLD, OVERDISPERSION, score_errors, window_sums
from replenish.errors import OutOfRange

N_SERIES, N_DAYS = 50, 90


def quiet(seed: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    draw = np.random.default_rng(seed)
    forecast = np.tile(draw.uniform(1, 8, size=(N_SERIES, 1)), (1, N_DAYS))
    return draw.poisson(forecast).astype(float), forecast


def test_a_right_forecast_of_independent_demand_scores_about_standard_normal() -> None:
    draw = np.random.default_rng(1)
    forecast = np.full((N_SERIES, 3000), 4.0)
    # One common factor a window and series, of the variance that the score takes for usual.
    factor = np.repeat(draw.gamma(1 / OVERDISPERSION, OVERDISPERSION, size=(N_SERIES, 1000)), 3, axis=1)
    sums = window_sums(draw.poisson(forecast * factor).astype(float), forecast, 3)[2::3]
    assert abs(sums.mean()) < 0.15 and 0.8 < sums.std() < 1.2


def test_demand_up_by_half_breaches_within_three_days_and_stays_signed() -> None:
    actual, forecast = quiet()
    actual[:, -3:] *= 1.5
    scores = score_errors(actual, forecast)
    assert scores.is_breach[-3:].any() and scores.score[-1] > ERROR_THRESHOLD
    assert not scores.is_breach[:-3].any()


def test_demand_down_by_half_breaches_with_a_negative_score() -> None:
    actual, forecast = quiet()
    actual[:, -3:] *= 0.5
    scores = score_errors(actual, forecast)
    assert scores.is_breach[-1] and scores.score[-1] < -ERROR_THRESHOLD


def test_a_record_of_a_thousandfold_quantity_is_no_drift() -> None:
    actual, forecast = quiet()
    actual[0, -1] *= 1000
    assert not score_errors(actual, forecast).is_breach.any()


def test_one_lost_day_of_data_is_no_drift() -> None:
    actual, forecast = quiet()
    actual[:, -1] = 0
    assert not score_errors(actual, forecast).is_breach[-1]


def test_a_category_that_always_varies_more_needs_a_larger_error() -> None:
    actual, forecast = quiet()
    wild = actual * np.random.default_rng(5).choice([0.4, 1.6], size=(1, N_DAYS))
    for units in (actual, wild):
        units[:, -3:] = forecast[:, -3:] * 1.5
    calm_score, wild_score = (score_errors(a, forecast).score[-1] for a in (actual, wild))
    assert wild_score < calm_score


def test_a_shift_does_not_measure_itself() -> None:
    actual, forecast = quiet()
    shifted = actual.copy()
    shifted[:, -3:] *= 2
    one, other = score_errors(actual, forecast), score_errors(shifted, forecast)
    assert np.array_equal(one.score[:-3], other.score[:-3], equal_nan=True)
    ratio = window_sums(shifted, forecast, 3)[-1] / window_sums(actual, forecast, 3)[-1]
    assert other.score[-1] / one.score[-1] == pytest.approx(ratio)


def test_series_without_a_forecast_are_left_out_and_none_at_all_gives_no_score() -> None:
    actual, forecast = quiet()
    forecast[10:] = np.nan
    assert np.isfinite(score_errors(actual, forecast).score[-1])
    assert np.isnan(score_errors(actual, np.full_like(actual, np.nan)).score).all()


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(OutOfRange):
        window_sums(np.zeros((2, 3)), np.zeros((3, 2)), 1)
