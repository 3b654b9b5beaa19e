"""The system under test as fresh processes on one root: started, harmed, started again."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.faults.oracle import Oracle

CHECKOUT = Path(__file__).resolve().parents[2]
PHASE_SECONDS = 120
_LISTENING = re.compile(r"listening on https?://([\d.]+):(\d+)")


class Arm(NamedTuple):
    """The fault of a trial: an action at the nth pass of a failpoint, or a kill at an instant (share of a run)."""

    failpoint: str | None
    action: str
    nth: int = 1
    instant: float | None = None
    """Seconds after the process was ready, for a kill at a random instant."""


@dataclass
class ChildSystem:
    """One root, its oracle, and the processes that are started on it. `folder` holds all of a trial's artefacts."""

    folder: Path
    seed: int
    mutant: str | None = None
    clock_offset: float = 0.0
    world: dict[str, int] = field(default_factory=dict)
    root_folder: Path | None = None
    """Where the root lies if not in `folder`: a mounted image."""
    site: str = "root"
    """The root that clients talk to; another one after a promotion."""
    extra: dict[str, str] = field(default_factory=dict)
    """Environment of the children: where their source is."""
    n_phases: int = 0

    @property
    def root(self) -> Path:
        return (self.root_folder or self.folder) / self.site

    @property
    def oracle_file(self) -> Path:
        return self.folder / "oracle.jsonl"

    @property
    def firing_log(self) -> Path:
        return self.folder / "fired.log"

    @property
    def has_fired(self) -> bool:
        return self.firing_log.exists()

    @property
    def oracle(self) -> Oracle:
        return Oracle(self.oracle_file)

    def run(self, steps: Sequence[str], arm: Arm | None = None, *, passes: Path | None = None) -> int:
        """One process through these steps; its exit code. Unarmed it has to end well.

        Raises:
            AssertionError: An unarmed phase failed: what was harmed before it does not run any more.
        """
        process = self.start(steps, arm, passes=passes)
        return self.finish(process, arm)

    def start(
        self,
        steps: Sequence[str],
        arm: Arm | None = None,
        *,
        passes: Path | None = None,
        wrap: Callable[[list[str]], list[str]] = list,
    ) -> subprocess.Popen:
        """A process that begins these steps; `wrap` may put a tracer before its command."""
        self.n_phases += 1
        plan = {
            "root": str(self.root),
            "oracle": str(self.oracle_file),
            "seed": self.seed,
            "world": self.world,
            "steps": list(steps),
            "mutant": self.mutant,
            "clock_offset": self.clock_offset,
            "count_passes": str(passes) if passes else None,
        }
        path = self.folder / f"plan-{self.n_phases}.json"
        path.write_text(json.dumps(plan))
        command = [sys.executable, "-m", "tests.faults.runner", str(path)]
        with self._log().open("ab") as log:
            return subprocess.Popen(wrap(command), cwd=CHECKOUT, env=self.environment(arm), stdout=log, stderr=log)

    def finish(self, process: subprocess.Popen, arm: Arm | None) -> int:
        """Wait for a phase, or kill it at the instant the trial names."""
        if arm is not None and arm.instant is not None:
            self.await_ready(process)
            time.sleep(arm.instant)
            if process.poll() is None:
                process.kill()
                Oracle(self.firing_log).note("fired", instant=arm.instant)
        code = process.wait(PHASE_SECONDS)
        if arm is None and code != 0:
            raise AssertionError(f"an unharmed phase ended with {code}: {self.last_words()}")
        return code

    def await_ready(self, process: subprocess.Popen) -> None:
        """Wait until the last process has imported what it needs."""
        ready = self.folder / f"plan-{self.n_phases}.json.ready"
        deadline = time.monotonic() + PHASE_SECONDS
        while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)

    def address_of(self, process: subprocess.Popen) -> tuple[str, int] | None:
        """Where a server that was just started listens; None where it died before it said so."""
        deadline = time.monotonic() + PHASE_SECONDS
        while time.monotonic() < deadline:
            if match := _LISTENING.search(self._log().read_text(errors="replace")):
                return match[1], int(match[2])
            if process.poll() is not None:
                return None
            time.sleep(0.005)
        raise AssertionError("the server said nothing")

    def environment(self, arm: Arm | None) -> dict[str, str]:
        """The environment of a child: few threads, and the armed failpoint."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("REPLENISH_")}
        own |= self.extra
        own |= {
            "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'platform'}",
            "POLARS_MAX_THREADS": "2",
            "REPLENISH_ROOT": str(self.root),
        }
        if arm is not None and arm.failpoint is not None:
            own["REPLENISH_FAILPOINT"] = f"{arm.failpoint}:{arm.action}:{arm.nth}"
            own["REPLENISH_FAILPOINT_LOG"] = str(self.firing_log)
        return own

    def last_words(self) -> str:
        """The end of what the last process wrote, in one line."""
        return " | ".join(self.words().strip().splitlines()[-3:])[-600:]

    def words(self) -> str:
        """All that the last process wrote; threads of a library may have the last word."""
        log = self._log()
        return log.read_text(errors="replace") if log.exists() else ""

    def _log(self) -> Path:
        return self.folder / f"phase-{self.n_phases}.log"


@contextmanager
def stopping(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """Make sure that a process does not outlive the block."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)


@contextmanager
def killed_at(system: ChildSystem, process: subprocess.Popen, arm: Arm | None) -> Iterator[None]:
    """Kill a running server at the instant the trial names, while the block talks to it."""
    if arm is None or arm.instant is None:
        yield
        return
    timer = threading.Thread(target=system.finish, args=(process, arm), daemon=True)
    timer.start()
    yield
    timer.join(PHASE_SECONDS)


def random_instant(seed: int, seconds: float) -> Arm:
    """A kill at an instant of a phase that takes about `seconds`."""
    return Arm(None, "kill", instant=random.Random(f"instant {seed}").uniform(0.0, max(0.1, seconds)))
