"""What every part of the feature query starts from: the instants that are asked about, and the postings of a source."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from replenish.features.cluster.calendar_tables import CUTOFF_DAYS, ORIGIN_SPANS, CalendarTables
from replenish.features.cluster.sql_terms import (
    QuerySteps,
    SqlTerm,
    all_of,
    as_integer,
    day_number,
    day_of_instant,
    microseconds,
    named,
    null_safe_equal,
    sql_column,
    sql_columns,
    sql_literal,
    sql_table,
    when,
)
from replenish.features.definitions.model import FeatureSet, FeatureSource, RowFilter
from replenish.features.offline.measures import ledger_columns

SPINE_VIEW = "spine"
"""Table of the query: entity columns and `as_of`."""
AS_OF = "as_of"
ASKED, QUERIES = "asked", "queries"
"""Steps: the distinct (entity, as_of) of the spine, and those with their origin day."""
QUERY_INSTANT, ORIGIN = "_query_us", "_origin_day"
EVENT_DAY, KNOWN = "_event_day", "_known_us"
"""Columns of the steps: days and microseconds since 1970-01-01 UTC. Names of the query's own columns begin with `_`, as
no name of a contract or a feature set does, so that they never meet one of a table's."""


@dataclass(frozen=True)
class QueryBase:
    """A feature set's query under construction."""

    feature_set: FeatureSet
    calendar: CalendarTables
    steps: QuerySteps

    @property
    def query_key(self) -> tuple[str, ...]:
        """Columns that identify a query in every step."""
        return (*self.feature_set.entity, QUERY_INSTANT)

    @property
    def entity(self) -> tuple[str, ...]:
        """The set's entity columns."""
        return self.feature_set.entity


def source_view(source: str) -> str:
    """Name of the table that holds the postings of a source."""
    return "".join(("source_", source))


def add_queries(base: QueryBase) -> None:
    """Steps `ASKED` and `QUERIES`: entity, `_query_us` and `_origin_day`, one row per distinct (entity, as_of)."""
    instant = named(microseconds(sql_column(AS_OF)), QUERY_INSTANT)
    asked = exp.select(*sql_columns(base.entity), instant).distinct().from_(sql_table(SPINE_VIEW))
    base.steps.add(ASKED, asked)
    at = sql_column(QUERY_INSTANT, ASKED)
    spans = (
        null_safe_equal(sql_column("utc_day", ORIGIN_SPANS), day_of_instant(at)),
        exp.GTE(this=at.copy(), expression=sql_column("starts_us", ORIGIN_SPANS)),
        exp.LT(this=at.copy(), expression=sql_column("ends_us", ORIGIN_SPANS)),
    )
    columns = [*sql_columns(base.query_key, ASKED), named(sql_column("origin_day", ORIGIN_SPANS), ORIGIN)]
    queries = exp.select(*columns).from_(sql_table(ASKED)).join(sql_table(ORIGIN_SPANS), on=all_of(spans))
    base.steps.add(QUERIES, queries)


def passes(where: RowFilter | None) -> SqlTerm:
    """Whether a row passes a filter; a null does not."""
    if where is None:
        return exp.true()
    return exp.EQ(this=sql_column(where.column), expression=sql_literal(where.equals))


def add_known_rows(base: QueryBase, source: FeatureSource) -> str:
    """Step: the source's rows that any query may see, with `_event_day` and `_known_us`.

    Rows of a date that is known before the calendar begins are known when it begins: no query tells them apart.
    """
    view, columns = sql_table(source_view(source.name)), ledger_columns(base.feature_set, source)
    newest = sql_literal(base.calendar.newest)
    event_day = named(day_number(sql_column("event_date")), EVENT_DAY)
    # A source of latest values alone need not know dates.
    days = [event_day] if "event_date" in columns else []
    if source.is_increments:
        day, begins = day_number(sql_column("knowledge_date")), base.calendar.first_day
        first = when(exp.LT(this=day, expression=sql_literal(begins)), sql_literal(begins), day.copy())
        dated = exp.select(*sql_columns(columns), *days, named(first, ORIGIN)).from_(view)
        step = base.steps.add("".join(("dated_", source.name)), dated)
        known = as_integer(sql_column("starts_us", CUTOFF_DAYS))
        rows = exp.select(*sql_columns((*columns, EVENT_DAY), step), named(known, KNOWN)).from_(sql_table(step))
        same_day = null_safe_equal(sql_column(ORIGIN, step), sql_column("origin_day", CUTOFF_DAYS))
        rows = rows.join(sql_table(CUTOFF_DAYS), on=same_day)
    else:
        known = microseconds(sql_column("knowledge_time"))
        rows = exp.select(*sql_columns(columns), *days, named(known, KNOWN)).from_(view)
    rows = rows.where(exp.LTE(this=known.copy(), expression=newest))
    return base.steps.add("".join(("known_", source.name)), rows)
