"""Accepted rows in the log: Parquet parts per stream and bucket, found through the journal.

A part does not hold the place of its record in the journal: that is only known when the record is appended. It is added
as `journal_seq` when the part is read. (Parts of older deployments hold it; they are read the same way.)

Parts with `kept_until` hold rows that brought nothing new and may one day (`known_facts`); the lake does not take them.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl

from replenish.contracts.model import Contract
from replenish.digests import file_digest, ordered_rows_digest
from replenish.ingest.known_facts import known_columns
from replenish.stores.archive import sync_file, sync_folder
from replenish.stores.failpoints import failpoint
from replenish.stores.journal_entry import PART_BEARING, JournalRecord
from replenish.stores.journal_reader import JournalReader


@dataclass(frozen=True)
class AcceptedPart:
    """One Parquet file of rows, accepted or kept: path relative to `RootLayout.accepted`."""

    path: str
    bucket: str
    rows: int
    days: int
    """Bit mask of the UTC days of month (bit 1 .. 31) of its event times; tells which parts can share a key."""
    sha256: str | None = None
    """Of the file's bytes; None in records of older deployments."""
    digest: str | None = None
    """Of the rows in order (`digests.ordered_rows_digest`): equal for parts made again, whatever wrote the file."""
    kept_until: str | None = None
    """Of a part of kept rows their latest knowledge time, in ISO form; None: its rows are accepted."""
    seq: int = 0
    """The record that lists it; 0 before it is appended."""

    def as_json(self) -> dict[str, object]:
        """As it stands in the journal."""
        own = {"path": self.path, "bucket": self.bucket, "rows": self.rows, "days": self.days}
        others = {"sha256": self.sha256, "digest": self.digest, "kept_until": self.kept_until}
        return own | {name: value for name, value in others.items() if value is not None}


class PartIndex:
    """The accepted parts of every stream and bucket, kept up with the journal.

    Args:
        journal: Where they are listed.
        before_seq: Only parts of records before this place; None = all there are.
    """

    def __init__(self, journal: JournalReader, before_seq: int | None = None) -> None:
        self._journal = journal
        self._last = None if before_seq is None else before_seq - 1
        self._parts: dict[tuple[str, str], list[AcceptedPart]] = defaultdict(list)
        self._kept: dict[tuple[str, str], list[AcceptedPart]] = defaultdict(list)
        self.seen_seq = 0
        """The last record with parts that was taken in."""

    def refresh(self) -> None:
        """Take in what was journalled since the last look."""
        for record in self._journal.records(self.seen_seq, PART_BEARING, self._last):
            stream = record.dataschema.partition("@")[0]
            for part in parts_of(record):
                parts = self._parts if part.kept_until is None else self._kept
                parts[stream, part.bucket].append(part)
            self.seen_seq = max(self.seen_seq, record.seq or 0)

    def earlier_rows(
        self, contract: Contract, bucket: str, days: int, accepted: Path, new: pl.DataFrame
    ) -> pl.DataFrame:
        """`known_columns` of the rows accepted before into this bucket, in parts that have one of these days.

        All rows of facts that `new` speaks of are there; others do no harm.
        """
        return rows_of([p for p in self._parts[contract.stream, bucket] if p.days & days], contract, accepted)

    def remember(self, part: AcceptedPart, rows: pl.DataFrame, contract: Contract) -> None:
        """Of a part that was just written its rows (`rows_of_part`), for an index that has a use for them."""

    def kept_rows(self, contract: Contract, bucket: str, days: int, since: datetime, accepted: Path) -> pl.DataFrame:
        """Rows kept before, with all columns of bronze, in parts that have one known at `since` or later."""
        parts = [
            p
            for p in self._kept[contract.stream, bucket]
            if p.days & days and datetime.fromisoformat(str(p.kept_until)) >= since
        ]
        return rows_of(parts, contract, accepted, list(contract.bronze_schema))


def rows_of(
    parts: list[AcceptedPart], contract: Contract, accepted: Path, names: list[str] | None = None
) -> pl.DataFrame:
    """The rows of some parts, in their order, with these columns (default: `known_columns`)."""
    names = known_columns(contract) if names is None else names
    if not parts:
        return _no_rows(contract, tuple(names))
    return pl.concat([_known_rows(part, names, contract, accepted) for part in parts])


@lru_cache(maxsize=64)
def _no_rows(contract: Contract, names: tuple[str, ...]) -> pl.DataFrame:
    return pl.DataFrame(schema={n: contract.bronze_schema[n] for n in names})


def _known_rows(part: AcceptedPart, names: list[str], contract: Contract, accepted: Path) -> pl.DataFrame:
    path = accepted / part.path
    # Columns that the contract got since this part was written were never given.
    there = set(pl.read_parquet_schema(path))
    rows = pl.read_parquet(path, columns=[name for name in names if name in there and name != "journal_seq"])
    added = [pl.lit(None, contract.bronze_schema[n]).alias(n) for n in names if n not in there and n != "journal_seq"]
    return rows.with_columns(*added, pl.lit(part.seq, pl.Int64()).alias("journal_seq")).select(names)


def parts_of(record: JournalRecord) -> list[AcceptedPart]:
    """The parts a record lists; empty for records that bear none."""
    parts = cast(list[dict[str, Any]], record.data.get("parts", []))
    return [
        AcceptedPart(
            str(p["path"]), str(p["bucket"]), int(p["rows"]), int(p["days"]), p.get("sha256"), p.get("digest"),
            p.get("kept_until"), record.seq or 0,
        )
        for p in parts
    ]  # fmt: skip


def days_mask(rows: pl.DataFrame) -> int:
    """The days of month that occur among event times (UTC), as a bit mask."""
    counts = np.bincount(rows["event_time"].dt.day().to_numpy())
    return sum(1 << day for day in np.flatnonzero(counts).tolist())


def write_part(
    rows: pl.DataFrame, contract: Contract, bucket: str, name: str, accepted: Path, *, are_kept: bool = False
) -> AcceptedPart:
    """Write bronze rows durably to `<stream>/<bucket>/<name>.parquet`, in place of an older attempt.

    Args:
        are_kept: They brought nothing new.
    """
    kept = rows_of_part(rows, contract)
    part = write_rows(kept, contract, bucket, name, accepted, are_kept=are_kept)
    return replace(part, digest=ordered_rows_digest(kept))


def rows_of_part(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Bronze rows as a part holds them."""
    return rows.select(column for column in contract.bronze_schema if column != "journal_seq")


def write_rows(
    kept: pl.DataFrame, contract: Contract, bucket: str, name: str, accepted: Path, *, are_kept: bool = False
) -> AcceptedPart:
    """`write_part` of `rows_of_part`, without their digest, which takes longer than all the rest."""
    folder = accepted / contract.stream / bucket
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.parquet"
    # A part is read whole, a few times: statistics would serve nobody, and level 1 costs no more than lz4.
    kept.write_parquet(path, compression="zstd", compression_level=1, statistics=False)
    failpoint("parts.written")
    sync_file(path)
    # Every level each time: a power cut may have ended an attempt between making a folder and making it safe.
    for level in (folder, folder.parent, accepted, accepted.parent):
        sync_folder(level)
    failpoint("parts.synced")
    kept_until = kept["knowledge_time"].max().isoformat() if are_kept else None  # type: ignore[union-attr]
    place = path.relative_to(accepted).as_posix()
    return AcceptedPart(place, bucket, kept.height, days_mask(kept), file_digest(path), kept_until=kept_until)


def clear_folder(folder: Path) -> None:
    """Remove a scratch folder and what an interrupted run left in it."""
    shutil.rmtree(folder, ignore_errors=True)
