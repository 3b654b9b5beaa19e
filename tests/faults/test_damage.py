"""The damage matrix: every kind of damage is found, nothing is deleted, and what is made again equals what was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from replenish.cli.deployment import Deployment
from replenish.cli.mend_lake import LakeMender, examine_lake
from replenish.stores.doctor.quarantine import Quarantine
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout
from tests.faults.damaged_world import LAKE_DAMAGES, SALES, build_world, digests, files_below


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """A world whose files the doctor has seen once, found clean."""
    world = build_world(tmp_path_factory.mktemp("sound") / "root")
    assert examine_lake(world, with_digests=True) == []
    return world


@pytest.fixture
def world(sound: Deployment, tmp_path: Path) -> Deployment:
    root = tmp_path / "root"
    shutil.copytree(sound.layout.root, root)
    layout = RootLayout(root)
    return Deployment(layout, sound.dataset, {"sales": SALES}, DeltaLake(layout.lake))


def no_gold() -> None:
    raise AssertionError("this world has no gold")


@pytest.mark.parametrize("table", ["bronze/sales", "silver/sales"])
@pytest.mark.parametrize("damage", LAKE_DAMAGES)
def test_a_damaged_table_is_found_and_made_whole(sound: Deployment, world: Deployment, table: str, damage: str) -> None:
    kind, inflict = LAKE_DAMAGES[damage]
    inflict(world.layout.lake / table)
    before = files_below(world.layout.root)
    findings = examine_lake(world, with_digests=True)
    assert kind in {finding.kind for finding in findings if finding.subject == table}
    quarantine = Quarantine(world.layout.root, world.layout.quarantine, "visit")
    treatments = LakeMender(world, quarantine, no_gold).mend(findings)
    assert [t.advice for t in treatments if not t.is_mended] == []
    assert examine_lake(world, with_digests=True) == []
    assert digests(world) == digests(sound)
    assert {inode for inode, _ in before} <= {inode for inode, _ in files_below(world.layout.root)}
