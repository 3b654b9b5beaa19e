"""Rows of a file between the gate and the log, by bucket: in memory while few, on disk beyond that."""

from __future__ import annotations

from pathlib import Path

import polars as pl

ROWS_IN_MEMORY = 500_000
WHOLE_STREAM = "all"
"""The only bucket of a stream whose facts may leave their month."""


class RowSpool:
    """Frames collected per bucket; what exceeds `rows_in_memory` lies in Arrow files under `folder`."""

    def __init__(self, folder: Path, rows_in_memory: int = ROWS_IN_MEMORY) -> None:
        self._folder = folder
        self._rows_in_memory = rows_in_memory
        self._frames: dict[str, list[pl.DataFrame]] = {}
        self._files: dict[str, list[Path]] = {}
        self._rows_held = 0
        self._n_files = 0

    def add(self, bucket: str, frame: pl.DataFrame) -> None:
        """Append the rows of one bucket, in the order of the file."""
        if not frame.height:
            return
        self._frames.setdefault(bucket, []).append(frame)
        self._rows_held += frame.height
        if self._rows_held > self._rows_in_memory:
            self._spill()

    def buckets(self) -> list[str]:
        """Names of the buckets that got rows, sorted."""
        return sorted({*self._frames, *self._files})

    def rows(self, bucket: str) -> pl.DataFrame:
        """All rows of a bucket in the order they came."""
        spilled = [pl.read_ipc(path) for path in self._files.get(bucket, [])]
        return pl.concat([*spilled, *self._frames.get(bucket, [])])

    def _spill(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for bucket, frames in self._frames.items():
            path = self._folder / f"{self._n_files}.arrow"
            pl.concat(frames).write_ipc(path)
            self._files.setdefault(bucket, []).append(path)
            self._n_files += 1
        self._frames.clear()
        self._rows_held = 0


def split_by_month(rows: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """The rows by month of their event time in UTC, `yyyy-mm`; order kept.

    UTC, so that feeds of different zones put one fact into one bucket.
    """
    months = (rows["event_time"].dt.year().cast(pl.Int32()) * 12 + rows["event_time"].dt.month() - 1).alias("__month")
    if months.is_empty():
        return []
    if months.min() == months.max():
        return [(_month_name(months[0]), rows)]
    if months.is_sorted():
        # Files are mostly written in order of time: then a month is a slice, and no row is copied.
        lengths = months.rle().struct.unnest()
        ends = lengths["len"].cum_sum()
        spans = zip(lengths["value"], ends - lengths["len"], lengths["len"], strict=True)
        return [(_month_name(month), rows.slice(start, length)) for month, start, length in spans]
    parts = rows.with_columns(months).partition_by("__month", include_key=False, as_dict=True)
    return [(_month_name(month), part) for (month,), part in parts.items()]


def _month_name(month: int) -> str:
    return f"{month // 12:04d}-{month % 12 + 1:02d}"
