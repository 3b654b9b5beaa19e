import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replenish.forecast import metrics

NUMBERS = st.lists(st.integers(0, 1000), min_size=1, max_size=30)


def test_pinball_loss_at_one_half_is_half_the_absolute_error():
    actual, forecast = np.array([1.0, 5.0, 9.0]), np.array([2.0, 2.0, 12.0])
    assert metrics.pinball_loss(actual, forecast, 0.5) == pytest.approx(np.abs(actual - forecast).mean() / 2)


@settings(deadline=None)
@given(NUMBERS, st.sampled_from([0.1, 0.25, 0.5, 0.9]))
def test_the_sample_quantile_has_the_least_pinball_loss_of_all_constants(values, level):
    # Koenker and Bassett (1978): the quantile is the minimiser of the check loss.
    actual = np.array(values, dtype=float)
    best = np.quantile(actual, level, method="inverted_cdf")
    losses = [metrics.pinball_loss(actual, np.full(actual.size, c), level) for c in actual]
    assert metrics.pinball_loss(actual, np.full(actual.size, best), level) <= min(losses) + 1e-9


def test_mase_of_the_naive_forecast_of_its_own_history_is_one():
    # Hyndman and Koehler (2006): the scale is the in-sample error of the naive method.
    history = np.array([1.0, 3.0, 2.0, 6.0])
    assert metrics.mase(history[1:], history[:-1], history) == pytest.approx(1.0)


def test_rmsse_scale_starts_at_the_first_sale():
    # M5 guide: squared one-day differences over the periods after the first non-zero sale.
    assert metrics.rmsse_scale(np.array([0.0, 0.0, 4.0, 1.0, 1.0])) == pytest.approx((9 + 0) / 2)


def test_rmsse_matches_a_hand_computation():
    history = np.array([2.0, 4.0, 3.0])  # squared differences 4 and 1, mean 2.5
    actual, forecast = np.array([5.0, 1.0]), np.array([4.0, 3.0])  # squared errors 1 and 4, mean 2.5
    assert metrics.rmsse(actual, forecast, history) == pytest.approx(1.0)


def test_wrmsse_weighs_the_errors_of_a_level():
    assert metrics.wrmsse(np.array([1.0, 2.0]), np.array([0.25, 0.75])) == pytest.approx(1.75)


def test_bias_is_positive_when_the_forecast_is_too_high():
    assert metrics.bias(np.array([10.0, 10.0]), np.array([11.0, 12.0])) == pytest.approx(0.15)


def test_a_series_without_demand_has_no_relative_error():
    zero = np.zeros(3)
    assert np.isnan(metrics.wape(zero, np.ones(3)))
    assert np.isnan(metrics.rmsse(zero, zero, zero))


@settings(deadline=None)
@given(NUMBERS)
def test_wape_does_not_depend_on_the_unit_of_measure(values):
    actual = np.array(values, dtype=float) + 1.0
    forecast = actual[::-1].copy()
    assert metrics.wape(actual, forecast) == pytest.approx(metrics.wape(actual * 7, forecast * 7))


def test_coverage_counts_actuals_on_the_quantile_as_covered():
    assert metrics.coverage(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 5.0])) == pytest.approx(2 / 3)
