"""Which trials a tier is made of: every failpoint at every door it can be reached from, and kills at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from replenish.stores.failpoints import FAILPOINTS
from tests.faults.child_system import Arm, random_instant
from tests.faults.scenarios import SCENARIOS
from tests.faults.trials import twin_of

OTHER_ACTIONS = ("raise", "eio", "enospc", "delay")
DISK_KB = {"file": (208, 16), "settle": (512, 16), "lake": (512, 16), "rerun": (896, 64), "run": (3840, 192)}
"""By door, KB that its run needs at least, and the step of the sweep that leaves as much or less on the disk.

`run` is a whole first run, from files and events to gold and features, `rerun` a later one.
"""


WHOLE_RUNS = ("run", "rerun")
"""Only for full disks: dbt is a process of its own, which a kill of the one that started it does not reach."""


class Cell(NamedTuple):
    """One kind of fault at one door: `place` is the failpoint, `any` for any moment, KB left for a full disk."""

    kind: str
    door: str
    place: str
    action: str = "kill"

    @property
    def name(self) -> str:
        return f"{self.kind} {self.door} {self.place} {self.action}"


TIERS: dict[str, dict[str, int]] = {
    "nightly": {"kills": 300, "cuts": 30, "per_cell": 2, "errors": 1, "disk_every": 4, "clock": 10},
    "release": {"kills": 1000, "cuts": 200, "per_cell": 5, "errors": 2, "disk_every": 1, "clock": 40},
}
CUT_DOORS = ("file", "settle", "lake", "seal", "maintain", "ship")


def kill_cells() -> list[Cell]:
    """Every failpoint at every one of its doors."""
    return [Cell("kill", door, point.name) for point in FAILPOINTS.values() for door in point.doors]


def targets(tier: str) -> dict[Cell, int]:
    """Trials that a tier asks of every cell."""
    sizes = TIERS[tier]
    cells = kill_cells()
    wanted = dict.fromkeys(cells, sizes["per_cell"])
    rest = max(sizes["kills"] - sizes["per_cell"] * len(cells), len(SCENARIOS) * 2)
    wanted |= _spread([Cell("instant", door, "any") for door in SCENARIOS if door not in WHOLE_RUNS], rest)
    doors = [door for door in CUT_DOORS if door in SCENARIOS]
    points = [Cell("cut", cell.door, cell.place) for cell in cells if cell.door in doors]
    share = sizes["cuts"] // 2
    wanted |= _spread(points, max(share, len(points) if tier == "release" else 0))
    wanted |= _spread([Cell("cut", door, "any") for door in doors], share)
    for place, cell in enumerate(cells):
        action = OTHER_ACTIONS[place % len(OTHER_ACTIONS)]
        if tier == "release":
            wanted |= {Cell("error", cell.door, cell.place, action): 1 for action in OTHER_ACTIONS}
        else:
            wanted[Cell("error", cell.door, cell.place, action)] = 1
    for door, (most, step) in DISK_KB.items():
        lefts = range(0, most, step * sizes["disk_every"])
        wanted |= {Cell("full", door, str(left), "enospc"): 1 for left in lefts}
    wanted |= _spread([Cell("clock", door, "any") for door in doors], sizes["clock"])
    return {cell: n for cell, n in wanted.items() if n}


def _spread(cells: list[Cell], n: int) -> dict[Cell, int]:
    """n trials over the cells, as evenly as can be."""
    return {cell: n // len(cells) + (place < n % len(cells)) for place, cell in enumerate(cells)} if cells else {}


def arm_of(cell: Cell, seed: int) -> Arm:
    """The fault of one trial of a cell: which pass of the failpoint is hit, and when, follow from the seed.

    Raises:
        AssertionError: The failpoint is never passed in this door's scenario: the scenario has to reach it.
    """
    twin = twin_of(cell.door, seed)
    if cell.kind == "full":
        return Arm(None, "enospc", nth=int(cell.place))
    if cell.place == "any":
        return random_instant(seed, twin.seconds)
    passes = twin.passes.get(cell.place, 0)
    if not passes:
        raise AssertionError(f"{cell.place} is never passed in the scenario of door {cell.door}")
    # Multiplied, so that trials of one world do not hit the same pass again.
    return Arm(cell.place, cell.action, nth=1 + (seed * 7 // 5) % passes)


def unreached() -> Iterator[Cell]:
    """Failpoints that a door's scenario never passes, though the registry says that it can."""
    for cell in kill_cells():
        if cell.door not in SCENARIOS or not twin_of(cell.door, 0).passes.get(cell.place):
            yield cell
