"""Windows over the daily totals known at each query, and the features of one measure made of them.

A window of dates is a few blocks of dates: queries and day states meet by equality of entity and block, then by date
and instant. One pass gives every statistic of every window of a measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlglot import exp

from replenish.bitemporal_windows import Window
from replenish.errors import BrokenPromise
from replenish.features.cluster.active_days import FIRST_DAY, NEWEST_DAY
from replenish.features.cluster.day_states import COUNT, TOTAL, UNTIL, is_active, is_observed
from replenish.features.cluster.query_base import EVENT_DAY, KNOWN, ORIGIN, QUERIES, QUERY_INSTANT, QueryBase
from replenish.features.cluster.sql_terms import (
    SqlTerm,
    all_of,
    as_integer,
    as_number,
    as_wide,
    block_of_day,
    is_between,
    is_null,
    minus,
    named,
    null_safe_equal,
    or_zero,
    over,
    plus,
    same_columns,
    sql_column,
    sql_columns,
    sql_literal,
    sql_table,
    times,
    when,
)
from replenish.features.definitions.model import FeatureDefinition
from replenish.features.offline.measure_features import feature_window

_AGE, _BLOCK = "_age_days", "_block"
_SPANLESS = ("days_since", "days_since_first")


class WindowStatistic(NamedTuple):
    """One statistic of the days of one window."""

    name: str
    window: Window

    @property
    def column(self) -> str:
        """Its name in the step of windows."""
        return "_".join(("", self.name, str(self.window.first), str(self.window.last)))


def statistics_of(features: Sequence[FeatureDefinition]) -> list[WindowStatistic]:
    """What the features of a measure need, each once."""
    of_kind = {
        "sum": ("total",),
        "count": ("count",),
        "count_nonzero": ("active",),
        "mean": ("total",),
        "std": ("total", "square"),
        "min": ("min",),
        "max": ("max",),
        "lag": ("total",),
    }
    found: dict[WindowStatistic, None] = {}
    for feature in features:
        names = of_kind.get(feature.aggregation, ())
        names += ("observed",) if names and feature.denominator == "observed" else ()
        found |= dict.fromkeys(WindowStatistic(name, feature_window(feature)) for name in names)
    return list(found)


def needs_active_days(features: Sequence[FeatureDefinition]) -> bool:
    """Whether any feature asks for the newest or first active date."""
    return any(f.aggregation in _SPANLESS or f.denominator == "since_first" for f in features)


def add_windows(base: QueryBase, days: str, statistics: Sequence[WindowStatistic], prefix: str) -> str:
    """Step with the query key and a column per statistic; without queries whose windows hold no day.

    Args:
        base: The query.
        days: Step of day states.
        statistics: At least one.
        prefix: Of the steps' names.
    """
    near, far = min(s.window.first for s in statistics), max(s.window.last for s in statistics)
    blocks = base.steps.add("".join((prefix, "_blocks")), _blocks(base, near, far))
    age = minus(sql_column(ORIGIN, blocks), sql_column(EVENT_DAY, days))
    at = sql_column(QUERY_INSTANT, blocks)
    still = exp.or_(
        is_null(sql_column(UNTIL, days)),
        exp.LT(this=at, expression=sql_column(UNTIL, days)),
    )
    on: list[SqlTerm] = [
        *same_columns(base.entity, blocks, days),
        null_safe_equal(sql_column(_BLOCK, blocks), block_of_day(sql_column(EVENT_DAY, days), far - near + 1)),
        exp.LTE(this=sql_column(KNOWN, days), expression=at.copy()),
        exp.paren(still),
        is_between(age, sql_literal(near), sql_literal(far)),
    ]
    seen = exp.select(*sql_columns(base.query_key, blocks), *sql_columns((TOTAL, COUNT), days), named(age.copy(), _AGE))
    seen = seen.from_(sql_table(blocks)).join(sql_table(days), on=all_of(on))
    step = base.steps.add("".join((prefix, "_seen")), seen)
    sums = exp.select(*sql_columns(base.query_key), *(named(_aggregated(s), s.column) for s in statistics))
    sums = sums.from_(sql_table(step)).group_by(*sql_columns(base.query_key))
    return base.steps.add("".join((prefix, "_windows")), sums)


def _blocks(base: QueryBase, near: int, far: int) -> exp.Query:
    """Each query with the one or two blocks of dates that its windows touch."""
    width = far - near + 1
    first = block_of_day(minus(sql_column(ORIGIN), sql_literal(far)), width)
    last = block_of_day(minus(sql_column(ORIGIN), sql_literal(near)), width)
    columns = sql_columns((*base.query_key, ORIGIN))
    one = exp.select(*columns, named(first, _BLOCK)).from_(sql_table(QUERIES))
    other = exp.select(*sql_columns((*base.query_key, ORIGIN)), named(last, _BLOCK)).from_(sql_table(QUERIES))
    # Not both where they are one: its days would count twice.
    return one.union(other.where(exp.GT(this=last.copy(), expression=first.copy())), distinct=False)


def _aggregated(statistic: WindowStatistic) -> SqlTerm:
    inside = is_between(sql_column(_AGE), sql_literal(statistic.window.first), sql_literal(statistic.window.last))
    total, one = sql_column(TOTAL), sql_literal(1)
    match statistic.name:
        case "total" | "count":
            value = total if statistic.name == "total" else sql_column(COUNT)
            return as_integer(exp.Sum(this=when(inside, value)))
        case "active" | "observed":
            kind = is_active() if statistic.name == "active" else is_observed()
            return as_integer(exp.Sum(this=when(all_of((inside, kind)), one)))
        case "min" | "max":
            value = when(all_of((inside, is_observed())), total)
            return exp.Min(this=value) if statistic.name == "min" else exp.Max(this=value)
        case "square":
            return as_wide(exp.Sum(this=when(inside, times(as_wide(total), as_wide(total.copy())))))
        case _:
            raise BrokenPromise("no such statistic", statistic=statistic.name)


def feature_term(feature: FeatureDefinition, windows: str | None, active: str | None) -> SqlTerm:
    """A feature of a measure, from the steps that hold its window statistics and its active dates."""
    if feature.aggregation in _SPANLESS:
        day = NEWEST_DAY if feature.aggregation == "days_since" else FIRST_DAY
        return as_integer(minus(sql_column(ORIGIN, QUERIES), sql_column(day, active)))

    def statistic(name: str) -> SqlTerm:
        return sql_column(WindowStatistic(name, feature_window(feature)).column, windows)

    match feature.aggregation:
        case "sum":
            return or_zero(statistic("total"))
        case "count":
            return or_zero(statistic("count"))
        case "count_nonzero":
            return or_zero(statistic("active"))
        case "min" | "max":
            return statistic(feature.aggregation)
        case "lag":
            if feature.denominator == "observed":
                return when(exp.GT(this=statistic("observed"), expression=sql_literal(0)), statistic("total"))
            return or_zero(statistic("total"))
        case "mean":
            return over(or_zero(statistic("total")), _n_days(feature, statistic("observed"), active))
        case "std":
            return _deviation(feature, statistic("total"), statistic("square"), statistic("observed"), active)
        case _:
            raise BrokenPromise("no feature of a measure", feature=feature.name, aggregation=feature.aggregation)


def _n_days(feature: FeatureDefinition, observed: SqlTerm, active: str | None) -> SqlTerm:
    """Days that a mean or deviation divides by; null where there are none."""
    width = sql_literal(feature.window_days or 0)
    if feature.denominator == "observed":
        n_days = or_zero(observed)
    elif feature.denominator == "since_first":
        first = sql_column(FIRST_DAY, active)
        since = minus(sql_column(ORIGIN, QUERIES), plus(first, sql_literal(feature.offset_days)))
        shorter = when(exp.LT(this=since, expression=width), since.copy(), width.copy())
        n_days = when(exp.not_(is_null(first.copy())), shorter)
    else:
        n_days = width
    return when(exp.GT(this=n_days, expression=sql_literal(0)), as_integer(n_days.copy()))


def _deviation(
    feature: FeatureDefinition, total: SqlTerm, square: SqlTerm, observed: SqlTerm, active: str | None
) -> SqlTerm:
    """sqrt(n * sum of squares - square of the sum) / n, in integers of 38 digits up to the root."""
    n_days, sum_of_days = _n_days(feature, observed, active), as_wide(or_zero(total))
    spread = minus(times(as_wide(n_days), as_wide(or_zero(square))), times(sum_of_days, sum_of_days.copy()))
    return over(exp.Sqrt(this=as_number(spread)), n_days.copy())
