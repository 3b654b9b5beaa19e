"""`docs/resilience.json`: what was tried, on which version of the code, and how it went. Appended to, never rewritten.

Only trials of the code as it is now count; `summary` says what those show and what is missing.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import apsw

from tests.faults.child_system import CHECKOUT
from tests.faults.code_digest import code_digest
from tests.faults.matrix import Cell, targets
from tests.faults.trials import TrialResult

_PLACES = re.compile(r"/[^\s\"']*/(?=(platform|tests|lake|journal)\b)")
"""Folders of the machine in what a failed trial said; the record speaks of the project only."""

RECORD = CHECKOUT / "docs" / "resilience.json"
NOT_TESTED = [
    "torn sectors below 4 KB; a disk that lies about a flush",
    "file systems other than ext4 and tmpfs; network file systems; object stores",
    "macOS and Windows",
    "a real Kafka cluster: transactions, and rebalances between brokers (the mock cluster of librdkafka was used)",
    "a kill or a power cut while dbt builds gold (full disks there are tried)",
    "a power cut while PostgreSQL or Kafka are the ones that lose power",
]


def read_runs(path: Path = RECORD) -> list[dict[str, Any]]:
    """All runs recorded so far."""
    return json.loads(path.read_text())["runs"] if path.exists() else []


def done(path: Path = RECORD) -> Counter[str]:
    """Counted trials of the present code, by cell name."""
    total: Counter[str] = Counter()
    for run in read_runs(path):
        if run["code_digest"] == code_digest():
            total.update({name: cell["trials"] for name, cell in run["cells"].items()})
    return total


def append_run(
    tier: str, shard: str, results: Iterable[tuple[Cell, TrialResult]], seconds: float, path: Path = RECORD
) -> dict[str, Any]:
    """Add one run: counts per cell, failures with the line that replays them, and what it ran on."""
    cells: dict[str, dict[str, Any]] = defaultdict(lambda: {"trials": 0, "failures": 0})
    failures, not_fired = [], 0
    for cell, result in results:
        if not result.fired:
            not_fired += 1
            continue
        cells[cell.name]["trials"] += 1
        if result.breaches:
            cells[cell.name]["failures"] += 1
            failures.append(
                {"replay": result.replay, "breaches": [_PLACES.sub("", text) for text in result.breaches[:5]]}
            )
    run = {
        "code_digest": code_digest(),
        "commit": _commit(),
        "tier": tier,
        "shard": shard,
        "recorded": datetime.now(UTC).isoformat(timespec="seconds"),
        "trials": sum(cell["trials"] for cell in cells.values()),
        "not_fired": not_fired,
        "failures": failures,
        "seconds": round(seconds, 1),
        "versions": versions(),
        "cells": dict(sorted(cells.items())),
    }
    path.parent.mkdir(exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        content = {"not_tested": NOT_TESTED, "runs": [*read_runs(path), run]}
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps(content, indent=1) + "\n")
        draft.replace(path)
    path.with_suffix(".lock").unlink(missing_ok=True)
    return run


def versions() -> dict[str, str]:
    """What the trials ran on."""
    found = {name: version(name) for name in ("deltalake", "polars", "apsw")}
    system = {"python": platform.python_version(), "sqlite": apsw.sqlite_lib_version(), "kernel": platform.release()}
    return system | found | {"file_system": _file_system(), "cores": str(os.cpu_count())}


def summary(tier: str, path: Path = RECORD) -> dict[str, Any]:
    """Trials of the present code by kind, with failures and the upper 95 % bound (3/N at none), and what is missing."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for run in read_runs(path):
        if run["code_digest"] == code_digest():
            for name, cell in run["cells"].items():
                kinds[name.split()[0]].update({"trials": cell["trials"], "failures": cell["failures"]})
    had = done(path)
    missing = {cell.name: n - had[cell.name] for cell, n in targets(tier).items() if had[cell.name] < n}
    shown = {
        kind: {**counts, "upper_95": round(3 / counts["trials"], 5) if not counts["failures"] else None}
        for kind, counts in sorted(kinds.items())
    }
    return {"code_digest": code_digest(), "tier": tier, "kinds": shown, "missing": missing}


def _commit() -> str:
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "none"


def _file_system() -> str:
    asked = subprocess.run(
        ["stat", "-f", "-c", "%T", tempfile.gettempdir()], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "unknown"


if __name__ == "__main__":
    print(json.dumps(summary(sys.argv[1] if len(sys.argv) > 1 else "nightly"), indent=1))
