"""Latest known values from a stored state log: one packed look-up per spine row, nothing hashed but the spine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import polars as pl

from replenish.bitemporal import KNOWN_FROM, MATCHED_EVENT_TIME
from replenish.bitemporal_windows import IntArray
from replenish.errors import OutOfRange
from replenish.features.offline.latest_version import instants_us
from replenish.features.offline.query_axis import MAX_PACKED


def packed_as_of_join(
    spine: pl.DataFrame,
    log: pl.DataFrame,
    *,
    key: Sequence[str],
    as_of: str,
    values: Sequence[str],
    time_to_live: timedelta | None = None,
) -> pl.DataFrame:
    """`bitemporal.as_of_join` over a log that is sorted by (key, `known_from`), as `state_log` returns and stores it.

    Raises:
        OutOfRange: A value name is already a column of the spine, the log is not sorted, or spine instants times
            entities of the log exceed 62 bits (1,500,000 entities over a month, 29,000 over five years): join parts.
    """
    clash = set(values) & set(spine.columns)
    if clash:
        raise OutOfRange("the spine already has these columns", columns=sorted(clash))
    entity, entities = _runs(log, key)
    numbers = spine.select(key).join(entities, on=list(key), how="left", nulls_equal=True, maintain_order="left")
    row = latest_log_rows(
        numbers["_run"].fill_null(-1).to_numpy(), instants_us(spine[as_of]), entity, instants_us(log[KNOWN_FROM])
    )
    # A row number that is null gathers nulls.
    place = pl.Series(row).replace(-1, None)
    found = log.select(pl.col("event_time").alias(MATCHED_EVENT_TIME), *values)[:, [*values, MATCHED_EVENT_TIME]]
    found = found.select(pl.all().gather(place))
    if time_to_live is not None:
        fresh = spine[as_of] - found[MATCHED_EVENT_TIME] <= time_to_live
        found = found.select(pl.when(fresh).then(pl.all()))
    return pl.concat([spine, found], how="horizontal")


def latest_log_rows(entity: IntArray, instant: IntArray, log_entity: IntArray, known_from: IntArray) -> IntArray:
    """Row of a sorted state log that holds at each (entity, instant); -1 where there is none or the entity is -1.

    Args:
        entity: Entity of each query, or -1.
        instant: Its instant [us].
        log_entity: Entity of each log row, ascending.
        known_from: Instant of each log row [us], ascending within an entity.

    Raises:
        OutOfRange: The log is not sorted, or the pairs do not fit into 62 bits.
    """
    if not len(entity) or not len(log_entity):
        return np.full(len(entity), -1, dtype=np.int64)
    oldest, newest = int(instant.min()), int(instant.max())
    span = newest - oldest + 2
    if (int(log_entity[-1]) + 1) * span > MAX_PACKED:
        raise OutOfRange("too many entities for one look-up", n_entities=int(log_entity[-1]) + 1, span_us=span)
    packed = log_entity * span + (np.clip(known_from, oldest, newest + 1) - oldest)
    if bool(np.any(packed[1:] < packed[:-1])):
        raise OutOfRange("a state log is sorted by key and known_from")
    wanted = entity * span + (instant - oldest)
    # In order, look-ups walk through the log once; in any other they miss the cache at every step.
    order = np.argsort(wanted)
    row = np.empty(len(wanted), dtype=np.int64)
    row[order] = np.searchsorted(packed, wanted[order], side="right") - 1
    return np.where((row >= 0) & (log_entity[row] == entity), row, -1)


def _runs(log: pl.DataFrame, key: Sequence[str]) -> tuple[IntArray, pl.DataFrame]:
    """Number of each row's entity in a log sorted by key, and the entities with their number `_run`."""
    changes = pl.any_horizontal(pl.col(c).ne_missing(pl.col(c).shift(1)) for c in key)
    is_first = log.select((changes | (pl.int_range(pl.len()) == 0)).alias("_is_first"))["_is_first"]
    entities = log.filter(is_first).select(key).with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_run"))
    return is_first.cast(pl.Int64).cum_sum().to_numpy() - 1, entities
