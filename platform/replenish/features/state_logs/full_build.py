"""Builds a state log from all postings of its source, bucket by bucket of entities, in memory that one bucket bounds.

Postings are dealt out to buckets in one pass over the source, by way of files beside the lake where they are many; a
second pass makes the log of each bucket. Within a bucket the sweep runs over cells of entities that fit into the
processor's cache: over a whole ledger at once it takes three times as long per posting at five million as at one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from replenish.bitemporal import state_log
from replenish.features.state_logs.definition import PostingsTable, StateLogDefinition
from replenish.features.state_logs.log_layout import (
    ENTITY_CODE,
    LOG_PART,
    ROWS_PER_BUCKET,
    bucket_count,
    bucket_of_code,
    log_part_expr,
    parts_of_files,
    with_entity_codes,
)
from replenish.features.state_logs.look_up import through_app
from replenish.stores.lake import Audit, DeltaLake, TableCommit, accept_all

ROWS_PER_CELL = 65_536
"""Postings that the sweep takes at once."""

ROWS_PER_LOG_COMMIT = 2_000_000
"""Log rows in one commit of a build; the writer holds them all, some 140 bytes each."""

POSTINGS_AT_ONCE = 4_000_000
"""Postings held in memory at most; more are dealt out to files first."""

_BUCKET = "_bucket"


@dataclass(frozen=True)
class StateLogLimits:
    """Sizes that bound memory and choose the cheaper way; the log does not depend on them."""

    rows_per_bucket: int = ROWS_PER_BUCKET
    postings_at_once: int = POSTINGS_AT_ONCE
    rows_per_commit: int = ROWS_PER_LOG_COMMIT
    most_changed: float = 0.25
    """Share of the source's rows in changed files above which a log is built anew."""


@dataclass(frozen=True)
class LogBuild:
    """What a build wrote; `n_rows` of the log."""

    commit: TableCommit
    n_rows: int
    n_partitions: int


def made_from_app(definition: StateLogDefinition, source_id: str) -> str:
    """App transaction that names the build made from this source under this definition."""
    return f"state_log_of/{definition.digest[:16]}/{source_id}"


def build_log(
    lake: DeltaLake,
    definition: StateLogDefinition,
    source: PostingsTable,
    source_id: str,
    source_version: int,
    limits: StateLogLimits,
    audit: Audit = accept_all,
) -> LogBuild:
    """Build the log beside the one that is there; the last commit puts it in its place.

    Killed at any point, the log before stays what readers see, and the next build takes away what was begun.
    """
    table, version = definition.table, lake.version(definition.table)
    # Versions of the log's table only grow, so no other build ever has this number.
    build = 0 if version is None else version + 1
    before = [] if version is None else parts_of_files(lake.file_paths(table, version=version))
    postings = definition.postings(lake.scan(source.table, version=source_version), source)
    n_buckets = bucket_count(lake.row_count(source.table), limits.rows_per_bucket)
    spill = lake.root.parent / "staged" / "state_logs" / definition.digest[:12]
    app: tuple[str, int] | None = (made_from_app(definition, source_id), build)
    n_rows, n_parts = 0, 0
    for frame in _commits(_logs(definition, postings, build, n_buckets, limits, spill), limits.rows_per_commit):
        audit(frame)
        lake.append(table, frame, partition_by=[LOG_PART], app=app)
        app, n_rows, n_parts = None, n_rows + frame.height, n_parts + frame[LOG_PART].n_unique()
    empty = pl.DataFrame(schema=lake.scan(table).collect_schema())
    through = (through_app(build), source_version)
    if before:
        stale = [part.number for part in before]
        commit = lake.replace_partitions(table, empty, column=LOG_PART, values=stale, app=through)
    else:
        commit = lake.append(table, empty, app=through)
    return LogBuild(commit, n_rows, n_parts)


def log_of_postings(definition: StateLogDefinition, postings: pl.DataFrame) -> pl.DataFrame:
    """The log of some entities from all their postings, sorted by (entity, `known_from`)."""
    values = [name for name in definition.version_columns if name != "event_time"]
    log = state_log(postings, key=definition.entity, fact_key=definition.fact_key, values=values)
    return log.select(definition.columns)


def _logs(
    definition: StateLogDefinition,
    postings: pl.LazyFrame,
    build: int,
    n_buckets: int,
    limits: StateLogLimits,
    spill: Path,
) -> Iterator[pl.DataFrame]:
    """The log of each bucket with its partitions; at least one frame."""
    for bucket, rows in _buckets(definition, postings, n_buckets, limits, spill):
        n_cells = -(-rows.height // ROWS_PER_CELL) or 1
        cell = (pl.col(ENTITY_CODE) // n_buckets % n_cells).alias("_cell")
        cells = rows.with_columns(cell).partition_by("_cell", include_key=False) or [rows]
        log = pl.concat([log_of_postings(definition, rows_of) for rows_of in cells])
        yield log.with_columns(log_part_expr(pl.lit(bucket), build, n_buckets)).sort(LOG_PART, maintain_order=True)


def _buckets(
    definition: StateLogDefinition, postings: pl.LazyFrame, n_buckets: int, limits: StateLogLimits, spill: Path
) -> Iterator[tuple[int, pl.DataFrame]]:
    """The postings of each bucket with `ENTITY_CODE`, at least one bucket."""
    key = list(definition.entity)
    codes = with_entity_codes(postings.select(key).unique().collect(engine="streaming"), key)
    coded = postings.join(codes.lazy(), on=key, how="left", nulls_equal=True)
    dealt = coded.with_columns(bucket_of_code(n_buckets).alias(_BUCKET))
    n_postings = postings.select(pl.len()).collect(engine="streaming").item()
    if n_postings <= limits.postings_at_once:
        frame = dealt.collect(engine="streaming")
        found = frame.partition_by(_BUCKET, as_dict=True, include_key=False) or {(0,): frame.drop(_BUCKET)}
        del frame
        for group in sorted(found):
            yield int(group[0]), found.pop(group)
        return
    shutil.rmtree(spill, ignore_errors=True)
    try:
        by_bucket = pl.PartitionBy(spill, key=_BUCKET, include_key=False)
        dealt.sink_ipc(by_bucket, mkdir=True, maintain_order=False, engine="streaming")
        for number in range(n_buckets):
            folder = spill / f"{_BUCKET}={number}"
            if folder.is_dir():
                yield number, pl.scan_ipc(sorted(folder.iterdir())).collect()
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def _commits(logs: Iterator[pl.DataFrame], rows_per_commit: int) -> Iterator[pl.DataFrame]:
    """Logs joined up to so many rows."""
    held: list[pl.DataFrame] = []
    for log in logs:
        if held and sum(frame.height for frame in held) + log.height > rows_per_commit:
            yield pl.concat(held)
            held = []
        held.append(log)
    if held:
        yield pl.concat(held)
