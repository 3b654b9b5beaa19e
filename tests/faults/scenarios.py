"""What happens at each door in a trial: what lies there before, what is harmed, and how the run is completed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.faults.child_system import Arm, ChildSystem, killed_at, stopping
from tests.faults.client import offer_over_http
from tests.faults.world import make_world


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


def _over_http(system: ChildSystem, waves: range, arm: Arm | None = None, passes: Path | None = None) -> int:
    """`replenish serve` in a process of its own, clients in this one; its exit code."""
    process = system.start(["serve"], arm, passes=passes)
    with stopping(process), killed_at(system, process, arm):
        address = system.address_of(process)
        if address is not None:
            offer_over_http(make_world(system.seed, **system.world), system.oracle, waves, address)
        # A killed server is gone by now, one with an error may have stopped itself; another is told to.
        process.terminate()
        code = process.wait(60)
    if arm is None and code != 0:
        raise AssertionError(f"an unharmed server ended with {code}: {system.last_words()}")
    return code


def _complete_http(system: ChildSystem) -> None:
    _over_http(system, range(3))
    system.run(["settle", "lake"])


HTTP = Scenario(
    "http",
    prepare=lambda system: None,
    harm=lambda system, arm, passes: _over_http(system, range(2), arm, passes),
    complete=_complete_http,
)

SCENARIOS: dict[str, Scenario] = {
    scenario.door: scenario
    for scenario in (
        HTTP,
        in_process("events", prepare=(), harm=("events",), complete=("events", "settle", "lake")),
        in_process(
            "settle",
            prepare=("events:0-1",),
            harm=("settle", "lake", "events:2", "settle", "lake"),
            complete=("events", "settle", "lake"),
        ),
        in_process("file", prepare=("files:0",), harm=("files:1-2",), complete=("files", "lake")),
        in_process(
            "lake", prepare=("files:0-1",), harm=("lake", "files:2", "lake"), complete=("lake", "files", "lake")
        ),
    )
}
