"""The built-in retailer's drop files: ordinary CSV, by month at first and by day at the end.

A file of a day holds what was recorded after its midnight, up to and with the next: a late record is in a later file.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import polars as pl

from replenish.outcomes.retailer import World
from replenish.outcomes.retailer_records import RECORDED_DAY


def write_world(folder: Path, world: World) -> tuple[Path, ...]:
    """Write every file known at the origin: reference data, files by month, and a file a day for the last month or two.

    Returns the paths in the order in which they would have arrived. `folder` is made where it is missing.
    """
    plan, start = world.plan, world.plan.first_daily_file_day
    files = [(f"{name}.csv", frame) for name, frame in world.reference.items()]
    files.extend(_monthly_files(world, start))
    for day in range(start, plan.n_days):
        files.extend(files_of_day(world, day).items())
    return _write(folder, files)


def write_day(folder: Path, world: World, day: int) -> tuple[Path, ...]:
    """Write the files of one more day (0 = first day of the world); `n_days` is the first day after the origin."""
    return _write(folder, files_of_day(world, day).items())


def files_of_day(world: World, day: int) -> dict[str, pl.DataFrame]:
    """File name to rows, for everything recorded on one day; streams without a record that day have no file."""
    stamp = (world.plan.first_date + timedelta(days=day)).isoformat()
    files = {}
    for name, records in world.records.items():
        rows = records.filter(pl.col(RECORDED_DAY) == day)
        if rows.height:
            files[f"{name}-{stamp}.csv"] = rows.drop(RECORDED_DAY)
    return files


def _monthly_files(world: World, end_day: int) -> list[tuple[str, pl.DataFrame]]:
    """Files of what was recorded before `end_day`, by calendar month, older months first."""
    first_date = world.plan.first_date
    month = (pl.lit(first_date) + pl.duration(days=pl.col(RECORDED_DAY))).dt.strftime("%Y-%m")
    files = []
    for name, records in world.records.items():
        early = records.filter(pl.col(RECORDED_DAY) < end_day).with_columns(month=month)
        for stamp, rows in early.partition_by("month", maintain_order=True, as_dict=True).items():
            files.append((str(stamp[0]), f"{name}-{stamp[0]}.csv", rows.drop(RECORDED_DAY, "month")))
    return [(name, rows) for _, name, rows in sorted(files, key=lambda f: f[:2])]


def _write(folder: Path, files: Iterable[tuple[str, pl.DataFrame]]) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, rows in files:
        path = folder / name
        rows.write_csv(path)
        paths.append(path)
    return tuple(paths)
