"""Recorded versions of feature sets: a number keeps its meaning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from replenish.errors import ContractError
from replenish.features.definitions.identity import feature_set_digest
from replenish.features.definitions.recorded import (
    judge_feature_versions,
    record_feature_set,
    recorded_feature_sets,
)
from tests.unit.features.definitions.small_set import small_set


def refusal(folder: Path, *edits: tuple[str, str]) -> str | None:
    """What the one set of the folder is refused for."""
    (verdict,) = judge_feature_versions({"small": small_set(folder, *edits)}, folder)
    return verdict.refusal


def test_a_new_set_has_to_be_recorded_once(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "is not recorded: `replenish features record`"
    path = record_feature_set(small_set(tmp_path), tmp_path)
    assert path is not None
    assert path.name == "small@1.0.0.json"
    assert refusal(tmp_path) is None
    before = path.read_bytes()
    assert record_feature_set(small_set(tmp_path), tmp_path) is None
    assert path.read_bytes() == before


def test_words_may_change_under_a_recorded_number(tmp_path: Path) -> None:
    record_feature_set(small_set(tmp_path), tmp_path)
    assert refusal(tmp_path, ("Units of a week.", "Weekly units.")) is None


def test_another_meaning_under_a_recorded_number_is_refused(tmp_path: Path) -> None:
    record_feature_set(small_set(tmp_path), tmp_path)
    edit = ("window_days: 7", "window_days: 8")
    words = "differs from the recorded version of its number (features.units_sum__7.window_days): raise `version`"
    assert refusal(tmp_path, edit) == f"{words}, then record it"
    with pytest.raises(ContractError, match=r"small@1\.0\.0 differs from the recorded version"):
        record_feature_set(small_set(tmp_path, edit), tmp_path)


def test_a_long_list_of_changes_is_cut(tmp_path: Path) -> None:
    record_feature_set(small_set(tmp_path), tmp_path)
    edits = [("window_days: 7", "window_days: 8")] * 2 + [
        ("lag_days: 1", "lag_days: 2"),
        ("horizon_days: 28", "horizon_days: 7"),
    ]
    edits += [("offset_days: 2", "offset_days: 3"), ("time_to_live_days: 30", "time_to_live_days: 7")]
    assert "and 2 more): raise `version`" in str(refusal(tmp_path, *edits))


def test_a_raised_number_takes_the_new_meaning(tmp_path: Path) -> None:
    record_feature_set(small_set(tmp_path), tmp_path)
    edits = (("version: 1.0.0", "version: 1.10.0"), ("window_days: 7", "window_days: 8"))
    assert refusal(tmp_path, *edits) == "is not recorded: `replenish features record`"
    record_feature_set(small_set(tmp_path, *edits), tmp_path)
    assert refusal(tmp_path, *edits) is None
    both = recorded_feature_sets("small", tmp_path)
    assert [record.version for record in both] == ["1.0.0", "1.10.0"]
    assert both[0].feature_set_id == feature_set_digest(small_set(tmp_path))


def test_a_number_never_falls(tmp_path: Path) -> None:
    record_feature_set(small_set(tmp_path, ("version: 1.0.0", "version: 1.10.0")), tmp_path)
    fallen = ("version: 1.0.0", "version: 1.9.0")
    assert refusal(tmp_path, fallen) == "is older than the recorded 1.10.0: a version number only rises"
    with pytest.raises(ContractError, match="a version number only rises"):
        record_feature_set(small_set(tmp_path, fallen), tmp_path)


def test_an_altered_record_is_refused(tmp_path: Path) -> None:
    path = record_feature_set(small_set(tmp_path), tmp_path)
    assert path is not None
    path.write_text(
        path.read_text(encoding="utf-8").replace('"window_days": 28', '"window_days": 27'), encoding="utf-8"
    )
    with pytest.raises(ContractError, match="a recorded version was altered: bring it back"):
        refusal(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"feature_set": "small"})])
def test_a_broken_record_is_refused(tmp_path: Path, text: str) -> None:
    path = record_feature_set(small_set(tmp_path), tmp_path)
    assert path is not None
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ContractError, match="not a recorded feature set: bring back the recorded file"):
        refusal(tmp_path)


def test_a_renamed_record_is_refused(tmp_path: Path) -> None:
    path = record_feature_set(small_set(tmp_path), tmp_path)
    assert path is not None
    path.rename(path.with_name("small@3.0.0.json"))
    with pytest.raises(ContractError, match=r"holds small@1\.0\.0, not what its name says"):
        refusal(tmp_path)


def test_a_recorded_set_may_not_vanish(tmp_path: Path) -> None:
    record_feature_set(small_set(tmp_path), tmp_path)
    with pytest.raises(ContractError, match="its set has no file"):
        judge_feature_versions({}, tmp_path)
