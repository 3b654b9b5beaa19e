"""The newest and the first active date known at each query.

An active date counts from when it is both known and past, until its total is known to be 0. Most such lives never end:
for them a running maximum (minimum) in order of time is enough. Those that ended, by corrections and cancellations, are
few, and are compared with the queries of their entity one by one.
"""

from __future__ import annotations

from sqlglot import exp

from replenish.features.cluster.calendar_tables import CUTOFF_DAYS
from replenish.features.cluster.day_states import UNTIL, is_active
from replenish.features.cluster.query_base import EVENT_DAY, KNOWN, QUERIES, QUERY_INSTANT, QueryBase
from replenish.features.cluster.sql_terms import (
    SqlTerm,
    all_of,
    as_integer,
    earlier_of,
    is_null,
    later_of,
    named,
    null_safe_equal,
    plus,
    same_columns,
    sql_column,
    sql_columns,
    sql_literal,
    sql_table,
    when,
    windowed,
)

NEWEST_DAY, FIRST_DAY = "_newest_active_day", "_first_active_day"
LIFE_START, LIFE_END, LIFE_RANK = "_start_us", "_end_us", "_life_rank"
"""A life: a half-open span of instants and what it is worth while it lasts."""
_IS_QUERY, _INSTANT = "_is_query", "_instant_us"


def add_active_days(base: QueryBase, days: str, prefix: str) -> str:
    """Step with the query key, `_newest_active_day` and `_first_active_day`: of dates e <= t-1, null where none is.

    Args:
        base: The query.
        days: Step of day states.
        prefix: Makes the names of steps differ between measures.
    """
    moment = (*base.entity, EVENT_DAY, KNOWN)
    flag = when(is_active(), sql_literal(1), sql_literal(0))
    by, order = sql_columns((*base.entity, EVENT_DAY)), [sql_column(KNOWN)]
    flagged = exp.select(
        *sql_columns(moment),
        named(flag, "_active"),
        named(windowed(exp.Lag(this=flag.copy()), by, order), "_active_before"),
    )
    flags = base.steps.add("".join((prefix, "_flags")), flagged.from_(sql_table(days)))
    before = exp.Coalesce(this=sql_column("_active_before"), expressions=[sql_literal(0)])
    turning = exp.select(
        *sql_columns((*moment, "_active")), named(windowed(exp.Lead(this=sql_column(KNOWN)), by, order), UNTIL)
    )
    turned = exp.NEQ(this=sql_column("_active"), expression=before)
    turns = base.steps.add("".join((prefix, "_turns")), turning.from_(sql_table(flags)).where(turned))
    lives = base.steps.add("".join((prefix, "_lives")), _lives(base, turns))
    return add_extremes(base, lives, prefix, (NEWEST_DAY, FIRST_DAY))


def _lives(base: QueryBase, turns: str) -> exp.Query:
    """Spans in which a date is active, known and past."""
    next_day = plus(sql_column(EVENT_DAY, turns), sql_literal(1))
    is_early = exp.LT(this=next_day, expression=sql_literal(base.calendar.first_day))
    passed = later_of(sql_column(KNOWN, turns), as_integer(sql_column("starts_us", CUTOFF_DAYS)))
    lives = exp.select(
        *sql_columns(base.entity, turns),
        named(sql_column(EVENT_DAY, turns), LIFE_RANK),
        # A date before the calendar is past at every query.
        named(when(is_early, sql_column(KNOWN, turns), passed), LIFE_START),
        named(sql_column(UNTIL, turns), LIFE_END),
    ).from_(sql_table(turns))
    same_day = null_safe_equal(sql_column("origin_day", CUTOFF_DAYS), next_day.copy())
    lives = lives.join(sql_table(CUTOFF_DAYS), on=same_day, join_type="left")
    may_pass = exp.LTE(this=next_day.copy(), expression=sql_literal(base.calendar.last_day))
    is_on = exp.EQ(this=sql_column("_active", turns), expression=sql_literal(1))
    return lives.where(all_of((is_on, may_pass)))


def add_extremes(base: QueryBase, lives: str, prefix: str, names: tuple[str, str]) -> str:
    """Step with the query key and, of the lives that cover each query, the greatest and the least rank.

    Args:
        base: The query.
        lives: Step with entity, `_life_rank`, `_start_us` and `_end_us` (null: it lasts).
        prefix: Of the steps' names.
        names: Of the two columns.
    """
    lasts = is_null(sql_column(LIFE_END))
    started = exp.select(
        *sql_columns(base.entity),
        named(sql_column(LIFE_START), _INSTANT),
        named(sql_literal(0), _IS_QUERY),
        named(sql_column(LIFE_RANK), LIFE_RANK),
    )
    asked = exp.select(
        *sql_columns(base.entity),
        named(sql_column(QUERY_INSTANT), _INSTANT),
        named(sql_literal(1), _IS_QUERY),
        named(as_integer(sql_literal(None)), LIFE_RANK),
    )
    # A life that starts at the instant of a query counts for it.
    order, by = sql_columns((_INSTANT, _IS_QUERY)), sql_columns(base.entity)
    both = started.from_(sql_table(lives)).where(lasts).union(asked.from_(sql_table(QUERIES)), distinct=False)
    axis = base.steps.add("".join((prefix, "_axis")), both)
    running = exp.select(
        *sql_columns((*base.entity, _INSTANT, _IS_QUERY)),
        named(windowed(exp.Max(this=sql_column(LIFE_RANK)), by, order, running=True), names[0]),
        named(windowed(exp.Min(this=sql_column(LIFE_RANK)), by, order, running=True), names[1]),
    )
    so_far = base.steps.add("".join((prefix, "_so_far")), running.from_(sql_table(axis)))
    passing = base.steps.add("".join((prefix, "_passing")), _passing(base, lives, names))
    on = [
        *same_columns(base.entity, so_far, passing),
        null_safe_equal(sql_column(_INSTANT, so_far), sql_column(QUERY_INSTANT, passing)),
    ]
    found = exp.select(
        *sql_columns(base.entity, so_far),
        named(sql_column(_INSTANT, so_far), QUERY_INSTANT),
        named(later_of(sql_column(names[0], so_far), sql_column(names[0], passing)), names[0]),
        named(earlier_of(sql_column(names[1], so_far), sql_column(names[1], passing)), names[1]),
    ).from_(sql_table(so_far))
    found = found.join(sql_table(passing), on=all_of(on), join_type="left")
    of_queries = exp.EQ(this=sql_column(_IS_QUERY, so_far), expression=sql_literal(1))
    return base.steps.add("".join((prefix, "_extremes")), found.where(of_queries))


def _passing(base: QueryBase, lives: str, names: tuple[str, str]) -> exp.Query:
    """Greatest and least rank of the lives that ended after each query."""
    at = sql_column(QUERY_INSTANT, QUERIES)
    covers: list[SqlTerm] = [
        *same_columns(base.entity, QUERIES, lives),
        exp.GTE(this=at, expression=sql_column(LIFE_START, lives)),
        exp.LT(this=at.copy(), expression=sql_column(LIFE_END, lives)),
    ]
    rank = sql_column(LIFE_RANK, lives)
    found = exp.select(
        *sql_columns(base.query_key, QUERIES),
        named(exp.Max(this=rank), names[0]),
        named(exp.Min(this=rank.copy()), names[1]),
    )
    joined = found.from_(sql_table(QUERIES)).join(sql_table(lives), on=all_of(covers))
    return joined.group_by(*sql_columns(base.query_key, QUERIES))
