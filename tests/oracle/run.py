"""`python -m tests.oracle.run --histories 10000`: evaluators against the oracle; ends with 1 on any difference."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator

from tests.oracle.compare import HISTORIES_PER_BATCH, Comparison, batch_of, compare
from tests.oracle.evaluators import EVALUATORS
from tests.oracle.increments import INCREMENT_EVALUATORS, asked_of_increments

ALL = (*EVALUATORS, *INCREMENT_EVALUATORS)
BATCHES_AT_ONCE = 8
Task = tuple[int, int, tuple[str, ...]]
"""First and last seed (exclusive), and the evaluators to judge."""


def judge_seeds(task: Task) -> dict[str, Comparison]:
    """Each evaluator over the batches of some seeds."""
    first, stop, names = task
    batches = [batch_of(seed) for seed in range(first, stop)]
    done = {name: compare(EVALUATORS[name], batches) for name in names if name in EVALUATORS}
    of_increments = [name for name in names if name in INCREMENT_EVALUATORS]
    asked = [asked_of_increments(batch) for batch in batches] if of_increments else []
    return done | {name: compare(INCREMENT_EVALUATORS[name], asked) for name in of_increments}


def tasks(first: int, n_batches: int, names: tuple[str, ...]) -> Iterator[Task]:
    for start in range(first, first + n_batches, BATCHES_AT_ONCE):
        yield start, min(start + BATCHES_AT_ONCE, first + n_batches), names


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1_000, help="first seed; every batch of 20 histories has its own")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--evaluator", choices=ALL, action="append")
    asked = parser.parse_args()
    names = tuple(asked.evaluator or ALL)
    n_batches = -(-asked.histories // HISTORIES_PER_BATCH)
    totals = {name: Comparison() for name in names}
    started = time.monotonic()
    # Spawned: a forked polars may wait for a thread that does not exist.
    with multiprocessing.get_context("spawn").Pool(asked.processes) as pool:
        for done in pool.imap(judge_seeds, tasks(asked.seed, n_batches, names)):
            for name, part in done.items():
                totals[name].merge(part)
            n_histories = totals[names[0]].n_histories
            n_wrong = sum(total.n_wrong for total in totals.values())
            print(f"{n_histories} histories, {n_wrong} mismatches, {time.monotonic() - started:.0f} s", flush=True)
    print(f"seeds {asked.seed}..{asked.seed + n_batches - 1}, {HISTORIES_PER_BATCH} histories each")
    for name, total in totals.items():
        by_aggregation = ", ".join(f"{kind} {n}" for kind, n in total.by_aggregation().items())
        print(
            f"{name}: {total.n_histories} histories, {total.n_values} values, {total.n_wrong} mismatches; "
            f"{len(total.kinds)} combinations of parameters\n  {by_aggregation}"
        )
        if total.mismatch is not None:
            print(total.mismatch)
    return 1 if any(total.n_wrong for total in totals.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
