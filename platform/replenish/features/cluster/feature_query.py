"""A feature set as one query: a tree that sqlglot writes for DuckDB, for Spark, or for another engine.

The query reads `spine`, one table `source_<name>` per source and the two tables of `calendar_tables`, and gives the
spine's rows with one column per feature. Its meaning is that of `features.offline`: integers exact, quotients last.
"""

from __future__ import annotations

from sqlglot import exp

from replenish.features.cluster.active_days import add_active_days
from replenish.features.cluster.calendar_tables import CalendarTables
from replenish.features.cluster.day_states import add_day_states
from replenish.features.cluster.day_windows import add_windows, feature_term, needs_active_days, statistics_of
from replenish.features.cluster.latest_values import add_latest
from replenish.features.cluster.query_base import (
    AS_OF,
    QUERIES,
    QUERY_INSTANT,
    SPINE_VIEW,
    QueryBase,
    add_known_rows,
    add_queries,
)
from replenish.features.cluster.sql_terms import (
    QuerySteps,
    SqlTerm,
    all_of,
    microseconds,
    named,
    null_safe_equal,
    over,
    same_columns,
    sql_column,
    sql_columns,
    sql_table,
)
from replenish.features.definitions.model import FeatureSet
from replenish.features.offline.measures import latest_of, measures_of

_VALUES = "feature_values"


def feature_query(feature_set: FeatureSet, calendar: CalendarTables) -> exp.Select:
    """The query of a set: columns of the spine, then one per feature in the set's order; rows in no order.

    Args:
        feature_set: What to compute; features keep their order.
        calendar: Covers every `as_of` of the spine.
    """
    base = QueryBase(feature_set, calendar, QuerySteps())
    add_queries(base)
    names = dict.fromkeys(f.source for f in feature_set.features if f.source is not None)
    rows = {name: add_known_rows(base, feature_set.source(name)) for name in names}
    terms, joined = _measure_terms(base, rows)
    latest, found = _latest_terms(base, rows)
    terms |= latest
    for feature in feature_set.features:
        if feature.aggregation == "ratio":
            above, below = terms[str(feature.numerator)], terms[str(feature.denominator_feature)]
            terms[feature.name] = over(above.copy(), below.copy())
    values = exp.select(
        *sql_columns(base.query_key, QUERIES), *(named(terms[name], name) for name in feature_set.feature_names)
    )
    values = values.from_(sql_table(QUERIES))
    for step in (*joined, *found):
        on = all_of(same_columns(base.query_key, QUERIES, step))
        values = values.join(sql_table(step), on=on, join_type="left")
    base.steps.add(_VALUES, values)
    return base.steps.before(_beside_spine(base))


def _measure_terms(base: QueryBase, rows: dict[str, str]) -> tuple[dict[str, SqlTerm], list[str]]:
    """Terms of all features over daily totals, and the steps that they read."""
    terms: dict[str, SqlTerm] = {}
    joined: list[str] = []
    for nr, (measure, features) in enumerate(measures_of(base.feature_set).items()):
        prefix = f"m{nr}"
        days = add_day_states(base, base.feature_set.source(measure.source), measure, rows[measure.source], prefix)
        statistics = statistics_of(features)
        windows = add_windows(base, days, statistics, prefix) if statistics else None
        active = add_active_days(base, days, prefix) if needs_active_days(features) else None
        joined += [step for step in (windows, active) if step is not None]
        terms |= {feature.name: feature_term(feature, windows, active) for feature in features}
    return terms, joined


def _latest_terms(base: QueryBase, rows: dict[str, str]) -> tuple[dict[str, SqlTerm], list[str]]:
    """Terms of all latest values, and the steps that they read."""
    terms: dict[str, SqlTerm] = {}
    joined: list[str] = []
    for nr, ((name, where), features) in enumerate(latest_of(base.feature_set).items()):
        step = add_latest(base, base.feature_set.source(name), where, features, rows[name], f"l{nr}")
        joined.append(step.name)
        terms |= {feature: sql_column(column, step.name) for feature, column in step.columns.items()}
    return terms, joined


def _beside_spine(base: QueryBase) -> exp.Select:
    """The spine's own columns with the values of its (entity, as_of)."""
    of_row = microseconds(sql_column(AS_OF, SPINE_VIEW))
    on = [
        *same_columns(base.entity, SPINE_VIEW, _VALUES),
        null_safe_equal(of_row, sql_column(QUERY_INSTANT, _VALUES)),
    ]
    columns = [exp.Column(this=exp.Star(), table=exp.to_identifier(SPINE_VIEW, quoted=True))]
    query = exp.select(*columns, *sql_columns(base.feature_set.feature_names, _VALUES))
    return query.from_(sql_table(SPINE_VIEW)).join(sql_table(_VALUES), on=all_of(on))
