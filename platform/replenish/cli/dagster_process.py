"""Dagster as a child process: the CLI starts runs and the UI, and never imports Dagster itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

from replenish.cli.deployment import CHECKOUT
from replenish.drift.report import REPORTS_PORT
from replenish.errors import ReplenishError
from replenish.stores.full_disk import has_no_space, store_full, tells_of_full_disk
from replenish.stores.layout import RootLayout

FINISHED_STEP = re.compile(r" - (?P<step>[\w.\[\]]+) - STEP_SUCCESS")
FAILED_STEP = re.compile(r" - (?P<step>[\w.\[\]]+) - STEP_FAILURE - (?P<why>.*)")
KEPT_LINES = 30


class RunFailed(ReplenishError):
    """A Dagster run ended with a failure; the message names the step and the log file."""


def dagster_environment(layout: RootLayout) -> dict[str, str]:
    """Environment of a child: this root, its Dagster home, and the scripts of this Python first on PATH."""
    home = layout.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        shutil.copyfile(CHECKOUT / "resources" / "dagster.yaml", settings)
    scripts = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "REPLENISH_ROOT": str(layout.root.resolve()),
        "DAGSTER_HOME": str(home.resolve()),
        # LightGBM's threads would otherwise spin while they wait and take the cores from everybody else.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")]),
    }


def materialize(layout: RootLayout, *, select: str, origin: date | None, on_step: Callable[[str], None]) -> Path:
    """Run `dagster asset materialize` on this root; `on_step` hears of every finished step. Returns the log file.

    Raises:
        RunFailed: The run failed; its last lines are in the message, all of it in the log file.
        StoreFull: It failed for want of space; the same run goes on from what is done once there is room.
    """
    command = ["dagster", "asset", "materialize", "-m", "assets.definitions", "--select", select]
    if origin is not None:
        command += ["--partition", origin.isoformat()]
    log = layout.root / "logs" / f"run-{origin or 'all'}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    tail: list[str] = []
    is_full = False
    # Unbuffered: what a full disk does not take of the log must not come up again when it is closed.
    with log.open("wb", buffering=0) as sink:
        child = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=dagster_environment(layout),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        for line in child.stdout or ():
            with suppress(OSError):
                sink.write(line.encode())
            is_full = is_full or tells_of_full_disk(line)
            tail = [*tail[-KEPT_LINES:], line]
            if found := FINISHED_STEP.search(line):
                on_step(found["step"])
            elif found := FAILED_STEP.search(line):
                failures.append(f"{found['step']}: {found['why']}")
        code = child.wait()
    if code and (is_full or has_no_space(layout.root)):
        raise store_full("finish the run", layout.root, "; ".join(failures) or "".join(tail))
    if code:
        raise RunFailed("\n".join([f"the run failed; all of it is in {log}", *(failures or tail)]))
    return log


def serve(layout: RootLayout, *, port: int, arguments: Sequence[str] = ()) -> int:
    """Dagster's UI, its daemon and the reports of this root on 127.0.0.1, until interrupted; returns the exit code."""
    command = ["dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port), *arguments]
    with reports_server(layout):
        return subprocess.run(command, cwd=CHECKOUT, env=dagster_environment(layout), check=False).returncode


@contextmanager
def reports_server(layout: RootLayout, port: int = REPORTS_PORT) -> Iterator[None]:
    """Serve the reports folder of a root on 127.0.0.1; where the port is taken, their paths remain."""
    layout.reports.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory"]
    server = subprocess.Popen([*command, str(layout.reports)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        # Killed, not asked: it holds nothing, and a process started with SIGTERM ignored would never go.
        server.kill()
        server.wait()
