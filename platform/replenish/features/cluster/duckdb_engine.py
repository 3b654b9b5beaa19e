"""The feature query in DuckDB: where it is proven against the oracle, and a way to run it without a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time

import duckdb
import polars as pl

from replenish.features.cluster.calendar_tables import CUTOFF_DAYS, ORIGIN_SPANS, calendar_tables
from replenish.features.cluster.feature_query import feature_query
from replenish.features.cluster.ledger_view import ledger_query, stored_columns, stored_view
from replenish.features.cluster.query_base import AS_OF, SPINE_VIEW, source_view
from replenish.features.definitions.model import FeatureSet
from replenish.features.offline.measures import ledger_columns
from replenish.features.state_logs.definition import PostingsTable

_PLACE = "_spine_place"


def evaluate_in_duckdb(
    feature_set: FeatureSet,
    spine: pl.DataFrame,
    ledgers: Mapping[str, pl.DataFrame],
    zone: str,
    cutoff: time,
    *,
    stored: Mapping[str, PostingsTable] | None = None,
) -> pl.DataFrame:
    """The spine with the features of a set, in the order of its rows: `offline.evaluator.evaluate` by SQL.

    Args:
        feature_set: What to compute.
        spine: Rows with the set's entity columns and `as_of`.
        ledgers: Postings, or increments, by name of source.
        zone: IANA zone of the deployment.
        cutoff: Cut-off of an origin, in `zone`.
        stored: Where given, the ledgers have the names and types of these tables, see `ledger_query`.
    """
    instants = spine[AS_OF].dt.cast_time_unit("us").to_physical()
    oldest, newest = (int(instants.min()), int(instants.max())) if spine.height else (0, 0)  # type: ignore[arg-type]
    calendar = calendar_tables(oldest, newest, zone, cutoff)
    tables = {
        SPINE_VIEW: spine.with_row_index(_PLACE),
        ORIGIN_SPANS: calendar.spans,
        CUTOFF_DAYS: calendar.days,
        **{
            source_view(name): ledger.select(ledger_columns(feature_set, feature_set.source(name)))
            for name, ledger in ledgers.items()
            if stored is None
        },
        **{
            stored_view(name): ledgers[name].select(stored_columns(feature_set, feature_set.source(name), table))
            for name, table in (stored or {}).items()
        },
    }
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_progress_bar = false")
        for name, table in tables.items():
            connection.register(name, table.to_arrow())
        for name, stored_as in (stored or {}).items():
            renamed = connection.sql(ledger_query(feature_set, feature_set.source(name), stored_as).sql("duckdb"))
            renamed.create_view(source_view(name))
        query = feature_query(feature_set, calendar).sql("duckdb")
        found = connection.sql(query).to_arrow_table()
    frame = pl.DataFrame(pl.from_arrow(found)).sort(_PLACE)
    return pl.concat([spine, frame.select(feature_set.feature_names)], how="horizontal")
