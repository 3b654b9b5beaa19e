"""Bronze: the accepted rows of files and settled events, as received, appended once and in journal order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from replenish.contracts.model import Contract
from replenish.errors import BrokenPromise
from replenish.history.stored_tables import fit_table
from replenish.stores.journal_entry import PART_BEARING, JournalRecord
from replenish.stores.lake import Audit, DeltaLake, TableCommit, accept_all
from replenish.stores.lake_maintenance import compact_when_due
from replenish.stores.layout import RootLayout

BRONZE_APP = "bronze"
"""Delta app transaction of the bronze tables; its version is the last journal seq inside."""

ROWS_PER_COMMIT = 1_000_000
"""A commit takes whole files up to about this many rows, so memory follows the file size and not the history."""


class FileLog(Protocol):
    """What bronze needs of the journal: records behind a place in the log, in log order."""

    def records(self, after_seq: int = 0, type: str | tuple[str, ...] | None = None) -> Iterator[JournalRecord]:
        """Records behind `after_seq`; with `type` those of one type, or of one of several."""
        ...


@dataclass(frozen=True)
class AcceptedFile:
    """One record of the stream, a file or a batch of events: its place and its Parquet parts."""

    seq: int
    n_rows: int
    parts: tuple[Path, ...]


def bronze_table(stream: str) -> str:
    """Name of a stream's bronze table."""
    return f"bronze/{stream}"


def append_bronze(
    stream: str, contract: Contract, journal: FileLog, layout: RootLayout, lake: DeltaLake, audit: Audit = accept_all
) -> TableCommit:
    """Append what the journal accepted for `stream` since the table's own offset; a second call appends nothing.

    Raises:
        AuditFailed: A batch did not pass `audit`; batches before it are committed, it is not.
        IncompatibleSchema: The table was written under a contract that this one does not fit.
        BrokenPromise: The parts of a file do not hold the rows that the journal counted.
    """
    table = bronze_table(stream)
    if not lake.has(table):
        empty = pl.DataFrame(schema=contract.bronze_schema)
        lake.append(table, empty, partition_by=["knowledge_date"], app=(BRONZE_APP, 0))
    fit_table(table, contract, "bronze", contract.bronze_schema, lake)
    after, commit = lake.app_version(table, BRONZE_APP) or 0, None
    for batch in _batches(_accepted_files(stream, journal, layout, after)):
        rows = read_accepted(batch, contract)
        audit(rows)
        app = (BRONZE_APP, batch[-1].seq)
        commit = lake.append(table, rows, partition_by=["knowledge_date"], app=app, app_from=after)
        after = batch[-1].seq
        compact_when_due(lake, commit)
    return commit or lake.state(table)


def _accepted_files(stream: str, journal: FileLog, layout: RootLayout, after_seq: int) -> Iterator[AcceptedFile]:
    for record in journal.records(after_seq, PART_BEARING):
        if record.dataschema.partition("@")[0] != stream or record.seq is None:
            continue
        parts = record.accepted_parts()
        paths = tuple(layout.accepted / part["path"] for part in parts)
        yield AcceptedFile(record.seq, sum(part["rows"] for part in parts), paths)


def _batches(files: Iterable[AcceptedFile]) -> Iterator[list[AcceptedFile]]:
    """Runs of whole files; a file larger than the limit is a batch of its own."""
    batch: list[AcceptedFile] = []
    n_rows = 0
    for file in files:
        if batch and n_rows + file.n_rows > ROWS_PER_COMMIT:
            yield batch
            batch, n_rows = [], 0
        batch.append(file)
        n_rows += file.n_rows
    if batch:
        yield batch


def read_accepted(batch: list[AcceptedFile], contract: Contract) -> pl.DataFrame:
    """The accepted rows of some files as bronze has them; BrokenPromise where they are not as many as were counted."""
    frames = [_read_part(path, file.seq, contract) for file in batch for path in file.parts]
    rows = pl.concat([pl.DataFrame(schema=contract.bronze_schema), *frames])
    counted = sum(file.n_rows for file in batch)
    if rows.height != counted:
        raise BrokenPromise(
            "accepted parts do not hold the rows that were counted",
            stream=contract.stream,
            seq=batch[-1].seq,
            counted=counted,
            found=rows.height,
        )
    return rows


def _read_part(path: Path, seq: int, contract: Contract) -> pl.DataFrame:
    """The rows of a part, typed as bronze has them; which record lists it is only known outside of it."""
    rows = pl.read_parquet(path).with_columns(pl.lit(seq).alias("journal_seq"))
    # A column that the contract got since was never given.
    absent = [pl.lit(None).alias(name) for name in contract.bronze_schema if name not in rows.columns]
    rows = rows.with_columns(absent)
    return rows.select(pl.col(name).cast(dtype) for name, dtype in contract.bronze_schema.items())
