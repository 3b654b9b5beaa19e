"""The fsync order of one run of a door: traced, followed, judged."""

from __future__ import annotations

from pathlib import Path

from tests.faults.child_system import ChildSystem
from tests.faults.sync_order import SyncOrder, traced
from tests.faults.world import lay_out


def order_of(steps: tuple[str, ...], folder: Path, *, seed: int = 0, mutant: str | None = None) -> SyncOrder:
    """Run these steps on a new root under strace."""
    folder.mkdir(parents=True, exist_ok=True)
    system = ChildSystem(folder, seed, mutant=mutant)
    lay_out(system.root)
    trace = folder / "trace.txt"
    process = system.start(steps, wrap=lambda command: traced(command, trace))
    system.finish(process, None)
    order = SyncOrder(str(system.root), str(system.oracle_file)).read(trace)
    order.breaches += [f"at the end: {what}" for what in order.unsafe_in_lake()]
    return order
