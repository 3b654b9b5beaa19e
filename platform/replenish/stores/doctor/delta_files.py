"""The data files of one Delta table against its commit log and their recorded digests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import polars as pl
import pyarrow.parquet as pq
from deltalake import DeltaTable

from replenish.digests import file_digest
from replenish.stores.doctor.file_digests import RecordedFiles
from replenish.stores.doctor.findings import Finding
from replenish.stores.doctor.reading import try_to_read


@dataclass(frozen=True)
class FileChecks:
    """Findings, and the sound files that nothing was recorded about yet."""

    findings: list[Finding]
    version: int | None
    unrecorded: list[Path]
    n_files: int = 0


def check_files(table: str, folder: Path, recorded: RecordedFiles, *, with_digests: bool) -> FileChecks:
    """Open the newest version and look at every file it needs; with digests, at every byte.

    A file without a recorded digest is read once (footer and, with digests, all pages) and offered as a new base.
    """
    opened, fault = try_to_read(lambda: _active_files(folder))
    if opened is None:
        return FileChecks([Finding("unreadable_table", table, fault, "rebuild", folder)], None, [])
    version, active = opened
    findings: list[Finding] = []
    unrecorded: list[Path] = []
    for name, size, n_records in active.iter_rows():
        path = folder / unquote(name)
        finding = _file(table, path, size, n_records, recorded.digests.get(unquote(name)), with_digests)
        if finding is not None:
            findings.append(finding)
        elif unquote(name) not in recorded.digests:
            unrecorded.append(path)
    return FileChecks(findings, version, unrecorded, active.height)


def _active_files(folder: Path) -> tuple[int, pl.DataFrame]:
    opened = DeltaTable(str(folder))
    actions = pl.DataFrame(opened.get_add_actions(flatten=True))
    if actions.is_empty():
        return opened.version(), pl.DataFrame(schema={"path": pl.String, "size": pl.Int64, "rows": pl.Int64})
    return opened.version(), actions.select("path", "size_bytes", "num_records")


def _file(
    table: str, path: Path, size: int, n_records: int | None, digest: str | None, with_digests: bool
) -> Finding | None:
    if not path.is_file():
        return Finding("missing_file", table, path.name, "rebuild", path)
    found = path.stat().st_size
    if found != size:
        return Finding("wrong_size", table, f"{path.name}: {found} bytes instead of {size}", "rebuild", path)
    if digest is not None:
        if with_digests and file_digest(path) != digest:
            return Finding("altered_file", table, f"{path.name}: other sha256 than recorded", "rebuild", path)
        return None
    fault = _parquet_fault(path, n_records, with_pages=with_digests)
    return None if fault is None else Finding("altered_file", table, f"{path.name}: {fault}", "rebuild", path)


def _parquet_fault(path: Path, n_records: int | None, *, with_pages: bool) -> str | None:
    n_rows, fault = try_to_read(lambda: pl.read_parquet(path).height if with_pages else pq.read_metadata(path).num_rows)
    if n_rows is None:
        return f"cannot be read ({fault})"
    if n_records is not None and n_rows != n_records:
        return f"{n_rows} rows instead of {n_records}"
    return None
