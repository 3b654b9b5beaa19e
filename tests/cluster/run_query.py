"""`python -m tests.cluster.run_query --histories 10000`: the query in DuckDB against the oracle.

Each batch is asked twice: over postings at any instant, and over increments at cut-offs. Ends with 1 on a difference.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys

from tests.oracle.compare import HISTORIES_PER_BATCH, Comparison, batch_of, compare
from tests.oracle.increments import asked_of_increments
from tests.unit.features.cluster.test_feature_query import in_duckdb, in_duckdb_of_increments


def judge(seed: int) -> tuple[Comparison, Comparison]:
    """One batch over both grains."""
    batch = batch_of(seed)
    return compare(in_duckdb, [batch]), compare(in_duckdb_of_increments, [asked_of_increments(batch)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    n_batches = -(-asked.histories // HISTORIES_PER_BATCH)
    totals = Comparison(), Comparison()
    with multiprocessing.get_context("spawn").Pool(asked.processes) as pool:
        for nr, done in enumerate(pool.imap(judge, range(asked.seed, asked.seed + n_batches)), 1):
            for total, part in zip(totals, done, strict=True):
                total.merge(part)
            if nr % 25 == 0:
                print(nr, *(f"{total.n_values} values, {total.n_wrong} wrong;" for total in totals), flush=True)
    for name, total in zip(("postings", "increments"), totals, strict=True):
        print(f"{name}: {total.n_histories} histories, {total.n_values} values, {total.n_wrong} differences")
        print(total.by_aggregation())
        if total.mismatch is not None:
            print(total.mismatch)
    return 1 if any(total.n_wrong for total in totals) else 0


if __name__ == "__main__":
    sys.exit(main())
