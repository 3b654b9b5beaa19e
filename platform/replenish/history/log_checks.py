"""Bronze against the log: whether the table holds, place by place, as many rows as were accepted."""

from __future__ import annotations

import polars as pl

from replenish.history.bronze import BRONZE_APP, FileLog, bronze_table
from replenish.stores.doctor.findings import Finding
from replenish.stores.journal_entry import PART_BEARING
from replenish.stores.journal_reader import JournalReader
from replenish.stores.lake import DeltaLake


def check_bronze_rows(stream: str, log: FileLog, lake: DeltaLake) -> list[Finding]:
    """Rows per place in the log, up to the table's own offset, against what the log's records counted.

    What is behind the offset is not missing: the next run appends it.
    """
    table = bronze_table(stream)
    if not lake.has(table):
        return []
    offset = lake.app_version(table, BRONZE_APP) or 0
    held = dict(lake.scan(table).group_by("journal_seq").len().collect().iter_rows())
    counted = _counted(stream, log, offset)
    # Another process may have appended since the offset was read: those rows are for the next look.
    appended = range(offset + 1, (lake.app_version(table, BRONZE_APP) or 0) + 1)
    wrong = sorted(seq for seq in {*held, *counted} if seq not in appended and held.get(seq, 0) != counted.get(seq, 0))
    if not wrong:
        return []
    first = wrong[0]
    detail = (
        f"{len(wrong)} records differ; first: record {first} has {held.get(first, 0)} rows in the table, "
        f"{counted.get(first, 0)} in the log"
    )
    return [Finding("rows_differ", table, detail, "rebuild", lake.path(table), (wrong[0], wrong[-1]))]


def check_bronze_ahead(stream: str, log: JournalReader, lake: DeltaLake) -> list[Finding]:
    """Whether the table took in entries that the log does not have: then the log lost its end, not the table."""
    table = bronze_table(stream)
    offset = (lake.app_version(table, BRONZE_APP) or 0) if lake.has(table) else 0
    # The log is looked at after the table: it is never behind a table that is made from it.
    last_seq = log.last_seq()
    if offset <= last_seq:
        return []
    detail = f"it holds the log up to entry {offset}, which ends at {last_seq}"
    return [Finding("journal_behind_tables", table, detail, "person", lake.path(table), (last_seq + 1, offset))]


def count_behind(stream: str, log: FileLog, lake: DeltaLake) -> int:
    """Accepted rows of the log that bronze has not taken yet."""
    table = bronze_table(stream)
    offset = (lake.app_version(table, BRONZE_APP) or 0) if lake.has(table) else 0
    rows = pl.Series([n for seq, n in _counted(stream, log, None).items() if seq > offset], dtype=pl.Int64)
    return int(rows.sum())


def _counted(stream: str, log: FileLog, up_to: int | None) -> dict[int, int]:
    counted: dict[int, int] = {}
    for kind in PART_BEARING:
        for record in log.records(0, kind):
            if record.seq is None or record.dataschema.partition("@")[0] != stream:
                continue
            if up_to is not None and record.seq > up_to:
                break
            if n_rows := sum(part["rows"] for part in record.accepted_parts()):
                counted[record.seq] = n_rows
    return counted
