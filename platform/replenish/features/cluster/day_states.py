"""Daily totals as they were known: one row per (entity, event date, span of knowledge), for one measure.

The totals D and N of a date change at the instants at which something about it becomes known, and hold until the next
such instant. So "what was known of this date then" is one row, found by date and a comparison of instants.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from replenish.features.cluster.query_base import EVENT_DAY, KNOWN, QueryBase, passes
from replenish.features.cluster.sql_terms import (
    SqlTerm,
    all_of,
    as_integer,
    is_null,
    named,
    or_zero,
    sql_column,
    sql_columns,
    sql_literal,
    sql_table,
    times,
    when,
    windowed,
)
from replenish.features.definitions.model import COUNTED_KINDS, FeatureSource
from replenish.features.offline.measures import Measure

TOTAL, COUNT, UNTIL = "_day_total", "_day_count", "_until_us"
"""D, N, and the instant from which they no longer hold; null where they still do."""
_SUMMED = ("integer", "boolean")


def add_day_states(base: QueryBase, source: FeatureSource, measure: Measure, rows: str, prefix: str) -> str:
    """Step with entity, `_event_day`, `_known_us`, `_until_us`, `_day_total`, `_day_count`; its name.

    Args:
        base: The query.
        source: The measure's source.
        measure: Value and filter.
        rows: Step with the source's known rows.
        prefix: Makes the names of steps differ between measures.
    """
    moment = (*base.entity, EVENT_DAY, KNOWN)
    changes = exp.select(
        *sql_columns(moment),
        named(as_integer(exp.Sum(this=_total_change(source, measure))), TOTAL),
        named(as_integer(exp.Sum(this=_count_change(source))), COUNT),
    )
    changes = changes.from_(sql_table(rows)).where(all_of(_taken(source, measure)))
    step = base.steps.add("".join((prefix, "_changes")), changes.group_by(*sql_columns(moment)))
    by, order = sql_columns((*base.entity, EVENT_DAY)), [sql_column(KNOWN)]
    states = exp.select(
        *sql_columns(moment),
        named(windowed(exp.Lead(this=sql_column(KNOWN)), by, order), UNTIL),
        *(
            named(as_integer(windowed(exp.Sum(this=sql_column(name)), by, order, running=True)), name)
            for name in (TOTAL, COUNT)
        ),
    )
    return base.steps.add("".join((prefix, "_days")), states.from_(sql_table(step)))


def is_active() -> SqlTerm:
    """Whether the totals of a step of day states say that the date is active."""
    return exp.NEQ(this=sql_column(TOTAL), expression=sql_literal(0))


def is_observed() -> SqlTerm:
    """Whether they say that it is observed."""
    return exp.paren(exp.or_(is_active(), exp.NEQ(this=sql_column(COUNT), expression=sql_literal(0))))


def _total_change(source: FeatureSource, measure: Measure) -> SqlTerm:
    # A text can be counted, not summed.
    if measure.value is None or source.column(measure.value).logical_type not in _SUMMED:
        return as_integer(sql_literal(0))
    value = as_integer(sql_column(measure.value))
    return or_zero(value) if source.is_increments else times(as_integer(sql_column("posting_sign")), value)


def _taken(source: FeatureSource, measure: Measure) -> list[SqlTerm]:
    """Which rows change the totals: of increments all, of postings those of the source's kinds that say something."""
    if source.is_increments:
        return []
    silent = exp.false() if measure.value is None else is_null(sql_column(measure.value))
    return [exp.not_(silent), _is_of(source.posting_kinds), passes(measure.where)]


def _count_change(source: FeatureSource) -> SqlTerm:
    if source.is_increments:
        return as_integer(sql_column(str(source.lines)))
    counted = [kind for kind in source.posting_kinds if kind in COUNTED_KINDS]
    return when(_is_of(counted), as_integer(sql_column("posting_sign")), as_integer(sql_literal(0)))


def _is_of(kinds: Sequence[str]) -> SqlTerm:
    if not kinds:
        return exp.false()
    return exp.In(this=sql_column("posting_kind"), expressions=[sql_literal(kind) for kind in kinds])
