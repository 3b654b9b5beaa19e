from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from replenish.contracts.profile import read_profile
from replenish.errors import NotApplicable
from replenish.forecast.lead_time_mix import LeadTimeMix, ProtectionInterval
from replenish.forecast.protection import PROTECTION_LEVELS, mixture_quantiles, protection_rows
from replenish.forecast.residual_pools import GRID_LEVELS, ResidualPools, build_pools

PROFILE = read_profile("demo")
ORIGIN = date(2025, 1, 1)


def backtest(rate: float, n_paths: int = 200, seed: int = 3) -> pl.DataFrame:
    """Backtest rows whose forecast is the true Poisson rate."""
    rng = np.random.default_rng(seed)
    steps = np.tile(np.arange(1, 29), n_paths)
    path = np.repeat(np.arange(n_paths), 28)
    return pl.DataFrame(
        {
            "origin_date": [ORIGIN - timedelta(days=40)] * len(steps),
            "sku_id": [f"A{p:03d}" for p in path],
            "location_id": ["S1"] * len(steps),
            "step": steps,
            "target_date": [ORIGIN - timedelta(days=41 - int(s)) for s in steps],
            "method": ["lightgbm"] * len(steps),
            "mean_milli": np.full(len(steps), round(rate * 1000)),
            "actual_units": rng.poisson(rate, len(steps)),
            "is_censored": np.zeros(len(steps), dtype=bool),
        }
    )


def test_pools_of_a_true_poisson_forecast_cover_what_they_promise():
    pools = build_pools(backtest(4.0, 400), PROFILE, method="lightgbm", known_at=ORIGIN)
    fresh = np.random.default_rng(9).poisson(4.0, size=(2000, 10)).sum(axis=1)
    upper = pools.sum_quantiles(np.full(28, 4.0).cumsum())[9, np.searchsorted(GRID_LEVELS, 0.9)]
    # One unit more or less is two percent here, so the promise can be kept to three.
    assert 0.87 <= float((fresh <= upper).mean()) <= 0.94


def test_days_not_complete_at_the_origin_are_no_evidence():
    rows = backtest(4.0)
    wild = pl.when(pl.col("step") > 14).then(10_000).otherwise(pl.col("actual_units")).alias("actual_units")
    known_at = ORIGIN - timedelta(days=26)  # the first 14 steps are over
    pools = build_pools(rows, PROFILE, method="lightgbm", known_at=known_at)
    shifted = build_pools(rows.with_columns(wild), PROFILE, method="lightgbm", known_at=known_at)
    assert (pools.quantiles == shifted.quantiles).all()


def test_a_stock_out_raises_the_quantiles_over_those_of_its_sales():
    rows = backtest(4.0)
    sold_out = rows.with_columns(
        pl.when(pl.col("step") == 3).then(0).otherwise(pl.col("actual_units")).alias("actual_units")
    )
    taken_for_demand = build_pools(sold_out, PROFILE, method="lightgbm", known_at=ORIGIN)
    known_as_stock_out = build_pools(
        sold_out.with_columns(is_censored=pl.col("step") == 3), PROFILE, method="lightgbm", known_at=ORIGIN
    )
    path = np.full(28, 4.0).cumsum()
    assert (known_as_stock_out.sum_quantiles(path)[6] > taken_for_demand.sum_quantiles(path)[6]).all()


def test_too_few_paths_make_no_quantile():
    with pytest.raises(NotApplicable):
        build_pools(backtest(4.0, 5), PROFILE, method="lightgbm", known_at=ORIGIN)


def certain_pools() -> ResidualPools:
    return ResidualPools(np.zeros((28, 1, GRID_LEVELS.size)), np.empty(0))


def test_with_exact_forecasts_the_mixture_is_the_lead_time_distribution():
    interval = ProtectionInterval(np.array([5, 10]), np.array([0.7, 0.3]))
    quantiles, mean = mixture_quantiles(np.full(28, 2.0).cumsum(), certain_pools(), interval, 1)
    by_level = dict(zip(PROTECTION_LEVELS, quantiles, strict=True))
    assert by_level[0.5] == pytest.approx(10.0)
    assert by_level[0.7] == pytest.approx(10.0)
    assert by_level[0.9] == pytest.approx(20.0)
    assert mean == pytest.approx(0.7 * 10 + 0.3 * 20)


def test_a_weekly_forecast_gives_a_part_of_a_week_its_share():
    interval = ProtectionInterval(np.array([10]), np.array([1.0]))
    quantiles, mean = mixture_quantiles(np.full(4, 7.0).cumsum(), certain_pools(), interval, 7)
    assert mean == pytest.approx(10.0)
    assert quantiles == pytest.approx(np.full(len(PROTECTION_LEVELS), 10.0))


@pytest.mark.parametrize(("lead_days", "is_ok"), [(21, True), (22, False)])
def test_an_interval_past_the_horizon_is_reported(lead_days, is_ok):
    mix = LeadTimeMix({("V1", None): {lead_days: 3}}, {"A000": "V1"}, {"V1": 7}, 7)
    path = backtest(4.0, 1)
    rows = protection_rows(path, certain_pools(), mix, PROFILE)
    assert rows["horizon_ok"].unique().to_list() == [is_ok]
    assert rows["protection_days_max"][0] == lead_days + 7


def test_a_series_takes_the_most_specific_lead_times_that_are_known():
    counts = {("V1", "S1"): {2: 1}, ("V1", None): {5: 1}, (None, None): {9: 1}}
    mix = LeadTimeMix(counts, {"A": "V1", "B": "V2"}, {"V1": 3}, 7)
    assert [int(mix.interval(*key).days[0]) for key in (("A", "S1"), ("A", "S2"), ("B", "S1"))] == [5, 8, 16]


def test_protection_quantiles_rise_with_their_level():
    pools = build_pools(backtest(2.0), PROFILE, method="lightgbm", known_at=ORIGIN)
    mix = LeadTimeMix({(None, None): {2: 5, 6: 3, 11: 1}}, {}, {}, 7)
    rows = protection_rows(backtest(2.0, 3), pools, mix, PROFILE).sort("sku_id", "quantile_level")
    rises = rows.with_columns(pl.col("units_milli").diff().over("sku_id").alias("rise"))["rise"].drop_nulls()
    assert (rises >= 0).all()
