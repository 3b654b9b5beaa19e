"""Run the trials of a tier or a shard: `python -m tests.faults.run_tier --tier release --shard 1/4 --minutes 30`.

What was counted for this version of the code before is not run again, so a tier can be run in pieces.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.faults.code_digest import code_digest
from tests.faults.matrix import TIERS, Cell, arm_of, targets
from tests.faults.power_cut import can_mount
from tests.faults.record import append_run, done, summary
from tests.faults.trials import TrialResult, run_trial

WORKERS = 2
MAX_FAILURES = 25
"""After so many the rest would only say the same."""
NEEDS_MOUNT = ("cut", "full")


def pending(tier: str, shard: int, n_shards: int) -> Iterator[tuple[Cell, int]]:
    """(cell, seed) of the trials that are missing, by turns over the cells so that a short run sees all of them."""
    had, wanted = done(), targets(tier)
    for turn in range(max(wanted.values())):
        for place, (cell, n) in enumerate(wanted.items()):
            seed = had[cell.name] + turn
            if seed < n and place % n_shards == shard:
                yield cell, seed


def run_one(cell: Cell, seed: int, folder: Path) -> TrialResult:
    """One trial; where the chosen pass is not reached this time, the first one is tried."""
    try:
        arm = arm_of(cell, seed)
    except AssertionError as fault:
        return TrialResult(cell.kind, cell.door, cell.place, cell.action, 0, seed, True, [str(fault)])
    result = run_trial(cell.kind, cell.door, arm, seed, folder)
    if not result.fired and arm.failpoint and arm.nth > 1:
        result = run_trial(cell.kind, cell.door, arm._replace(nth=1), seed, folder)
    if not result.fired and arm.instant is not None:
        # It was over before: this machine is faster now than when the twin was timed.
        result = run_trial(cell.kind, cell.door, arm._replace(instant=arm.instant / 3), seed, folder)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", choices=TIERS, default="nightly")
    parser.add_argument("--shard", default="1/1", help="which part, as 1/4")
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--only", default="", help="cells whose name contains this")
    parser.add_argument("--skip", default=None, help="cells whose name contains this are left out")
    parser.add_argument("--keep", type=Path, default=None, help="folder for artefacts of failed trials")
    parser.add_argument("--no-record", action="store_true")
    asked = parser.parse_args()
    shard, n_shards = (int(part) for part in asked.shard.split("/"))
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="replenish-trials-"))
    began, digest = time.monotonic(), code_digest()
    results: list[tuple[Cell, TrialResult]] = []
    todo = [job for job in pending(asked.tier, shard - 1, n_shards) if asked.only in job[0].name]
    todo = [job for job in todo if not asked.skip or asked.skip not in job[0].name]
    if not can_mount():
        todo = [job for job in todo if job[0].kind not in NEEDS_MOUNT]
        print("no images can be mounted here: power cuts and full disks are left out")
    print(f"{len(todo)} trials of {asked.tier}, code {digest[:12]}", flush=True)

    def work(number: int, cell: Cell, seed: int) -> tuple[Cell, TrialResult] | None:
        if code_digest.__wrapped__() != digest:
            return None
        n_failed = sum(bool(result.breaches and result.fired) for _, result in results)
        if time.monotonic() - began > asked.minutes * 60 or n_failed >= MAX_FAILURES:
            return None
        result = run_one(cell, seed, folder / str(number))
        # Code that changed meanwhile was tried in part: such a trial says nothing of either version.
        return (cell, result) if code_digest.__wrapped__() == digest else None

    with ThreadPoolExecutor(WORKERS) as pool:
        jobs = [pool.submit(work, number, *job) for number, job in enumerate(todo)]
        for job in as_completed(jobs):
            if (outcome := job.result()) is None:
                continue
            results.append(outcome)
            cell, result = outcome
            if not result.fired:
                print(f"did not fire: {result.replay}", flush=True)
            if result.breaches and result.fired:
                print(
                    f"FAILED {cell.name} seed {result.seed}: {result.breaches[0][:300]}\n  {result.replay}", flush=True
                )
    if code_digest.__wrapped__() != digest:
        print("the code changed while the trials ran: those after the change do not count")
    failed = sum(bool(result.breaches and result.fired) for _, result in results)
    seconds = time.monotonic() - began
    fired = sum(result.fired for _, result in results)
    print(
        f"{fired} trials counted, {len(results) - fired} did not fire, {failed} failed, {seconds:.0f} s; "
        f"artefacts: {folder}"
    )
    if results and not asked.no_record:
        append_run(asked.tier, asked.shard, results, seconds)
        missing = summary(asked.tier)["missing"]
        print(f"{sum(missing.values())} trials of the tier are missing")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
