"""Which version of an entity's facts was the latest one known at each query: exact under every kind of posting.

A version is live from the later of its event time and its knowledge time until its reversal is known. Of the live ones
the greatest (event time, knowledge time, rest of the fact key, version number) counts: a range maximum over ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from replenish.bitemporal_windows import IntArray
from replenish.features.offline.daily_changes import NEVER
from replenish.features.offline.query_axis import QueryAxis
from replenish.range_maximum import NO_VALUE, range_maximum

ENTITY_NUMBER = "_entity"
"""Column of numbered ledgers: number of the row's entity on the axis."""


def instants_us(column: pl.Series) -> IntArray:
    """A column of timestamps as microseconds since 1970-01-01 UTC; what a null becomes is of no meaning."""
    return column.dt.cast_time_unit("us").to_physical().fill_null(0).to_numpy()


def version_stops(ledger: pl.DataFrame, is_version: pl.Series, identity: Sequence[str]) -> IntArray:
    """When each version was taken back [us]; `NEVER` where it was not.

    Args:
        ledger: Postings with `identity`, `posting_kind` and `knowledge_time`.
        is_version: Which rows are versions.
        identity: Fact key and `version_nr`.
    """
    versions = ledger.filter(is_version).select(*identity).with_row_index("_version")
    stops = np.full(versions.height, NEVER, dtype=np.int64)
    reversals = ledger.filter(pl.col("posting_kind") == "reversal").select(*identity, "knowledge_time")
    found = versions.join(reversals, on=list(identity), how="inner", nulls_equal=True)
    np.minimum.at(stops, found["_version"].to_numpy().astype(np.int64), instants_us(found["knowledge_time"]))
    return stops


def latest_versions(
    axis: QueryAxis, ledger: pl.DataFrame, *, fact_key: Sequence[str], is_chosen: pl.Expr | None = None
) -> IntArray:
    """Row number of the version that counts at each query, -1 where none is live.

    Args:
        axis: The queries.
        ledger: Postings of the axis's entities with `_entity`, `event_time`, `knowledge_time`, `version_nr`,
            `posting_kind` and the fact key.
        fact_key: The whole fact key.
        is_chosen: Keeps only versions for which it is true.

    Returns:
        Shape (n_queries,), row numbers of `ledger`.
    """
    is_version = (pl.col("posting_kind") == "version") & pl.col("event_time").is_not_null()
    if is_chosen is not None:
        is_version &= is_chosen.fill_null(False)
    mask = ledger.select(is_version.alias("is_version"))["is_version"]
    row = np.flatnonzero(mask.to_numpy())
    if not len(row) or not len(axis):
        return np.full(len(axis), -1, dtype=np.int64)
    entity = ledger[ENTITY_NUMBER].to_numpy()[row]
    event = instants_us(ledger["event_time"].filter(mask))
    start = np.maximum(event, instants_us(ledger["knowledge_time"].filter(mask)))
    stop = version_stops(ledger, mask, [*fact_key, "version_nr"])
    # Sorted by start, places are found several times as fast as in the order of arrival.
    first = _places(axis, axis.pack(entity, start))
    alive = np.flatnonzero((first < len(axis)) & (start < stop) & (start <= axis.newest))
    alive = alive[axis.entity[first[alive]] == entity[alive]]
    if not len(alive):
        return np.full(len(axis), -1, dtype=np.int64)
    row, entity, event, first, stop = row[alive], entity[alive], event[alive], first[alive], stop[alive]
    kept = _undominated(len(axis), first, stop, event)
    row, entity, first, stop = row[kept], entity[kept], first[kept], stop[kept]
    by_rank = _rank_order(ledger, row, [c for c in fact_key if c != "event_time"])
    row, entity, first, stop = row[by_rank], entity[by_rank], first[by_rank], stop[by_rank]
    end = axis.first_from(entity, stop)
    winner = _greatest_rank(axis, entity, first, end, stop == NEVER)
    return np.where(winner < 0, -1, row[winner])


def _places(axis: QueryAxis, key: IntArray) -> IntArray:
    """`searchsorted(axis.packed, key)` for keys in any order."""
    if len(key) < len(axis):
        return np.searchsorted(axis.packed, key, side="left")
    order = np.argsort(key)
    places = np.empty(len(key), dtype=np.int64)
    places[order] = np.searchsorted(axis.packed, key[order], side="left")
    return places


def _undominated(n_queries: int, first: IntArray, stop: IntArray, event: IntArray) -> IntArray:
    """Versions that may win somewhere: those taken back once, and of the others the newest event times of each place.

    Of two versions that enter at the same query and last for ever, the one of the older event time never counts.
    """
    lasts = stop == NEVER
    newest = np.full(n_queries, NO_VALUE, dtype=np.int64)
    np.maximum.at(newest, first[lasts], event[lasts])
    return np.flatnonzero(~lasts | (event == newest[first]))


def _rank_order(ledger: pl.DataFrame, row: IntArray, rest: Sequence[str]) -> IntArray:
    """Positions in `row` by entity, then by what decides which of an entity's versions is the latest."""
    order = [ENTITY_NUMBER, "event_time", "knowledge_time", *rest, "version_nr"]
    chosen = ledger.select(order)[row].with_row_index("_position")
    return chosen.sort(order, maintain_order=True)["_position"].to_numpy().astype(np.int64)


def _greatest_rank(axis: QueryAxis, entity: IntArray, first: IntArray, stop: IntArray, lasts: IntArray) -> IntArray:
    """The greatest rank alive at each query, -1 where none is; ranks ascend with the entity."""
    rank = np.arange(len(entity), dtype=np.int64)
    best = np.full(len(axis), -1, dtype=np.int64)
    np.maximum.at(best, first[lasts], rank[lasts])
    np.maximum.accumulate(best, out=best)
    # What ran on from the entity before is none of this one's.
    best[(best >= 0) & (entity[best] != axis.entity)] = -1
    passing = ~lasts
    return np.maximum(best, range_maximum(len(axis), first[passing], stop[passing], rank[passing]))
