"""Brings stored state logs up to date with their source: what is stored then is what a build from nothing would store.

Two app transactions travel inside the log's commits. One names the build that was made from this very source table
under this very definition; the other, of the build, holds the source's version. A log made from another table, under
another definition, or one whose build was not finished has no such pair, and is built anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import polars as pl

from replenish.bitemporal import KNOWN_FROM
from replenish.features.definitions.model import FeatureSet
from replenish.features.state_logs.changed_log import SINCE, first_changes, log_after_change
from replenish.features.state_logs.definition import PostingsTable, StateLogDefinition, state_logs_of
from replenish.features.state_logs.entity_history import log_of_entities
from replenish.features.state_logs.full_build import StateLogLimits, build_log, made_from_app
from replenish.features.state_logs.log_layout import (
    LOG_PART,
    LogPart,
    bucket_count,
    bucket_of_code,
    log_part_expr,
    parts_of_files,
    with_entity_codes,
)
from replenish.features.state_logs.look_up import read_parts, rows_since, through_app
from replenish.features.state_logs.source_changes import (
    ChangedPostings,
    SourceFiles,
    changed_postings,
    differing_files,
    table_identity,
)
from replenish.stores.lake import WAIT_FOR_WRITER_SECONDS, Audit, DeltaLake, TableCommit, accept_all
from replenish.stores.lake_maintenance import compact_when_due
from replenish.stores.locks import hold

_BUCKET = "_bucket"


@dataclass(frozen=True)
class StateLogUpdate:
    """What an update did to one log."""

    commit: TableCommit
    source_version: int
    is_full_build: bool = False
    n_changed_postings: int = 0
    n_changed_entities: int = 0
    n_entities_from_postings: int = 0
    """Entities whose log could not be told from the log before and the change alone."""
    n_rows_added: int = 0
    n_rows_removed: int = 0
    n_partitions: int = 0
    """Partitions that got a file or were written anew."""


def update_state_logs(
    lake: DeltaLake, feature_set: FeatureSet, *, audit: Audit = accept_all, limits: StateLogLimits | None = None
) -> tuple[StateLogUpdate, ...]:
    """Bring every state log behind a set's `last` features up to date with its silver table; see `update_state_log`."""
    logs = state_logs_of(feature_set)
    return tuple(update_state_log(lake, log, source, audit=audit, limits=limits) for log, source in logs)


def update_state_log(
    lake: DeltaLake,
    definition: StateLogDefinition,
    source: PostingsTable,
    *,
    audit: Audit = accept_all,
    limits: StateLogLimits | None = None,
) -> StateLogUpdate:
    """Bring a state log up to date with the table of its postings; twice is once.

    A late arrival reaches the months from the one in which it became known, in the bucket of its entity; rows are
    appended, and only where a stored row no longer holds are these partitions written anew. A build needs memory for
    the postings of one bucket, a change for itself and the months it reaches.

    Args:
        lake: Has the source's table, gets the log's.
        definition: Which log.
        source: Its postings. A reversal never comes into the table before its version.
        audit: Called on rows before their commit.
        limits: Sizes; None = the usual ones.

    Raises:
        TableMissing: The source's table is not there.
        OutOfRange: It lacks a column.
        AlreadyRunning: Another update of this log is under way.
        WriteConflict: Another writer moved the log on meanwhile; nothing of the change was written.
        AuditFailed: From `audit`; the log is as it was.
    """
    sizes, table = limits or StateLogLimits(), definition.table
    lock = hold(lake.lock_path(f"{table}_update"), f"update {table}", wait_seconds=WAIT_FOR_WRITER_SECONDS)
    with lock:
        source_id = table_identity(lake, source.table)
        # One version of the source for the whole update: what is appended meanwhile is the next update's.
        version = lake.version(source.table) or 0
        held = _held(lake, definition, source_id)
        if held is not None and held.position == version:
            return StateLogUpdate(lake.state(table), version)
        files = None if held is None else _usable_files(lake, definition, source, held, version, sizes)
        if held is None or files is None:
            done = build_log(lake, definition, source, source_id, version, sizes, audit)
            return StateLogUpdate(
                done.commit, version, is_full_build=True, n_rows_added=done.n_rows, n_partitions=done.n_partitions
            )
        update = _change(lake, definition, source, held, files, version, audit)
        compact_when_due(lake, update.commit)
        return update


@dataclass(frozen=True)
class _Held:
    """A complete log as it is stored: its build, the source's version inside, and its partitions."""

    build: int
    position: int
    version: int
    parts: tuple[LogPart, ...]

    @property
    def n_buckets(self) -> int:
        return self.parts[0].n_buckets


def _held(lake: DeltaLake, definition: StateLogDefinition, source_id: str) -> _Held | None:
    """The log made from this source; None where it has to be built."""
    version = lake.version(definition.table)
    build = lake.app_version(definition.table, made_from_app(definition, source_id))
    if version is None or build is None:
        return None
    position = lake.app_version(definition.table, through_app(build))
    parts = parts_of_files(lake.file_paths(definition.table, version=version))
    # Rows of a younger build are of one that was never finished, rows of an older one of a log that is still in place.
    if position is None or not parts or parts[0].build != build:
        return None
    return _Held(build, position, version, tuple(part for part in parts if part.build == build))


def _usable_files(
    lake: DeltaLake,
    definition: StateLogDefinition,
    source: PostingsTable,
    held: _Held,
    version: int,
    limits: StateLogLimits,
) -> SourceFiles | None:
    """The source's files that differ; None where a build is the better or the only way."""
    names = [source.stored_name(name) for name in (*definition.entity, *definition.version_columns)]
    files = differing_files(lake, source.table, held.position, version, names)
    if files is None:
        return None
    n_rows = lake.row_count(source.table)
    most = min(limits.most_changed * n_rows, limits.postings_at_once)
    has_outgrown = bucket_count(n_rows, limits.rows_per_bucket) >= 4 * held.n_buckets
    return None if files.n_rows > most or has_outgrown else files


def _change(
    lake: DeltaLake,
    definition: StateLogDefinition,
    source: PostingsTable,
    held: _Held,
    files: SourceFiles,
    version: int,
    audit: Audit,
) -> StateLogUpdate:
    """Write what the changed postings change of the log, in one commit."""
    key = list(definition.entity)
    changed = changed_postings(lake, source.table, files, partial(definition.postings, source=source))
    touched = with_entity_codes(first_changes(definition, changed.came, changed.gone), key)
    stored = rows_since(lake, definition, held.version, held.parts, touched)
    after, n_from_postings = _log_since(lake, definition, source, version, changed, stored, touched)
    before = stored.join(touched.select(*key, SINCE), on=key, nulls_equal=True)
    before = before.filter(pl.col(KNOWN_FROM) >= pl.col(SINCE)).select(definition.columns)
    added = after.join(before, on=definition.columns, how="anti", nulls_equal=True)
    removed = before.join(after, on=definition.columns, how="anti", nulls_equal=True)
    added, removed = (_parted(definition, frame, touched, held) for frame in (added, removed))
    audit(added)
    commit = _write(lake, definition, held, added, removed, version)
    return StateLogUpdate(
        commit,
        version,
        n_changed_postings=changed.came.height + changed.gone.height,
        n_changed_entities=touched.height,
        n_entities_from_postings=n_from_postings,
        n_rows_added=added.height,
        n_rows_removed=removed.height,
        n_partitions=pl.concat([added, removed])[LOG_PART].n_unique(),
    )


def _log_since(
    lake: DeltaLake,
    definition: StateLogDefinition,
    source: PostingsTable,
    version: int,
    changed: ChangedPostings,
    stored: pl.DataFrame,
    touched: pl.DataFrame,
) -> tuple[pl.DataFrame, int]:
    """The log of the touched entities from their first change on, and how many were worked out from postings."""
    key = list(definition.entity)
    # What was taken out of the ledger leaves no trace in the log of what stood second.
    lost = changed.gone.select(key).unique()
    came = changed.came.join(lost, on=key, how="anti", nulls_equal=True)
    after = log_after_change(definition, stored.join(lost, on=key, how="anti", nulls_equal=True), came)
    unclear = touched.join(pl.concat([lost, after.uncertain]), on=key, how="semi", nulls_equal=True)
    if unclear.is_empty():
        return after.rows, 0
    found = log_of_entities(lake, definition, source, version, unclear)
    return pl.concat([after.rows, found]), unclear.height


def _parted(definition: StateLogDefinition, rows: pl.DataFrame, touched: pl.DataFrame, held: _Held) -> pl.DataFrame:
    """Rows with their partition, in the order in which they are stored."""
    key = list(definition.entity)
    buckets = touched.select(*key, bucket_of_code(held.n_buckets).alias(_BUCKET))
    found = rows.join(buckets, on=key, how="left", nulls_equal=True)
    found = found.with_columns(log_part_expr(pl.col(_BUCKET), held.build, held.n_buckets))
    return found.select(*definition.columns, LOG_PART).sort(LOG_PART, *key, KNOWN_FROM)


def _write(
    lake: DeltaLake,
    definition: StateLogDefinition,
    held: _Held,
    added: pl.DataFrame,
    removed: pl.DataFrame,
    version: int,
) -> TableCommit:
    app = (through_app(held.build), version)
    if removed.is_empty():
        return lake.append(definition.table, added, partition_by=[LOG_PART], app=app, app_from=held.position)
    parts = sorted({*added[LOG_PART], *removed[LOG_PART]})
    stored = read_parts(lake, definition, held.version, [LogPart.of(part) for part in parts])
    place = [*definition.entity, KNOWN_FROM]
    rows = pl.concat([stored.join(removed, on=place, how="anti", nulls_equal=True), added]).sort(LOG_PART, *place)
    return lake.replace_partitions(
        definition.table, rows, column=LOG_PART, values=parts, app=app, app_from=held.position
    )
