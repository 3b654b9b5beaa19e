"""One name, one meaning, over all feature sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from replenish.errors import ContractError
from replenish.features.definitions.model import FeatureSet
from replenish.features.definitions.reader import read_feature_sets
from replenish.features.definitions.registry import check_one_meaning
from tests.unit.features.definitions.small_set import changed_text, contracts, small_set


def other_set(read: FeatureSet, **changes: object) -> FeatureSet:
    """Another set of the same features, the week's sum changed."""
    first, *others = read.features
    return replace(read, name="tiny", features=(replace(first, **changes), *others))


def test_sets_may_share_a_feature_of_equal_meaning(tmp_path: Path) -> None:
    read = small_set(tmp_path)
    registry = check_one_meaning([read, replace(other_set(read, description="Other words."), clock="instant")])
    assert registry["units_sum__7"].feature_sets == ("small", "tiny")
    assert list(registry) == sorted(read.feature_names)


def test_another_meaning_under_one_name_is_refused(tmp_path: Path) -> None:
    read = small_set(tmp_path)
    with pytest.raises(
        ContractError, match=r"tiny: features\.units_sum__7: small gives this name another meaning"
    ) as e:
        check_one_meaning([other_set(read, window_days=8), read])
    assert "(window_days): rename one, or make them equal" in str(e.value)


def test_a_ratio_means_what_its_parts_mean(tmp_path: Path) -> None:
    read = small_set(tmp_path)
    ratio_alone = replace(other_set(read, window_days=8, name="units_sum__8"), sources=read.sources)
    parts = tuple(
        replace(f, denominator_feature="units_sum__8") if f.name == "unit_cents__7" else f for f in ratio_alone.features
    )
    with pytest.raises(ContractError, match=r"unit_cents__7.*\(denominator_feature\.window_days\)"):
        check_one_meaning([read, replace(ratio_alone, features=parts)])


def test_another_mapping_of_the_source_is_another_meaning(tmp_path: Path) -> None:
    read = small_set(tmp_path)
    moved = replace(read, name="tiny", sources=(replace(read.sources[0], table="gold/fct_other"), *read.sources[1:]))
    with pytest.raises(ContractError, match=r"\(source\.table\)"):
        check_one_meaning([read, moved])


def test_a_folder_with_two_meanings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(changed_text(), encoding="utf-8")
    assert list(read_feature_sets(tmp_path, contracts())) == ["small"]
    text = changed_text(("feature_set: small", "feature_set: tiny"), ("lag_days: 1", "lag_days: 2"))
    (tmp_path / "tiny.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ContractError, match=r"tiny: features\.units_lag_1: .*\(lag_days\)"):
        read_feature_sets(tmp_path, contracts())
