"""The age of series from one origin to the next: it needs the whole history only where news speaks of its beginning."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import polars as pl

from replenish.errors import OutOfRange
from replenish.features.definitions.model import FeatureDefinition
from replenish.features.state_logs.grid_definition import ORIGIN_DATE, FeatureGrid
from replenish.stores.lake import DeltaLake

FIRST_DAY = "_first_day"
_OLDEST_NEWS = "_oldest_news"


def carried_first_days(
    lake: DeltaLake,
    grid: FeatureGrid,
    age: FeatureDefinition,
    before: pl.DataFrame,
    last: date,
    versions: Mapping[str, int],
) -> pl.DataFrame:
    """Keys whose oldest active day is for all origins since what the one before saw: entity and `FIRST_DAY`, or null.

    A day becomes or ceases to be active by postings of that day alone. So where nothing that became known since speaks
    of the oldest active day or of one before it, that day stays the oldest; where nothing became known at all, and no
    day that was still to come was spoken of, none stays none.

    Args:
        lake: Has the source's table.
        grid: Which set.
        age: Its feature of the aggregation `days_since_first`.
        before: Stored rows of the origin before, made from the same versions.
        last: The newest origin that is asked for.
        versions: Version of each source's table.

    Raises:
        OutOfRange: `before` holds no single origin.
    """
    key, name = list(grid.feature_set.entity), str(age.source)
    origin, *others = before[ORIGIN_DATE].unique()
    if others or not isinstance(origin, date):
        raise OutOfRange("rows of one origin are carried on", origins=before[ORIGIN_DATE].n_unique())
    ledger = grid.ledger(name, lake.scan(grid.tables[name].table, version=versions[name]))
    is_news = (pl.col("knowledge_time") > grid.instant(origin)) | (pl.col("event_date") >= origin)
    news = ledger.filter(pl.col("knowledge_time") <= grid.instant(last), is_news)
    oldest = news.group_by(key).agg(pl.col("event_date").min().alias(_OLDEST_NEWS)).collect(engine="streaming")
    first = (pl.lit(origin) - pl.duration(days=pl.col(age.name))).cast(pl.Date).alias(FIRST_DAY)
    held = before.select(*key, first).join(oldest, on=key, how="left", nulls_equal=True)
    is_same = pl.col(_OLDEST_NEWS).is_null() | (pl.col(_OLDEST_NEWS) > pl.col(FIRST_DAY)).fill_null(False)
    return held.filter(is_same).select(*key, FIRST_DAY)
