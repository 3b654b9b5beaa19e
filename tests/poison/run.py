"""`python -m tests.poison.run --inputs 100000`: poisoned inputs over all doors; ends with 1 if anything was wrong."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replenish.cli.allocator import tune_allocators

if TYPE_CHECKING:
    from tests.poison.judge import Tally

Poisoning = Callable[[Path, int, int], "Tally"]
SHARES = {"file": 0.30, "http": 0.50, "kafka": 0.10, "cdc": 0.10}
"""Each door's share of the inputs."""
MAX_GROWTH_MB = 100.0
RECORD = Path(__file__).parents[2] / "docs" / "poison.json"
"""Whole runs, one after another; see docs/resilience.md."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--door", choices=sorted(SHARES), action="append")
    parser.add_argument("--record", action="store_true", help="add the run to docs/poison.json")
    asked = parser.parse_args()
    # As in every process of the product, before anything brings threads.
    tune_allocators()
    doors = {name: asked.inputs if asked.door else round(asked.inputs * SHARES[name]) for name in asked.door or SHARES}
    results = [_poisoned(name, n_inputs, asked.seed) for name, n_inputs in doors.items()]
    n_inputs, n_wrong = (sum(result[key] for result in results) for key in ("inputs", "findings"))
    grown_mb = max(result["memory_grown_mb"] for result in results)
    print(f"{n_inputs} poisoned inputs, seed {asked.seed}: {n_wrong} findings; memory +{grown_mb} MB at most")
    if asked.record:
        _record(asked.seed, results)
    return 1 if n_wrong else 0


def poisoning(door: str) -> Poisoning:
    """What poisons a door: (folder, inputs, seed) to a tally."""
    return getattr(import_module(f"tests.poison.{door}_door"), f"poison_{door}_door")


def _poisoned(name: str, n_inputs: int, seed: int) -> dict[str, Any]:
    """Run one door and tell what came of it."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tally = poisoning(name)(Path(folder), n_inputs, seed)
    if tally.grown_mb > MAX_GROWTH_MB:
        tally.blame(f"memory grew by {tally.grown_mb:.0f} MB")
    seconds = round(time.monotonic() - started)
    print(
        f"{name}: {tally.inputs} poisoned inputs, seed {seed}, {seconds} s\n"
        f"  offered {tally.offered} = accepted {tally.accepted} + dead {tally.dead} + duplicate {tally.duplicate}; "
        f"refused as a whole {tally.refused}; memory +{tally.grown_mb:.0f} MB\n"
        f"  reasons: {', '.join(f'{reason} {n}' for reason, n in tally.reasons.most_common())}",
        *(f"\n  WRONG: {text}" for text in tally.wrong),
        sep="",
        flush=True,
    )
    counts = {key: getattr(tally, key) for key in ("inputs", "offered", "accepted", "dead", "duplicate", "refused")}
    grown = {"memory_grown_mb": round(tally.grown_mb), "seconds": seconds}
    return {"door": name} | counts | grown | {"findings": len(tally.wrong), "wrong": tally.wrong}


def _record(seed: int, results: list[dict[str, Any]]) -> None:
    from tests.faults.code_digest import code_digest

    runs = json.loads(RECORD.read_text()) if RECORD.exists() else []
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=RECORD.parent, capture_output=True, text=True, check=False
    )
    run = {
        "code_digest": code_digest(),
        "commit": commit.stdout.strip(),
        "recorded": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "doors": results,
    }
    RECORD.write_text(json.dumps([*runs, run], indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
