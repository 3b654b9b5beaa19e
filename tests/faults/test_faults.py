"""The short tier: kills at failpoints of every door, errors, a power cut, full disks, the fsync order, the mutants."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from replenish.stores.failpoints import FAILPOINTS
from tests.faults.child_system import Arm, ChildSystem, random_instant, stopping
from tests.faults.code_digest import code_digest
from tests.faults.matrix import WHOLE_RUNS, Cell, arm_of, kill_cells
from tests.faults.mutants import MUTANTS
from tests.faults.power_cut import can_mount
from tests.faults.scenarios import SCENARIOS
from tests.faults.sync_order import has_strace
from tests.faults.sync_order_trial import order_of
from tests.faults.trials import N_WORLDS, TrialResult, run_trial, twin_of
from tests.faults.world import lay_out

N_KILLS = 30
FAR_DOORS = ("kafka", "cdc")
"""Their sources take seconds to start: their own tests kill them, and so do the longer tiers."""

pytestmark = pytest.mark.slow


def _chosen() -> list[tuple[Cell, int]]:
    """Thirty cells of the matrix, others for every version of the code, doors evenly; worlds are those of one twin."""
    dice = random.Random(code_digest())
    cells = [cell for cell in kill_cells() if cell.door not in FAR_DOORS]
    dice.shuffle(cells)
    turn = {cell: sum(other.door == cell.door for other in cells[:place]) for place, cell in enumerate(cells)}
    cells.sort(key=lambda cell: turn[cell])
    return [(cell, N_WORLDS * dice.randrange(100)) for cell in cells[:N_KILLS]]


def assert_sound(result: TrialResult) -> None:
    assert result.fired, f"the fault did not happen: {result.replay}"
    assert not result.breaches, f"{result.replay}\n" + "\n".join(result.breaches[:10])


def test_every_failpoint_has_a_scenario_at_each_of_its_doors():
    doors = {door for point in FAILPOINTS.values() for door in point.doors}
    assert doors <= set(SCENARIOS), f"write a scenario for {doors - set(SCENARIOS)}"


@pytest.mark.parametrize("door", [door for door in SCENARIOS if door not in (*FAR_DOORS, *WHOLE_RUNS)])
def test_the_scenario_of_a_door_passes_all_its_failpoints(door: str):
    passes = twin_of(door, 0).passes
    missed = [point.name for point in FAILPOINTS.values() if door in point.doors and not passes.get(point.name)]
    assert not missed


@pytest.mark.parametrize("nr", range(N_KILLS))
def test_a_kill_loses_and_doubles_nothing(nr: int, tmp_path: Path):
    cell, seed = _chosen()[nr]
    assert_sound(run_trial("kill", cell.door, arm_of(cell, seed), seed, tmp_path / "trial"))


@pytest.mark.parametrize("action", ["raise", "eio", "enospc", "delay"])
def test_an_error_in_the_middle_loses_and_doubles_nothing(action: str, tmp_path: Path):
    place = {"raise": "journal.before_commit", "eio": "lake.written", "enospc": "parts.written", "delay": "lake.done"}
    door = "lake" if place[action].startswith("lake") else "settle"
    assert_sound(run_trial("error", door, Arm(place[action], action, 1), 0, tmp_path / "trial"))


@pytest.mark.parametrize("door", ["file", "http", "lake"])
def test_a_clock_that_jumps_with_a_kill_loses_and_doubles_nothing(door: str, tmp_path: Path):
    arm = random_instant(0, twin_of(door, 0).seconds / 2)
    assert_sound(run_trial("clock", door, arm, 0, tmp_path / "trial"))


@pytest.mark.skipif(not can_mount(), reason="no images can be mounted here; the fsync order is checked instead")
@pytest.mark.parametrize(("door", "place"), [("file", "journal.after_commit"), ("lake", "lake.written")])
def test_a_power_cut_loses_nothing(door: str, place: str, tmp_path: Path):
    assert_sound(run_trial("cut", door, Arm(place, "kill", 2), 0, tmp_path / "trial"))


@pytest.mark.skipif(not can_mount(), reason="no small disk can be mounted here")
@pytest.mark.parametrize("kilobytes", [0, 48, 128])
def test_a_full_disk_refuses_and_goes_on_once_there_is_room(kilobytes: int, tmp_path: Path):
    assert_sound(run_trial("full", "file", Arm(None, "enospc", kilobytes), 0, tmp_path / "trial"))


@pytest.mark.skipif(not can_mount(), reason="no small disk can be mounted here")
def test_a_whole_run_that_meets_a_full_disk_within_dbt_ends_as_one_that_did_not(tmp_path: Path):
    assert_sound(run_trial("full", "rerun", Arm(None, "enospc", 640), 0, tmp_path / "trial"))


@pytest.mark.skipif(not has_strace(), reason="strace is not there, or may not trace")
@pytest.mark.parametrize("steps", [("files", "lake"), ("events", "settle", "lake", "seal")], ids=["files", "events"])
def test_nothing_is_acknowledged_before_it_is_on_disk(steps: tuple[str, ...], tmp_path: Path):
    order = order_of(steps, tmp_path)
    assert order.n_acks and order.n_commits and order.n_syncs
    assert not order.breaches


@pytest.mark.parametrize("name", MUTANTS)
def test_the_harness_catches_a_seeded_fault(name: str, tmp_path: Path):
    mutant = MUTANTS[name]
    if mutant.kind == "cut" and not can_mount():
        assert order_of(("files", "lake"), tmp_path, mutant=name).breaches
        return
    caught = run_trial(mutant.kind, mutant.door, mutant.arm, 0, tmp_path / "mutant", mutant=name)
    assert caught.fired and caught.breaches
    assert_sound(run_trial(mutant.kind, mutant.door, mutant.arm, 0, tmp_path / "unharmed"))


def test_a_second_instance_refuses(tmp_path: Path):
    system = ChildSystem(tmp_path, 0)
    lay_out(system.root)
    with stopping(system.start(["serve"])) as first:
        assert system.address_of(first) is not None
        with stopping(system.start(["serve"])) as second:
            assert second.wait(30) != 0
            assert "AlreadyRunning" in system.last_words()
        first.terminate()
        assert first.wait(30) == 0
