"""The log of single entities from their postings: for the few whose winner was taken back with nothing above."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from replenish.bitemporal import KNOWN_FROM
from replenish.features.state_logs.changed_log import SINCE
from replenish.features.state_logs.definition import PostingsTable, StateLogDefinition
from replenish.features.state_logs.full_build import log_of_postings
from replenish.stores.lake import DeltaLake

LOOK_BACK = timedelta(days=45)
"""Event times up to so long before a change are read first."""


def log_of_entities(
    lake: DeltaLake, definition: StateLogDefinition, source: PostingsTable, version: int, entities: pl.DataFrame
) -> pl.DataFrame:
    """The log of entities from an instant on, from as few of their postings as will do.

    The version of the newest event time wins. So where the postings of recent event times leave no instant without a
    live version, older ones say nothing; only of the other entities is the whole history read.

    Args:
        lake: Has the source's table.
        definition: Which log.
        source: Its postings.
        version: Version of the source's table.
        entities: Keys with `SINCE`, one row each.
    """
    key, found = list(definition.entity), []
    oldest: datetime = entities[SINCE].min()  # type: ignore[assignment]
    for first in (oldest - LOOK_BACK, None):
        stored = lake.scan(source.table, version=version)
        if first is not None:
            stored = stored.filter(pl.col("event_time") >= first)
        rows = definition.postings(stored, source).join(
            entities.lazy().select(key), on=key, how="semi", nulls_equal=True
        )
        log = log_of_postings(definition, rows.collect(engine="streaming"))
        log = log.join(entities.select(*key, SINCE), on=key, nulls_equal=True)
        settled = entities if first is None else _settled(log, entities, key)
        found.append(log.join(settled.select(key), on=key, how="semi", nulls_equal=True))
        entities = entities.join(settled, on=key, how="anti", nulls_equal=True)
        if entities.is_empty():
            break
    log = pl.concat(found)
    return log.filter(pl.col(KNOWN_FROM) >= pl.col(SINCE)).select(definition.columns)


def _settled(log: pl.DataFrame, entities: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """Entities with a live version at every instant from `SINCE` on; `log` is sorted."""
    holding = log.filter(pl.col(KNOWN_FROM) <= pl.col(SINCE)).unique(key, keep="last", maintain_order=True)
    gaps = log.filter(pl.col(KNOWN_FROM) > pl.col(SINCE), ~pl.col("is_live"))
    live = entities.join(holding.filter("is_live"), on=key, how="semi", nulls_equal=True)
    return live.join(gaps, on=key, how="anti", nulls_equal=True)
