"""Part files as an engine leaves them, for processes that are killed and so import little."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from replenish.features.cluster.staged_parts import commit_parts
from replenish.stores.lake import DeltaLake

__all__ = ["ROWS", "TARGET", "DeltaLake", "Path", "commit_parts", "in_two_files"]

TARGET = "features/demand_daily"
ROWS = pl.DataFrame({"sku_id": ["a", "b", "c"], "units": [1, 2, None], "share": [0.5, None, 1.0]})


def in_two_files(folder: Path) -> None:
    folder.mkdir()
    for nr, part in enumerate((ROWS[:2], ROWS[2:], ROWS.head(0))):
        part.write_parquet(folder / f"part-{nr}.parquet")
    (folder / "_SUCCESS").touch()
