"""One trial: lay out a root, harm it, look, complete the run in fresh processes, look again."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from tests.faults.child_system import Arm, ChildSystem
from tests.faults.code_digest import code_digest
from tests.faults.invariants import final_breaches, lake_breaches, lake_digests, log_breaches
from tests.faults.oracle import read_acks
from tests.faults.scenarios import SCENARIOS
from tests.faults.world import lay_out, make_world

N_WORLDS = 5
"""Worlds that trials take turns with: each has an unharmed twin, which is made once for a version of the code."""


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
    world_seed = seed % N_WORLDS
    base = Path(tempfile.gettempdir()) / f"replenish-faults-{os.getuid()}-{code_digest()[:12]}"
    folder = base / f"{door}-{world_seed}"
    if not (folder / "twin.json").exists():
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


def _make_twin(door: str, seed: int, folder: Path) -> None:
    scenario = SCENARIOS[door]
    (folder / "template").mkdir()
    template = ChildSystem(folder / "template", seed)
    lay_out(template.root)
    scenario.prepare(template)
    (folder / "run").mkdir()
    run = start_from(folder / "template", folder / "run", seed)
    began = time.monotonic()
    scenario.harm(run, None, folder / "passes.json")
    seconds = time.monotonic() - began
    scenario.complete(run)
    digests = lake_digests(run.root)
    breaches = final_breaches(run.root, run.oracle_file, make_world(seed), digests)
    if breaches:
        raise AssertionError(f"the unharmed run of door {door}, world {seed}, is wrong already: {breaches[:5]}")
    passes = json.loads((folder / "passes.json").read_text())
    shutil.rmtree(folder / "run")
    (folder / "twin.json").write_text(json.dumps({"digests": digests, "passes": passes, "seconds": seconds}))


def start_from(template: Path, folder: Path, seed: int, **how: object) -> ChildSystem:
    """A system on a copy of the template."""
    system = ChildSystem(folder, seed, **how)  # type: ignore[arg-type]
    shutil.copytree(template / "root", system.root)
    if (template / "oracle.jsonl").exists():
        shutil.copyfile(template / "oracle.jsonl", system.oracle_file)
    return system


def run_trial(kind: str, door: str, arm: Arm, seed: int, folder: Path, *, mutant: str | None = None) -> TrialResult:
    """Harm one run and look; `folder` is made, and removed again unless something was found."""
    began = time.monotonic()
    twin, scenario, world_seed = twin_of(door, seed), SCENARIOS[door], seed % N_WORLDS
    folder.mkdir(parents=True)
    system = start_from(twin.template, folder, world_seed, mutant=mutant)
    breaches: list[str] = []
    scenario.harm(system, arm, None)
    acks = read_acks(system.oracle_file)
    breaches += [f"after the fault: {breach}" for breach in (*log_breaches(system.root, acks), *lake_breaches(system.root))]
    fired = system.has_fired
    try:
        scenario.complete(system)
        breaches += final_breaches(system.root, system.oracle_file, make_world(world_seed), twin.digests)
    except AssertionError as fault:
        breaches.append(str(fault))
    result = TrialResult(
        kind, door, arm.failpoint, arm.action, arm.nth, seed, fired, breaches, 0, mutant, instant=arm.instant
    )
    result.seconds = round(time.monotonic() - began, 2)
    if breaches and fired:
        (folder / "result.json").write_text(json.dumps(result.as_json(), indent=1))
    else:
        shutil.rmtree(folder)
    return result
