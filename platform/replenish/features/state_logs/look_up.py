"""Reading stored state logs: whole, by partition, at a pinned version; and the values they give a spine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from replenish.bitemporal import KNOWN_FROM
from replenish.errors import TableMissing
from replenish.features.offline.log_lookup import packed_as_of_join
from replenish.features.state_logs.changed_log import SINCE
from replenish.features.state_logs.definition import StateLogDefinition
from replenish.features.state_logs.log_layout import (
    LOG_PART,
    LogPart,
    bucket_of_code,
    parts_of_files,
    with_entity_codes,
)
from replenish.stores.lake import DeltaLake

_BUCKET = "_bucket"
_INSTANT = timedelta(microseconds=1)
"""The least time between two instants."""


def through_app(build: int) -> str:
    """App transaction that holds the source's version inside a build; a build without it is not complete."""
    return f"state_log_through/{build}"


def read_state_log(
    lake: DeltaLake,
    definition: StateLogDefinition,
    *,
    version: int | None = None,
    parts: Sequence[LogPart] | None = None,
) -> pl.DataFrame:
    """The stored log, or some partitions of it, as `state_log` gives it: sorted by (entity, `known_from`).

    Args:
        lake: Where it is.
        definition: Which log.
        version: A version of its table that an update returned; None = the newest.
        parts: None = all.

    Raises:
        TableMissing: It was never built to the end, or the version is gone.
    """
    if version is None:
        version = lake.version(definition.table)
    chosen = log_parts(lake, definition, version=version) if parts is None else parts
    filters = [(LOG_PART, "in", [part.number for part in chosen])]
    rows = lake.read(definition.table, version=version, columns=definition.columns, filters=filters)
    return rows.sort(*definition.entity, KNOWN_FROM)


def log_parts(lake: DeltaLake, definition: StateLogDefinition, *, version: int | None = None) -> list[LogPart]:
    """The partitions of a stored log, sorted; from the commit log alone.

    Of a log that is being built anew these are still the ones of the build before.

    Raises:
        TableMissing: It was never built to the end, or the version is gone.
    """
    parts = parts_of_files(lake.file_paths(definition.table, version=version))
    if not parts:
        return []
    # A build takes the older ones away in the commit that completes it.
    oldest = parts[0].build
    if lake.app_version(definition.table, through_app(oldest)) is None:
        raise TableMissing("the state log was never built to the end", table=definition.table)
    return [part for part in parts if part.build == oldest]


def rows_since(
    lake: DeltaLake, definition: StateLogDefinition, version: int, parts: Sequence[LogPart], entities: pl.DataFrame
) -> pl.DataFrame:
    """Of each entity the rows from an instant on, and the row that holds just before.

    Args:
        lake: Where the log is.
        definition: Which log.
        version: Version of its table.
        parts: Partitions of that version.
        entities: Keys with `SINCE` and `ENTITY_CODE`, one row each.

    Returns:
        Columns of the log. Months are read from the newest backwards, until every entity has its row.
    """
    key = list(definition.entity)
    oldest: datetime | None = entities[SINCE].min()  # type: ignore[assignment]
    if not parts or oldest is None:
        return read_parts(lake, definition, version, []).select(definition.columns)
    first = oldest.year * 100 + oldest.month
    rows = _rows_of(lake, definition, version, [p for p in parts if p.month >= first], entities)
    later = rows.filter(pl.col(KNOWN_FROM) >= pl.col(SINCE))
    holding = [_newest(rows.filter(pl.col(KNOWN_FROM) < pl.col(SINCE)), key)]
    months = sorted({part.month for part in parts if part.month < first})
    width = 1
    while months:
        chosen, months = months[-width:], months[:-width]
        entities = entities.join(holding[-1], on=key, how="anti", nulls_equal=True)
        if entities.is_empty():
            break
        holding.append(
            _newest(_rows_of(lake, definition, version, [p for p in parts if p.month in chosen], entities), key)
        )
        width *= 2
    return pl.concat([frame.select(definition.columns) for frame in (later, *holding)])


def read_parts(lake: DeltaLake, definition: StateLogDefinition, version: int, parts: Sequence[LogPart]) -> pl.DataFrame:
    """Rows of some partitions in no order, with the partition column last."""
    filters = [(LOG_PART, "in", [part.number for part in parts])]
    return lake.read(definition.table, version=version, columns=[*definition.columns, LOG_PART], filters=filters)


def _rows_of(
    lake: DeltaLake, definition: StateLogDefinition, version: int, parts: Sequence[LogPart], entities: pl.DataFrame
) -> pl.DataFrame:
    """Rows of some entities in some months, with `SINCE`; only their buckets are read."""
    buckets: set[int] = set()
    if parts:
        buckets.update(entities.select(bucket_of_code(parts[0].n_buckets)).to_series().unique())
    key, numbers = list(definition.entity), [part.number for part in parts if part.bucket in buckets]
    stored = lake.scan(definition.table, version=version).filter(pl.col(LOG_PART).is_in(numbers))
    # Joined as it is read: of months of all entities only the rows wanted are ever held.
    rows = stored.select(definition.columns).join(entities.lazy().select(*key, SINCE), on=key, nulls_equal=True)
    return rows.collect(engine="streaming")


def _newest(rows: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    return rows.sort(KNOWN_FROM).unique(key, keep="last")


def stored_as_of_join(
    spine: pl.DataFrame,
    lake: DeltaLake,
    definition: StateLogDefinition,
    *,
    as_of: str,
    values: Sequence[str],
    time_to_live: timedelta | None = None,
    version: int | None = None,
) -> pl.DataFrame:
    """`packed_as_of_join` over a stored log, one bucket of entities at a time: a log larger than memory will do.

    Args:
        spine: Rows with the entity's columns and `as_of`; order and columns are kept.
        lake: Where the log is.
        definition: Which log.
        as_of: Name of the spine's instant, a timestamp with a zone, never null.
        values: Columns of the log to add.
        time_to_live: Largest age of the matched event time at `as_of`; None = any.
        version: A version of the log's table that an update returned; None = the newest, one for the whole join.

    Returns:
        Spine columns, `values` and `matched_event_time`.

    Raises:
        TableMissing: The log was never built to the end, or the version is gone.
        OutOfRange: As `packed_as_of_join`.
    """
    pinned = version if version is not None else lake.version(definition.table) or 0
    parts = log_parts(lake, definition, version=pinned)
    key = list(definition.entity)
    # Of each entity the log is needed from its first instant on, and the row that holds there.
    first = spine.group_by(key).agg((pl.col(as_of).dt.convert_time_zone("UTC").min() + _INSTANT).alias(SINCE))
    entities = with_entity_codes(first, key)
    entities = entities.with_columns(bucket_of_code(parts[0].n_buckets if parts else 1).alias(_BUCKET))
    coded = spine.select(key).join(entities, on=key, how="left", nulls_equal=True, maintain_order="left")
    newest = spine.select(pl.col(as_of).dt.convert_time_zone("UTC").max().dt.strftime("%Y%m")).item()
    order: list[np.ndarray] = []
    found: list[pl.DataFrame] = []
    for number in sorted(coded[_BUCKET].unique()) or [0]:
        rows = np.flatnonzero((coded[_BUCKET] == number).to_numpy())
        # What begins after the last instant asked for is not read.
        wanted = [part for part in parts if part.bucket == number and part.month <= int(newest or 0)]
        log = rows_since(lake, definition, pinned, wanted, entities.filter(pl.col(_BUCKET) == number))
        log = log.sort(*key, KNOWN_FROM)
        order.append(rows)
        found.append(
            packed_as_of_join(spine[rows], log, key=key, as_of=as_of, values=values, time_to_live=time_to_live)
        )
    place = np.empty(spine.height, dtype=np.int64)
    place[np.concatenate(order)] = np.arange(spine.height, dtype=np.int64)
    return pl.concat(found)[place]
