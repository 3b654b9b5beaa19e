"""The latest value known at each query: the greatest version in force, by rank.

A version is in force from the later of its event time and its knowledge time until its reversal is known. Ranks order
the versions of an entity by what decides which is the latest, so that one number is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlglot import exp

from replenish.features.cluster.active_days import LIFE_END, LIFE_RANK, LIFE_START, add_extremes
from replenish.features.cluster.query_base import KNOWN, QUERY_INSTANT, QueryBase, passes
from replenish.features.cluster.sql_terms import (
    DAY_MICROSECONDS,
    SqlTerm,
    all_of,
    as_integer,
    is_null,
    later_of,
    microseconds,
    minus,
    named,
    null_safe_equal,
    same_columns,
    sql_column,
    sql_columns,
    sql_literal,
    sql_table,
    when,
    windowed,
)
from replenish.features.definitions.model import FeatureDefinition, FeatureSource, RowFilter

_EVENT = "_event_us"
_RANKS = ("_newest_rank", "_oldest_rank")


class LatestStep(NamedTuple):
    """A step with the query key, and per feature the column that holds its value."""

    name: str
    columns: dict[str, str]


def add_latest(
    base: QueryBase,
    source: FeatureSource,
    where: RowFilter | None,
    features: Sequence[FeatureDefinition],
    rows: str,
    prefix: str,
) -> LatestStep:
    """Steps for the `last` features of one source and filter.

    Args:
        base: The query.
        source: Gives the fact key.
        where: Only versions that pass.
        features: Of aggregation `last`.
        rows: Step with the source's known rows.
        prefix: Makes the names of steps differ.
    """
    carried = {f"_value_{nr}": name for nr, name in enumerate(dict.fromkeys(str(f.value) for f in features))}
    versions = base.steps.add("".join((prefix, "_versions")), _versions(base, source, where, carried, rows))
    lives = base.steps.add("".join((prefix, "_lives")), _ranked(base, source, carried, versions))
    ranks = add_extremes(base, lives, prefix, _RANKS)
    on = [
        *same_columns(base.entity, ranks, lives),
        null_safe_equal(sql_column(_RANKS[0], ranks), sql_column(LIFE_RANK, lives)),
    ]
    place = {value: column for column, value in carried.items()}
    found = exp.select(
        *sql_columns(base.query_key, ranks),
        *(named(_fresh(f, place[str(f.value)], ranks, lives), f.name) for f in features),
    )
    found = found.from_(sql_table(ranks)).join(sql_table(lives), on=all_of(on))
    return LatestStep(base.steps.add("".join((prefix, "_latest")), found), {f.name: f.name for f in features})


def _versions(
    base: QueryBase, source: FeatureSource, where: RowFilter | None, carried: dict[str, str], rows: str
) -> exp.Query:
    """Versions and reversals, each with the instant from which its version is taken back."""
    is_reversal = exp.EQ(this=sql_column("posting_kind"), expression=sql_literal("reversal"))
    ended = exp.Min(this=when(is_reversal, sql_column(KNOWN)))
    identity = dict.fromkeys((*source.fact_key, "version_nr"))
    rest = _rest_of_key(base, source)
    versions = exp.select(
        *sql_columns(base.entity),
        *sql_columns((KNOWN, "posting_kind", "version_nr")),
        *(named(sql_column(name), column) for column, name in rest.items()),
        *(named(sql_column(name), column) for column, name in carried.items()),
        named(microseconds(sql_column("event_time")), _EVENT),
        named(windowed(ended, sql_columns(identity)), LIFE_END),
        named(when(passes(where), sql_literal(1), sql_literal(0)), "_is_chosen"),
    )
    kinds = exp.In(this=sql_column("posting_kind"), expressions=[sql_literal("version"), sql_literal("reversal")])
    return versions.from_(sql_table(rows)).where(kinds)


def _ranked(base: QueryBase, source: FeatureSource, carried: dict[str, str], versions: str) -> exp.Query:
    """Versions that are in force at some instant, with rank and span."""
    start = later_of(sql_column(_EVENT), sql_column(KNOWN))
    order = sql_columns((_EVENT, KNOWN, *_rest_of_key(base, source), "version_nr"))
    rank = windowed(exp.RowNumber(), sql_columns(base.entity), order)
    ranked = exp.select(
        *sql_columns((*base.entity, _EVENT, *carried, LIFE_END)),
        named(start, LIFE_START),
        named(as_integer(rank), LIFE_RANK),
    )
    lasts = exp.or_(
        is_null(sql_column(LIFE_END)),
        exp.LT(this=start.copy(), expression=sql_column(LIFE_END)),
    )
    chosen: list[SqlTerm] = [
        exp.EQ(this=sql_column("posting_kind"), expression=sql_literal("version")),
        exp.EQ(this=sql_column("_is_chosen"), expression=sql_literal(1)),
        exp.paren(lasts),
    ]
    return ranked.from_(sql_table(versions)).where(all_of(chosen))


def _rest_of_key(base: QueryBase, source: FeatureSource) -> dict[str, str]:
    """Columns of the fact key that decide between versions of one entity and event time, under names of their own."""
    rest = [name for name in source.fact_key if name not in (*base.entity, "event_time")]
    return {f"_key_{nr}": name for nr, name in enumerate(rest)}


def _fresh(feature: FeatureDefinition, column: str, ranks: str, lives: str) -> SqlTerm:
    value = sql_column(column, lives)
    if feature.time_to_live_days is None:
        return value
    age = minus(sql_column(QUERY_INSTANT, ranks), sql_column(_EVENT, lives))
    limit = sql_literal(feature.time_to_live_days * DAY_MICROSECONDS)
    return when(exp.LTE(this=age, expression=limit), value)
