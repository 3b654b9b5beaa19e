"""Forecast profiles are read strictly, and their features have one identity."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
import yaml

from replenish.contracts.profile import PROFILE_FOLDER, parse_profile, read_profile
from replenish.errors import ContractError

NAMES = sorted(path.stem for path in PROFILE_FOLDER.glob("*.yaml"))


def fields(**changes: object) -> dict[str, object]:
    loaded = yaml.safe_load((PROFILE_FOLDER / "demo.yaml").read_text(encoding="utf-8"))
    return {"name": "demo", **loaded, **changes}


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_of_the_platform_can_be_read(name: str) -> None:
    assert read_profile(name).name == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"windws": [7]}, "windws is unknown"),
        ({"period_days": 2}, "period_days is 1 or 7"),
        ({"period_days": True}, "period_days is an integer"),
        ({"lags": [2, 1]}, "lags ascend"),
        ({"lags": [0]}, "at least 1"),
        ({"windows": 7}, "windows is a list"),
        ({"quantile_levels": [0.5, 1.0]}, "within"),
        ({"quantile_levels": []}, "quantile_levels"),
        ({"blocks": [[1, 7], [9, 28]]}, "follow one another"),
        ({"blocks": [[1, 7]]}, "end at horizon_steps"),
        ({"blocks": [[1, 7, 8]]}, "first step, last step"),
        ({"max_series": 0}, "max_series"),
        ({"lightgbm": {"num_leaves": None}}, "lightgbm parameter"),
        ({"description": 3}, "description is a text"),
    ],
)
def test_a_malformed_profile_names_file_and_field(change: dict[str, object], message: str) -> None:
    with pytest.raises(ContractError, match=message) as refused:
        parse_profile(fields(**change), "demo.yaml")
    assert "demo.yaml" in str(refused.value)


def test_a_missing_field_is_named() -> None:
    loaded = fields()
    del loaded["season_length"]
    with pytest.raises(ContractError, match="season_length is missing"):
        parse_profile(loaded, "demo.yaml")


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(ContractError, match="weekly"):
        read_profile("hourly")


def test_only_changed_feature_definitions_change_the_feature_set() -> None:
    demo = read_profile("demo")
    assert replace(demo, seeds=(9,), horizon_steps=14).feature_set_id == demo.feature_set_id
    changed = [replace(demo, lags=(*demo.lags, 99)), replace(demo, windows=(3,)), replace(demo, period_days=7)]
    assert len({profile.feature_set_id for profile in [demo, *changed]}) == 4


def test_weekly_periods_start_on_mondays_and_partition_the_days() -> None:
    weekly = read_profile("weekly")
    for n in range(400):
        day = date(2009, 12, 1) + timedelta(days=n)
        start = weekly.origin_at_or_before(day)
        assert start.weekday() == 0
        assert 0 <= (day - start).days < 7
        assert weekly.period_start(weekly.period_index(day)) == start


def test_the_newest_backtest_origin_has_a_whole_horizon_of_actuals() -> None:
    weekly = read_profile("weekly")
    newest = date(2011, 12, 5)
    origins = weekly.backtest_origins(newest)
    assert len(origins) == weekly.n_backtest_origins
    assert weekly.target_date(origins[-1], weekly.horizon_steps) == newest - timedelta(days=7)
    assert (origins[1] - origins[0]).days == 7 * weekly.backtest_stride
