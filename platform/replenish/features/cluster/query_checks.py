"""Questions to ask before a feature query: what it covers, and whether its tables are what it takes for granted."""

from __future__ import annotations

from sqlglot import exp

from replenish.features.cluster.calendar_tables import CUTOFF_DAYS
from replenish.features.cluster.query_base import AS_OF, SPINE_VIEW, source_view
from replenish.features.cluster.sql_terms import (
    is_null,
    microseconds,
    named,
    null_safe_equal,
    sql_column,
    sql_table,
)
from replenish.features.definitions.model import FeatureSet, FeatureSource

N_ROWS, N_INSTANTS, OLDEST, NEWEST = "n_rows", "n_instants", "oldest_us", "newest_us"


def spine_query() -> exp.Select:
    """One row: `n_rows`, `n_instants` (without nulls), `oldest_us` and `newest_us` of the spine."""
    instant = microseconds(sql_column(AS_OF))
    return exp.select(
        named(exp.Count(this=exp.Star()), N_ROWS),
        named(exp.Count(this=sql_column(AS_OF)), N_INSTANTS),
        named(exp.Min(this=instant), OLDEST),
        named(exp.Max(this=instant.copy()), NEWEST),
    ).from_(sql_table(SPINE_VIEW))


def off_cutoff_query() -> exp.Select:
    """One row: `n_rows` of the spine that lie at no cut-off."""
    at = microseconds(sql_column(AS_OF, SPINE_VIEW))
    on = null_safe_equal(at, sql_column("starts_us", CUTOFF_DAYS))
    joined = exp.select(named(exp.Count(this=exp.Star()), N_ROWS)).from_(sql_table(SPINE_VIEW))
    return joined.join(sql_table(CUTOFF_DAYS), on=on, join_type="anti")


def clockless_query(feature_set: FeatureSet, source: FeatureSource) -> exp.Select:
    """One row: `n_rows` of a source that do not say when, or, of increments, do not say how many facts."""
    wrong = [is_null(sql_column(name)) for name in _never_null(feature_set, source)]
    return (
        exp.select(named(exp.Count(this=exp.Star()), N_ROWS))
        .from_(sql_table(source_view(source.name)))
        .where(exp.or_(*wrong))
    )


def _never_null(feature_set: FeatureSet, source: FeatureSource) -> list[str]:
    if source.is_increments:
        return ["event_date", "knowledge_date", str(source.lines)]
    kinds = {f.aggregation for f in feature_set.features if f.source == source.name}
    columns = ["knowledge_time"]
    columns += ["event_time"] if "last" in kinds else []
    columns += ["event_date"] if kinds - {"last"} else []
    return columns
