"""The bronze benchmark: what one small commit costs in a table that already has thousands of versions.

Every commit goes through `append_bronze`: the table's offset, the parts of one journal record, an append with lock,
barrier and checkpoints, compaction and the shelving of old log entries when they are due. At each size commits to the
large table and to new tables of about ten versions take turns, so that both meet the same machine.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path

import polars as pl

from replenish.contracts.model import Contract
from replenish.contracts.reader import read_contracts
from replenish.history.bronze import append_bronze, bronze_table
from replenish.stores.journal_entry import FILE_ACCEPTED, JournalRecord
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout

SIZES = (10, 100, 1_000, 5_000)
COMMITS_MEASURED = 100
"""From one compaction to the next: no phase of the cycle is left out."""
SMALL_VERSIONS = (5, 15)
"""Versions of the small tables whose commits are measured: about ten."""
COMMITS_PER_DAY = 96
"""One every quarter of an hour; each day is a partition."""
ROWS = 100
FIRST_DAY = date(2025, 1, 1)


class _OneRecordLog:
    """A journal whose newest record is all that is new: one accepted part of a hundred rows."""

    def __init__(self, layout: RootLayout, contract: Contract) -> None:
        self.layout, self.contract, self.seq = layout, contract, 0

    def records(self, after_seq: int = 0, type: str | tuple[str, ...] | None = None) -> Iterator[JournalRecord]:
        """The newest record, where it is behind `after_seq`."""
        if after_seq < self.seq:
            name = self._part()
            parts = {"parts": [{"path": name, "bucket": "2025-01", "rows": ROWS, "days": 2}]}
            at = datetime(2025, 1, 1, tzinfo=UTC)
            dataschema = f"{self.contract.stream}@{self.contract.version}"
            yield JournalRecord("bench", str(self.seq), FILE_ACCEPTED, name, at, dataschema, dict(parts), self.seq)

    def _part(self) -> str:
        """Path of the part of the day; written when the day is new."""
        day = FIRST_DAY + timedelta(days=self.seq // COMMITS_PER_DAY)
        path = self.layout.accepted / f"{day}.parquet"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _rows(self.contract, day).write_parquet(path)
        return path.name


def _rows(contract: Contract, day: date) -> pl.DataFrame:
    instant = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    columns = []
    for name, dtype in contract.bronze_schema.items():
        if dtype == pl.Boolean():
            sample: bool | date | int | str = False
        elif dtype == pl.Date():
            sample = day
        elif isinstance(dtype, pl.Datetime):
            sample = instant
        else:
            sample = 1 if dtype.is_numeric() else "sample"
        columns.append(pl.repeat(sample, ROWS, dtype=dtype, eager=True).alias(name))
    return pl.DataFrame(columns)


class _GrowingTable:
    """A bronze table that gets one small commit at a time."""

    def __init__(self, root: Path, contract: Contract) -> None:
        self.layout = RootLayout(root)
        self.lake = DeltaLake(self.layout.lake)
        self.log = _OneRecordLog(self.layout, contract)
        self.contract = contract

    def commit(self) -> float:
        """One record through `append_bronze`; seconds."""
        self.log.seq += 1
        started = time.perf_counter()
        append_bronze(self.contract.stream, self.contract, self.log, self.layout, self.lake)
        return time.perf_counter() - started

    @property
    def version(self) -> int:
        """Newest version of the table."""
        return self.lake.version(bronze_table(self.contract.stream)) or 0


def measure_commits(sizes: tuple[int, ...] = SIZES, folder: Path | None = None) -> dict[str, object]:
    """Median milliseconds of a commit at each size, of commits at ten versions beside it, and their ratio.

    Args:
        sizes: Table versions, ascending.
        folder: Where the tables lie for the time of the run; None = the system's temporary folder.
    """
    contract = read_contracts()["sales"]
    figures: dict[str, object] = {"commits_measured": COMMITS_MEASURED, "rows_per_commit": ROWS}
    with tempfile.TemporaryDirectory(prefix="replenish-bronze-", dir=folder) as scratch:
        table = _GrowingTable(Path(scratch) / "large", contract)
        small = _small_commits(Path(scratch), contract)
        for size in sizes:
            while table.version < size - SMALL_VERSIONS[0]:
                table.commit()
            n_measured = 2 * SMALL_VERSIONS[0] if size == sizes[0] else COMMITS_MEASURED
            pairs = [(table.commit(), next(small)) for _ in range(n_measured)]
            here, beside = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
            figures |= {f"p50_ms_at_{size}": here, f"p50_ms_at_10_beside_{size}": beside}
            figures[f"ratio_{size}_to_10"] = here / beside
        figures["versions"] = table.version
    return figures


def _small_commits(scratch: Path, contract: Contract) -> Iterator[float]:
    """Seconds of commits to tables of about ten versions, one new table after the other."""
    for number in count():
        table = _GrowingTable(scratch / f"small-{number}", contract)
        first, last = SMALL_VERSIONS
        for version in range(last):
            seconds = table.commit()
            if version >= first:
                yield seconds
        shutil.rmtree(scratch / f"small-{number}")
