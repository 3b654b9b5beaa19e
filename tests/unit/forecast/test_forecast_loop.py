from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from replenish.digests import table_digest
from replenish.errors import AuditFailed, NotApplicable
from replenish.forecast.backtest import run_backtest
from replenish.forecast.challenger import train_challenger
from replenish.forecast.forecast_frame import FORECAST_KEY, quantile_columns
from replenish.forecast.policy_levels import update_policy_levels
from replenish.forecast.predict import forecast_origin
from replenish.forecast.protection import protection_demand
from replenish.stores.registry import ModelRegistry
from tests.unit.forecast.conftest import ORIGIN


@pytest.fixture
def registry(tmp_path):
    return ModelRegistry(tmp_path / "registry")


@pytest.fixture
def assumed(dataset):
    dataset.assumptions["lead_time_days"] = 4
    yield dataset
    dataset.assumptions.clear()


def forecasts(lake):
    return lake.read("forecasts/demand").sort(*FORECAST_KEY)


def test_a_forecast_has_every_step_of_every_series_and_rising_quantiles(lake, registry, dataset, profile):
    train_challenger(lake, registry, dataset, profile, ORIGIN)
    forecast_origin(lake, registry, dataset, profile, ORIGIN)
    rows = forecasts(lake)
    assert rows.height == 12 * 28
    assert rows["mode"].unique().to_list() == ["champion"]
    assert rows["target_date"].min() == ORIGIN
    low, middle, high = (rows[name] for name in quantile_columns(profile.quantile_levels))
    assert (low <= middle).all()
    assert (middle <= high).all()


def test_forecasting_an_origin_twice_equals_once(lake, registry, dataset, profile):
    train_challenger(lake, registry, dataset, profile, ORIGIN)
    forecast_origin(lake, registry, dataset, profile, ORIGIN)
    once = table_digest(forecasts(lake), FORECAST_KEY)
    train_challenger(lake, registry, dataset, profile, ORIGIN)
    forecast_origin(lake, registry, dataset, profile, ORIGIN)
    assert table_digest(forecasts(lake), FORECAST_KEY) == once
    assert len(registry.promotions()) == 1


def test_without_a_model_the_forecast_is_seasonal_naive_and_says_so(lake, registry, dataset, profile):
    forecast_origin(lake, registry, dataset, profile, ORIGIN)
    rows = forecasts(lake)
    assert rows["mode"].unique().to_list() == ["naive"]
    week_ago = lake.read("gold/fct_demand").filter(
        (pl.col("event_date") == ORIGIN - timedelta(days=7)) & (pl.col("sku_id") == "A05")
    )
    first = rows.filter((pl.col("sku_id") == "A05") & (pl.col("step") == 1))
    assert first["mean_milli"].to_list() == [week_ago["units"].sum() * 1000]


def test_a_forecast_that_fails_its_audit_is_not_written(lake, registry, dataset, profile):
    def refuse(frame):
        raise AuditFailed("no")

    with pytest.raises(AuditFailed):
        forecast_origin(lake, registry, dataset, profile, ORIGIN, audit=refuse)
    assert not lake.has("forecasts/demand")


def test_the_model_beats_seasonal_naive_in_the_backtest(lake, dataset, profile):
    summary = run_backtest(lake, dataset, profile, ORIGIN).summary
    ours = summary.filter(
        (pl.col("method") == "lightgbm") & (pl.col("steps") == "all") & (pl.col("metric") == "pinball")
    )
    assert ours["ratio_to_seasonal_naive"][0] < 0.9


def test_every_backtest_forecast_was_made_before_its_target(lake, dataset, profile):
    run_backtest(lake, dataset, profile, ORIGIN)
    rows = lake.read("forecasts/backtest")
    assert (rows["origin_date"] <= rows["target_date"]).all()
    assert rows["target_date"].max() < ORIGIN
    assert set(rows["method"]) == {"lightgbm", "seasonal_naive", "moving_average"}


def test_a_worse_challenger_is_refused_and_the_champion_stays(lake, registry, dataset, profile):
    run_backtest(lake, dataset, profile, ORIGIN)
    card = train_challenger(lake, registry, dataset, profile, ORIGIN)
    stored = registry.load_model(card.digest)
    better = {**stored.card, "backtest": {**stored.card["backtest"], "ratio_to_seasonal_naive": 0.01}}
    registry.promote(registry.save_model(stored.files, better), reason="test", decided_at="2024-01-01")
    champion = registry.champion()
    verdict = train_challenger(lake, registry, dataset, profile, ORIGIN).verdict
    assert not verdict.is_promoted
    assert registry.champion() == champion


def test_a_challenger_no_worse_on_the_same_window_is_promoted(lake, registry, dataset, profile):
    profile = replace(profile, n_backtest_origins=1)
    early = profile.backtest_origins(ORIGIN)[0]
    first = train_challenger(lake, registry, dataset, profile, early)
    run_backtest(lake, dataset, profile, ORIGIN)
    second = train_challenger(lake, registry, dataset, profile, ORIGIN)
    # The champion was trained at the first backtest origin, so on the window it is the backtest's own model.
    assert second.verdict.challenger_loss == pytest.approx(second.verdict.champion_loss)
    assert (registry.champion(), registry.previous_champion()) == (second.digest, first.digest)


def test_protection_demand_needs_a_lead_time_or_an_assumption(lake, registry, dataset, profile):
    run_backtest(lake, dataset, profile, ORIGIN)
    forecast_origin(lake, registry, dataset, profile, ORIGIN)
    with pytest.raises(NotApplicable):
        protection_demand(lake, dataset, profile, ORIGIN)


def test_protection_demand_covers_lead_time_and_review_period(lake, registry, assumed, profile):
    run_backtest(lake, assumed, profile, ORIGIN)
    train_challenger(lake, registry, assumed, profile, ORIGIN)
    forecast_origin(lake, registry, assumed, profile, ORIGIN)
    protection_demand(lake, assumed, profile, ORIGIN)
    rows = lake.read("forecasts/protection_demand").filter(pl.col("sku_id") == "A05")
    expected = forecasts(lake).filter((pl.col("sku_id") == "A05") & (pl.col("step") <= 11))["mean_milli"].sum()
    assert rows["mean_milli"].unique().to_list() == [expected]
    assert rows["horizon_ok"].all()


def test_policy_levels_use_only_errors_known_at_their_origin(lake, assumed, profile):
    run_backtest(lake, assumed, profile, ORIGIN)
    update_policy_levels(lake, assumed, profile, ORIGIN)
    levels = lake.read("forecasts/policy_levels")
    middle = sorted(levels["origin_date"].unique())[levels["origin_date"].n_unique() // 2]
    wild = pl.when(pl.col("target_date") >= middle).then(9999).otherwise(pl.col("actual_units")).alias("actual_units")
    lake.overwrite("forecasts/backtest", lake.read("forecasts/backtest").with_columns(wild))
    update_policy_levels(lake, assumed, profile, ORIGIN)
    key = ["origin_date", "sku_id"]
    shifted = lake.read("forecasts/policy_levels").filter(pl.col("origin_date") <= middle).sort(key)
    assert shifted.equals(levels.filter(pl.col("origin_date") <= middle).sort(key))


def test_a_higher_critical_ratio_never_lowers_a_level(lake, assumed, profile):
    run_backtest(lake, assumed, profile, ORIGIN)
    levels = []
    for ratio in (0.6, 0.95):
        ratios = pl.DataFrame({"sku_id": [f"A{n:02d}" for n in range(12)], "critical_ratio": [ratio] * 12})
        update_policy_levels(lake, assumed, profile, ORIGIN, ratios=ratios)
        frame = lake.read("forecasts/policy_levels").sort("origin_date", "sku_id")
        levels.append(frame["base_stock_level_units"])
    assert (levels[0] < levels[1]).all()
