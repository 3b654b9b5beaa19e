"""Accepted rows in the log: Parquet parts per stream and bucket, found through the journal."""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import polars as pl

from replenish.contracts.model import Contract
from replenish.ingest.known_facts import known_columns
from replenish.stores.archive import sync_file, sync_folder
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import FILE_ACCEPTED, JournalRecord


@dataclass(frozen=True)
class AcceptedPart:
    """One Parquet file of accepted rows: path relative to `RootLayout.accepted`."""

    path: str
    bucket: str
    rows: int
    days: int
    """Bit mask of the UTC days of month (bit 1 .. 31) of its event times; tells which parts can share a key."""

    def as_json(self) -> dict[str, object]:
        """As it stands in the journal."""
        return {"path": self.path, "bucket": self.bucket, "rows": self.rows, "days": self.days}


class PartIndex:
    """The accepted parts of every stream and bucket, kept up with the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._parts: dict[tuple[str, str], list[AcceptedPart]] = defaultdict(list)
        self._seen_seq = 0

    def refresh(self) -> None:
        """Take in what was journalled since the last look."""
        for record in self._journal.records(after_seq=self._seen_seq, type=FILE_ACCEPTED):
            stream = record.dataschema.partition("@")[0]
            for part in parts_of(record):
                self._parts[stream, part.bucket].append(part)
            self._seen_seq = max(self._seen_seq, record.seq or 0)

    def earlier_rows(self, contract: Contract, bucket: str, days: int, accepted: Path) -> pl.DataFrame:
        """`known_columns` of the rows accepted before into this bucket, in parts that have one of these days."""
        names = known_columns(contract)
        paths = [accepted / part.path for part in self._parts[contract.stream, bucket] if part.days & days]
        if not paths:
            return pl.DataFrame(schema={n: contract.bronze_schema[n] for n in names})
        return pl.concat([pl.read_parquet(path, columns=names) for path in paths])


def parts_of(record: JournalRecord) -> list[AcceptedPart]:
    """The parts a file record lists; empty for other records."""
    parts = cast(list[dict[str, Any]], record.data.get("parts", []))
    return [AcceptedPart(str(p["path"]), str(p["bucket"]), int(p["rows"]), int(p["days"])) for p in parts]


def days_mask(rows: pl.DataFrame) -> int:
    """The days of month that occur among event times (UTC), as a bit mask."""
    return sum(1 << day for day in rows["event_time"].dt.day().unique().to_list())


def write_part(rows: pl.DataFrame, contract: Contract, bucket: str, name: str, accepted: Path) -> AcceptedPart:
    """Write bronze rows durably to `<stream>/<bucket>/<name>.parquet`, in place of an older attempt."""
    folder = accepted / contract.stream / bucket
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.parquet"
    # A part is read whole, a few times: statistics would serve nobody, and level 1 costs no more than lz4.
    rows.select(*contract.bronze_schema).write_parquet(path, compression="zstd", compression_level=1, statistics=False)
    sync_file(path)
    # Every level each time: a power cut may have ended an attempt between making a folder and making it safe.
    for level in (folder, folder.parent, accepted):
        sync_folder(level)
    return AcceptedPart(path.relative_to(accepted).as_posix(), bucket, rows.height, days_mask(rows))


def clear_folder(folder: Path) -> None:
    """Remove a scratch folder and what an interrupted run left in it."""
    shutil.rmtree(folder, ignore_errors=True)
