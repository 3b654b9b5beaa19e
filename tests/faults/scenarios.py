"""What happens at each door in a trial: what lies there before, what is harmed, and how the run is completed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.faults.child_system import Arm, ChildSystem


class Scenario(NamedTuple):
    """One door. `harm` runs armed (or, for the twin, unarmed, counting passes) and gives the
    exit code of the process under test; `complete` is always unarmed."""

    door: str
    prepare: Callable[[ChildSystem], None]
    harm: Callable[[ChildSystem, Arm | None, Path | None], int]
    complete: Callable[[ChildSystem], None]


def in_process(door: str, *, prepare: tuple[str, ...], harm: tuple[str, ...], complete: tuple[str, ...]) -> Scenario:
    """A scenario whose client lives in the process that is harmed: every step is a call of the product."""

    def run_prepare(system: ChildSystem) -> None:
        if prepare:
            system.run(prepare)

    def run_harm(system: ChildSystem, arm: Arm | None, passes: Path | None) -> int:
        return system.run(harm, arm, passes=passes)

    def run_complete(system: ChildSystem) -> None:
        system.run(complete)

    return Scenario(door, run_prepare, run_harm, run_complete)


SCENARIOS: dict[str, Scenario] = {
    scenario.door: scenario
    for scenario in (
        in_process("file", prepare=("files:0",), harm=("files:1-2",), complete=("files", "lake")),
        in_process(
            "lake", prepare=("files:0-1",), harm=("lake", "files:2", "lake"), complete=("lake", "files", "lake")
        ),
    )
}
