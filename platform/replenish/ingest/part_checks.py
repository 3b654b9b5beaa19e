"""Accepted parts against the log that lists them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import polars as pl

from replenish.digests import file_digest, ordered_rows_digest
from replenish.stores.doctor.findings import Finding
from replenish.stores.doctor.reading import try_to_read
from replenish.stores.journal_entry import PART_BEARING, JournalRecord

SUBJECT = "accepted"


def check_parts(records: Iterable[JournalRecord], accepted: Path, *, with_digests: bool) -> list[Finding]:
    """Every part that a record lists: there and, with digests, holding the bytes or at least the rows it was given."""
    findings = []
    for record in records:
        if record.type not in PART_BEARING or record.seq is None:
            continue
        for part in cast(list[dict[str, Any]], record.data.get("parts", [])):
            path = accepted / str(part["path"])
            fault = _fault(path, part, with_digests)
            if fault is not None:
                kind, detail = fault
                seqs = (record.seq, record.seq)
                findings.append(Finding(kind, SUBJECT, f"{part['path']}: {detail}", "rederive", path, seqs))
    return findings


def _fault(path: Path, part: dict[str, Any], with_digests: bool) -> tuple[str, str] | None:
    if not path.is_file():
        return "part_missing", "no such file"
    if not path.stat().st_size:
        return "part_altered", "0 bytes"
    if not with_digests:
        return None
    if part.get("sha256") and file_digest(path) == part["sha256"]:
        return None
    rows, fault = try_to_read(lambda: pl.read_parquet(path))
    if rows is None:
        return "part_altered", f"cannot be read ({fault})"
    # A part that was made again may be other bytes of the same rows.
    if part.get("digest") and ordered_rows_digest(rows) != part["digest"]:
        return "part_altered", "other rows than in the log"
    return None if rows.height == part["rows"] else ("part_altered", f"{rows.height} rows instead of {part['rows']}")
