"""One trial: lay out a root, harm it, look, complete the run in fresh processes, look again."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from tests.faults.child_system import Arm, ChildSystem
from tests.faults.code_digest import code_digest
from tests.faults.invariants import final_breaches, lake_breaches, lake_digests, log_breaches
from tests.faults.oracle import Oracle, read_acks
from tests.faults.power_cut import (
    IMAGE_BYTES,
    WRITER_OPTIONS,
    cut,
    fill,
    force_all,
    mounted,
    new_image,
    small_disk,
)
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.world import lay_out, make_world

N_WORLDS = 5
"""Worlds that trials take turns with: each has an unharmed twin, which is made once for a version of the code."""

KEEP_TWINS_SECONDS = 6 * 3600


@dataclass
class TrialResult:
    """What one trial showed. It counts only if its fault happened; `breaches` is empty where every invariant held."""

    kind: str
    door: str
    failpoint: str | None
    action: str
    nth: int
    seed: int
    fired: bool
    breaches: list[str] = field(default_factory=list)
    seconds: float = 0.0
    mutant: str | None = None
    instant: float | None = None

    @property
    def replay(self) -> str:
        """The line that runs this trial again."""
        place = self.failpoint or f"instant={self.instant}"
        line = f"python -m tests.faults.replay {self.kind} {self.door} {place} {self.action} {self.nth} {self.seed}"
        return line + (f" --mutant {self.mutant}" if self.mutant else "")

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Twin:
    """The unharmed run of a door and world: a root to start trials from, passes, digests and how long it takes."""

    template: Path
    digests: dict[str, str]
    passes: dict[str, int]
    seconds: float


@cache
def twin_of(door: str, seed: int) -> Twin:
    """The twin of `seed % N_WORLDS`, made once per version of the code and kept in the temporary folder."""
    if door not in SCENARIOS:
        raise AssertionError(f"door {door} has no scenario")
    world_seed = seed % N_WORLDS
    base = Path(tempfile.gettempdir()) / f"replenish-faults-{os.getuid()}-{code_digest()[:12]}"
    folder = base / f"{door}-{world_seed}"
    if not (folder / "twin.json").exists():
        _forget_old(base)
        base.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{door}-{world_seed}-", dir=base))
        _make_twin(door, world_seed, draft)
        try:
            draft.rename(folder)
        except OSError:
            # Another worker was faster; both made the same.
            shutil.rmtree(draft)
    made = json.loads((folder / "twin.json").read_text())
    return Twin(folder / "template", made["digests"], made["passes"], made["seconds"])


def _forget_old(base: Path) -> None:
    """Remove twins of other versions of the code that nobody used for some hours."""
    for other in base.parent.glob(f"{base.name.rpartition('-')[0]}-*"):
        if other != base and time.time() - other.stat().st_mtime > KEEP_TWINS_SECONDS:
            shutil.rmtree(other, ignore_errors=True)


def _make_twin(door: str, seed: int, folder: Path) -> None:
    scenario = SCENARIOS[door]
    (folder / "template").mkdir()
    template = ChildSystem(folder / "template", seed)
    lay_out(template.root)
    scenario.prepare(template)
    (folder / "run").mkdir()
    run = ChildSystem(folder / "run", seed)
    start_from(folder / "template", run)
    scenario.harm(run, None, folder / "passes.json")
    seconds = time.time() - min(path.stat().st_mtime for path in (folder / "run").glob("*.ready"))
    scenario.complete(run)
    digests = lake_digests(run.root) if scenario.has_twin else {}
    breaches = final_breaches(
        run.root, run.oracle_file, make_world(seed), digests, scenario.truth(run, make_world(seed))
    )
    if breaches:
        raise AssertionError(f"the unharmed run of door {door}, world {seed}, is wrong already: {breaches[:5]}")
    passes = json.loads((folder / "passes.json").read_text())
    shutil.rmtree(folder / "run")
    (folder / "twin.json").write_text(json.dumps({"digests": digests, "passes": passes, "seconds": seconds}))


def start_from(template: Path, system: ChildSystem) -> None:
    """Begin on a copy of the template."""
    shutil.copytree(template / "root", system.root)
    if (template / "oracle.jsonl").exists():
        shutil.copyfile(template / "oracle.jsonl", system.oracle_file)


def begin(twin: Twin, scenario: Scenario, system: ChildSystem) -> None:
    """The state that a trial starts from. A mutant prepares its own: it may lie from the first record on."""
    if system.mutant is None:
        start_from(twin.template, system)
        return
    lay_out(system.root)
    scenario.prepare(system)


def run_trial(kind: str, door: str, arm: Arm, seed: int, folder: Path, *, mutant: str | None = None) -> TrialResult:
    """Harm one run and look. `folder` is made, and removed again unless something was found.

    Args:
        kind: `kill` and `error` at a failpoint, `instant` (a kill at any moment), `cut` (a power cut, at a failpoint or
            at any moment), `full` (a disk with `nth` KB left), `clock` (the clock jumps by hours after the fault).
    """
    began = time.monotonic()
    twin, world_seed = twin_of(door, seed), seed % N_WORLDS
    folder.mkdir(parents=True)
    system = ChildSystem(folder, world_seed, mutant=mutant)
    with ExitStack() as stack:
        try:
            scenario = SCENARIOS[door]
            breaches = _INJECTORS[kind](system, arm, twin, scenario, stack)
            world = make_world(world_seed)
            truth = scenario.truth(system, world)
            breaches += final_breaches(system.root, system.oracle_file, world, twin.digests, truth)
        except AssertionError as fault:
            breaches = [str(fault)]
        result = TrialResult(
            kind, door, arm.failpoint, arm.action, arm.nth, seed, system.has_fired, breaches, 0, mutant, arm.instant
        )
        if breaches and system.has_fired and system.root_folder:
            shutil.copytree(system.root, folder / "root", dirs_exist_ok=True)
    result.seconds = round(time.monotonic() - began, 2)
    if result.breaches and result.fired:
        (folder / "result.json").write_text(json.dumps(result.as_json(), indent=1))
    else:
        shutil.rmtree(folder)
    return result


def _killed(system: ChildSystem, arm: Arm, twin: Twin, scenario: Scenario, stack: ExitStack) -> list[str]:
    """The process dies (or fails) where the arm says; what is there is looked at before anything runs again."""
    begin(twin, scenario, system)
    scenario.harm(system, arm, None)
    breaches = breaches_now(system, scenario)
    scenario.complete(system)
    return breaches


def _clock_jumped(system: ChildSystem, arm: Arm, twin: Twin, scenario: Scenario, stack: ExitStack) -> list[str]:
    """As a kill, with a clock that stands hours away before and after the fresh start."""
    begin(twin, scenario, system)
    system.clock_offset = 7200.0
    scenario.harm(system, arm, None)
    breaches = breaches_now(system, scenario)
    system.clock_offset = -7200.0
    scenario.complete(system)
    return breaches


def _cut(system: ChildSystem, arm: Arm, twin: Twin, scenario: Scenario, stack: ExitStack) -> list[str]:
    """The power goes: what comes back is what was forced to disk. The lake may need the doctor, the log may not."""
    image = new_image(system.folder / "disk.img")
    system.root_folder = stack.enter_context(mounted(image, system.folder / "before", WRITER_OPTIONS))
    begin(twin, scenario, system)
    force_all(system.root)
    scenario.harm(system, arm, None)
    copy = cut(image, system.folder / "after.img")
    system.root_folder = stack.enter_context(mounted(copy, system.folder / "after"))
    breaches = [f"after the cut: {breach}" for breach in log_breaches(system.root, read_acks(system.oracle_file))]
    if lost := lake_breaches(system.root):
        Oracle(system.folder / "lake-after-cut.txt").note_all([{"breach": breach} for breach in lost])
        system.run(["doctor"])
    scenario.complete(system)
    return breaches


def _disk_filled(system: ChildSystem, arm: Arm, twin: Twin, scenario: Scenario, stack: ExitStack) -> list[str]:
    """The disk has `nth` KB left and fills up on the way; then space comes back and the run goes on."""
    system.root_folder = stack.enter_context(small_disk(system.folder / "disk", IMAGE_BYTES))
    begin(twin, scenario, system)
    _drop_elsewhere(system)
    ballast = fill(system.root_folder, arm.nth * 1024)
    code = scenario.harm(system, Arm(None, "enospc"), None)
    words = system.words()
    if code:
        Oracle(system.firing_log).note("fired", left_kb=arm.nth, code=code)
    # The checker opens the journal, which on a full disk cannot be: space first, then look.
    ballast.unlink()
    breaches = breaches_now(system, scenario)
    if code and "replenish.errors.StoreFull: " not in words:
        breaches.append(f"the full disk was not named as such: {words[-600:]}")
    scenario.complete(system)
    return breaches


def _drop_elsewhere(system: ChildSystem) -> None:
    """The source writes its files on a disk of its own: how it fares is not what the trial asks."""
    drop = system.root / "drop"
    shutil.move(drop, system.folder / "drop")
    drop.symlink_to(system.folder / "drop")


def breaches_now(system: ChildSystem, scenario: Scenario) -> list[str]:
    """What is wrong right after a fault, before anything was repaired or completed."""
    found = log_breaches(system.root, read_acks(system.oracle_file))
    found += lake_breaches(system.root) if scenario.has_sound_lake else []
    return [f"after the fault: {breach}" for breach in found]


_INJECTORS = {
    "kill": _killed,
    "instant": _killed,
    "error": _killed,
    "clock": _clock_jumped,
    "cut": _cut,
    "full": _disk_filled,
}
