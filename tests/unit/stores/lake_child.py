"""Appends numbered batches to a lake table, and compacts it; run as a process that a failpoint ends."""

from __future__ import annotations

import sys
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from replenish.stores.lake import DeltaLake
from replenish.stores.lake_maintenance import compact, vacuum

TABLE = "bronze/sales"


def batch(number: int) -> pl.DataFrame:
    """Three rows that only this batch has."""
    day = date(2025, 1, 1) + timedelta(days=number // 10)
    return pl.DataFrame({"batch": [number] * 3, "row": [1, 2, 3], "day": [day] * 3})


def append_batches(lake: DeltaLake, last: int) -> None:
    """Append batch after batch up to `last`, from wherever the table is."""
    first = (lake.app_version(TABLE, "child") or 0) + 1
    for number in range(first, last + 1):
        lake.append(TABLE, batch(number), partition_by=["day"], app=("child", number), app_from=number - 1)


if __name__ == "__main__":
    made = DeltaLake(Path(sys.argv[1]) / "lake")
    append_batches(made, int(sys.argv[2]))
    if "maintain" in sys.argv:
        compact(made, TABLE, every=1)
        vacuum(made, TABLE)
    print("done")
