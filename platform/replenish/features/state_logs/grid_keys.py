"""Who has rows in a grid: the keys of which something is known, each from the first origin on that knows it."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from replenish.features.state_logs.grid_definition import FIRST_KNOWN, FeatureGrid
from replenish.stores.lake import DeltaLake


def grid_keys(lake: DeltaLake, grid: FeatureGrid, versions: Mapping[str, int]) -> pl.DataFrame:
    """Entity and `FIRST_KNOWN`: when the first posting of what the set predicts became known of a key.

    What a model is asked is how much of the target there will be, so a series begins with its first posting of the
    target's source. A price list names articles at locations that never sell them; they are no series. A set without
    targets takes all its sources. A posting that was reversed later was known once: a key that has rows keeps them.

    Args:
        lake: Has the sources' tables.
        grid: Which set.
        versions: Version of each source's table.
    """
    key = list(grid.feature_set.entity)
    targets = [target.source for target in grid.feature_set.targets]
    found = []
    for name in dict.fromkeys(targets or grid.source_names):
        table = grid.tables[name]
        stored = lake.scan(table.table, version=versions[name])
        kinds = grid.feature_set.source(name).posting_kinds
        rows = stored.filter(pl.col("posting_kind").is_in(kinds)).select(
            *(pl.col(table.stored_name(column)).alias(column) for column in key),
            pl.col("knowledge_time").dt.cast_time_unit("us").alias(FIRST_KNOWN),
        )
        found.append(rows.group_by(key).agg(pl.col(FIRST_KNOWN).min()))
    first = pl.concat(found).group_by(key).agg(pl.col(FIRST_KNOWN).min())
    return first.collect(engine="streaming").sort(key)
