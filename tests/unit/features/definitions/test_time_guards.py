"""Label leakage: a feature that touches the days of a target is refused, also where no file was read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from replenish.errors import ContractError
from replenish.features.definitions.model import FeatureDefinition, FeatureSet, FeatureTarget
from replenish.features.definitions.time_guards import check_no_target_overlap, newest_day_read
from tests.unit.features.definitions.small_set import small_set


def sum_of(window_days: int, offset_days: int) -> FeatureDefinition:
    return FeatureDefinition(
        "u", "sum", "units", "Units.", source="sales", value="units", window_days=window_days, offset_days=offset_days
    )


def lag_of(lag_days: int) -> FeatureDefinition:
    return FeatureDefinition("u", "lag", "units", "Units.", source="sales", value="units", lag_days=lag_days)


def with_one(read: FeatureSet, feature: FeatureDefinition, first_day: int | None = 0) -> FeatureSet:
    """The set with this feature alone; no target where `first_day` is None."""
    target = () if first_day is None else (FeatureTarget("demand", "sales", "units", 28, first_day),)
    return replace(read, features=(feature,), targets=target)


@pytest.mark.parametrize("first_day", [None, 0])
@pytest.mark.parametrize("feature", [sum_of(7, 0), sum_of(1, 0), lag_of(1)])
def test_what_ends_before_the_target_passes(tmp_path: Path, feature: FeatureDefinition, first_day: int | None) -> None:
    check_no_target_overlap(with_one(small_set(tmp_path), feature, first_day))


@pytest.mark.parametrize("first_day", [None, 0])
@pytest.mark.parametrize(
    ("feature", "field"), [(sum_of(7, -1), "offset_days"), (sum_of(7, -7), "offset_days"), (lag_of(0), "lag_days")]
)
def test_what_reads_the_target_is_refused(
    tmp_path: Path, feature: FeatureDefinition, field: str, first_day: int | None
) -> None:
    with pytest.raises(ContractError, match=rf"small: features\.u\.{field}: reads event dates up to t") as caught:
        check_no_target_overlap(with_one(small_set(tmp_path), feature, first_day))
    assert caught.value.ids == {"feature_set": "small", "feature": "u"}


def test_a_target_that_has_begun_needs_older_features(tmp_path: Path) -> None:
    read = small_set(tmp_path)
    check_no_target_overlap(with_one(read, sum_of(7, 3), -3))
    check_no_target_overlap(with_one(read, lag_of(4), -3))
    with pytest.raises(
        ContractError, match="up to t-3, and target demand begins at t-3: offset_days must be at least 3"
    ):
        check_no_target_overlap(with_one(read, sum_of(7, 2), -3))
    with pytest.raises(ContractError, match="lag_days must be at least 4"):
        check_no_target_overlap(with_one(read, lag_of(3), -3))
    ages = replace(lag_of(1), aggregation="days_since", lag_days=None)
    with pytest.raises(ContractError, match="use a window or a lag that ends before"):
        check_no_target_overlap(with_one(read, ages, -1))


def test_the_newest_value_of_the_target_itself_is_refused_and_of_another_stream_is_not(tmp_path: Path) -> None:
    read = small_set(tmp_path)
    check_no_target_overlap(with_one(read, read.feature("price_now")))
    newest_sale = replace(lag_of(1), aggregation="last", lag_days=None)
    check_no_target_overlap(with_one(read, newest_sale, None))
    with pytest.raises(ContractError, match="reads event dates up to t, and target demand begins at t"):
        check_no_target_overlap(with_one(read, newest_sale))


def test_a_ratio_reads_what_its_parts_read(tmp_path: Path) -> None:
    assert newest_day_read(small_set(tmp_path).feature("unit_cents__7")) is None
