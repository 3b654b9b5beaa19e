"""The platform's own feature sets: they read gold as it is, and say what the forecast's features of today say."""

from __future__ import annotations

import re
from functools import cache

import pytest

from replenish.contracts.profile import read_profile
from replenish.contracts.reader import PLATFORM_FOLDER
from replenish.features.definitions.forecast_names import NOT_SAID_YET, daily_name
from replenish.features.definitions.model import AGGREGATIONS, FeatureSet, FeatureSource
from replenish.features.definitions.reader import read_feature_sets
from tests.unit.features.definitions.small_set import contracts

MARTS = PLATFORM_FOLDER.parent / "dbt" / "models" / "marts"


@cache
def sets() -> dict[str, FeatureSet]:
    """The committed sets, read once."""
    return read_feature_sets(contracts=contracts())


def sources() -> list[tuple[str, FeatureSource]]:
    return [(name, source) for name, feature_set in sets().items() for source in feature_set.sources]


@pytest.mark.parametrize(("name", "source"), sources(), ids=[f"{n}.{s.name}" for n, s in sources()])
def test_the_gold_table_of_a_source_has_its_columns(name: str, source: FeatureSource) -> None:
    text = (MARTS / f"{source.table.removeprefix('gold/')}.sql").read_text(encoding="utf-8")
    assert f"ref('stg_{source.stream}')" in text
    words = set(re.findall(r"\w+", text))
    assert {*sets()[name].entity, *(column.name for column in source.columns)} <= words
    # A ledger has the columns of a posting; sums have none of them, and say how many facts they hold.
    assert ({"knowledge_time", "posting_sign"} <= words) != source.is_increments
    assert source.lines is None or source.lines in words


@pytest.mark.parametrize("profile", ["demo", "full"])
def test_the_daily_set_says_what_the_forecast_reads_as_far_as_it_can(profile: str) -> None:
    daily = sets()["demand_daily"]
    said = {*daily.feature_names, *(column.name for column in daily.known_future)}
    missing = []
    for column in read_profile(profile).feature_columns:
        name = daily_name(column)
        if name not in said and not name.startswith(NOT_SAID_YET):
            missing.append(name)
    assert not missing


def test_the_horizon_of_the_daily_set_is_the_forecasts() -> None:
    assert {target.horizon_days for target in sets()["demand_daily"].targets} == {read_profile("full").horizon_steps}


def test_every_aggregation_stands_in_some_set() -> None:
    used = {feature.aggregation for feature_set in sets().values() for feature in feature_set.features}
    assert used == set(AGGREGATIONS)


def test_stock_now_may_be_asked_at_any_instant() -> None:
    stock = sets()["stock_now"]
    assert stock.clock == "instant"
    assert stock.feature("fresh_on_hand_units").time_to_live_days == 3
