"""Every injected skew or leak bug is caught by the check that is named for it, and without bugs all checks pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from replenish.features.definitions.recorded import record_feature_set
from tests.skew.checks import CHECKS, Workbench
from tests.skew.mutants import MUTANTS, SkewMutant
from tests.unit.features.definitions.small_set import small_set
from tests.unit.features.reconciliation.served_world import OLDER, SET

N_BUGS = 30
"""Of the acceptance of known-time features."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    small, served = (tmp_path_factory.mktemp(name) for name in ("small", "served"))
    record_feature_set(small_set(small), small)
    for each in (OLDER, SET):
        record_feature_set(each, served)
    return small, served


@pytest.fixture
def bench(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Workbench:
    # One vector that nothing explains is enough here.
    monkeypatch.setattr("replenish.features.reconciliation.diagnosis.MOST_SEARCHED", 1)
    return Workbench(*folders, feature_set=small_set(folders[0]))


@pytest.mark.parametrize("name", CHECKS)
def test_without_a_bug_the_check_passes(bench: Workbench, name: str) -> None:
    assert CHECKS[name](bench) is None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.name}-{mutant.check}")
def test_the_named_check_catches(bench: Workbench, mutant: SkewMutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.inject(bench, monkeypatch)
    complaint = CHECKS[mutant.check](bench)
    assert complaint, f"{mutant.name} passed {mutant.check}"


def test_there_are_as_many_bugs_as_asked_for_and_no_idle_check() -> None:
    assert len(MUTANTS) >= N_BUGS
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.check for mutant in MUTANTS} == set(CHECKS)
