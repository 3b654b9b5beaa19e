"""Feature definitions: none changes its meaning under a recorded version, and the catalogue says what they say."""

from __future__ import annotations

from replenish.contracts.reader import read_contracts
from replenish.features.definitions.catalogue import catalogue_is_current, catalogue_text
from replenish.features.definitions.reader import read_feature_sets
from replenish.features.definitions.recorded import judge_feature_versions


def test_no_definition_changed_without_a_new_recorded_version() -> None:
    verdicts = judge_feature_versions(read_feature_sets())
    assert not [f"{v.name}@{v.version} {v.refusal}" for v in verdicts if v.refusal is not None]


def test_the_feature_catalogue_is_current() -> None:
    text = catalogue_text(read_feature_sets().values(), read_contracts())
    assert catalogue_is_current(text), "docs/features.md is stale: `replenish features catalogue`"
