"""What features read from one ledger: their measure (source, value, filter), and its rows as integer arrays."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import polars as pl

from replenish.errors import OutOfRange
from replenish.features.definitions.model import (
    COUNTED_KINDS,
    FeatureDefinition,
    FeatureSet,
    FeatureSource,
    RowFilter,
)
from replenish.features.offline.latest_version import ENTITY_NUMBER, instants_us
from replenish.features.offline.query_axis import CutoffCalendar
from replenish.features.offline.window_sums import DayRows

SUMMED_TYPES = (pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)
"""Column types that are summed, as Int64."""


class Measure(NamedTuple):
    """What daily totals are of: one value of one source, of all postings or of some."""

    source: str
    value: str | None
    where: RowFilter | None


def measures_of(feature_set: FeatureSet) -> dict[Measure, list[FeatureDefinition]]:
    """The features that need daily totals, by measure."""
    found: dict[Measure, list[FeatureDefinition]] = {}
    for feature in feature_set.features:
        if feature.source is not None and feature.aggregation != "last":
            found.setdefault(Measure(feature.source, feature.value, feature.where), []).append(feature)
    return found


def latest_of(feature_set: FeatureSet) -> dict[tuple[str, RowFilter | None], list[FeatureDefinition]]:
    """The features that read a latest value, by source and filter."""
    found: dict[tuple[str, RowFilter | None], list[FeatureDefinition]] = {}
    for feature in feature_set.features:
        if feature.source is not None and feature.aggregation == "last":
            found.setdefault((feature.source, feature.where), []).append(feature)
    return found


def ledger_columns(feature_set: FeatureSet, source: FeatureSource) -> list[str]:
    """The columns of a source's ledger that the set reads."""
    features = [f for f in feature_set.features if f.source == source.name]
    if source.is_increments:
        values = [f.value for f in features if f.value is not None]
        return list(dict.fromkeys([*feature_set.entity, "event_date", "knowledge_date", str(source.lines), *values]))
    columns = [*feature_set.entity, "knowledge_time", "posting_kind"]
    if any(f.aggregation == "last" for f in features):
        columns += ["event_time", "version_nr", *source.fact_key]
    if any(f.aggregation != "last" for f in features):
        columns += ["event_date", "posting_sign"]
    columns += [f.value for f in features if f.value is not None]
    columns += [f.where.column for f in features if f.where is not None]
    return list(dict.fromkeys(columns))


def is_wanted(where: RowFilter) -> pl.Expr:
    """Whether a posting passes a filter; a null does not."""
    return (pl.col(where.column) == pl.lit(where.equals)).fill_null(False)


def measure_rows(
    ledger: pl.DataFrame,
    source: FeatureSource,
    measure: Measure,
    names: Collection[str],
    calendar: CutoffCalendar,
) -> DayRows:
    """What the rows of a measure add to its daily totals, from a ledger of either grain with `_entity`.

    Args:
        ledger: Rows of the source, of the axis's entities.
        source: Which grain and posting kinds there are.
        measure: Value and filter.
        names: `total` (D), `count` (N) or both.
        calendar: When increments are known.

    Raises:
        OutOfRange: Increments without a count of facts.
    """
    if source.is_increments:
        return _measure_increments(ledger, source, measure, names, calendar)
    return _measure_postings(ledger, source, measure, names)


def _measure_postings(ledger: pl.DataFrame, source: FeatureSource, measure: Measure, names: Collection[str]) -> DayRows:
    """What the postings of a measure add to its daily totals, from a ledger with `_entity`.

    Args:
        ledger: Postings of the source, of the axis's entities.
        source: Which posting kinds there are.
        measure: Value and filter.
        names: `total` (D), `count` (N) or both.
    """
    if measure.where is not None:
        ledger = ledger.filter(is_wanted(measure.where))
    says = pl.col("event_date").is_not_null()
    if measure.value is not None:
        says &= pl.col(measure.value).is_not_null()
    is_summed = measure.value is not None and ledger.schema[measure.value] in SUMMED_TYPES
    value = pl.col(str(measure.value)).cast(pl.Int64) if is_summed else pl.lit(0, dtype=pl.Int64)
    counted = [kind for kind in source.posting_kinds if kind in COUNTED_KINDS]
    sign = pl.col("posting_sign").cast(pl.Int64)
    # A posting that adds nothing stays as one that adds 0: a copy without it would cost more.
    delta = {
        "total": pl.when(says & _is_of(source.posting_kinds)).then(sign * value).otherwise(0),
        "count": pl.when(says & _is_of(counted)).then(sign).otherwise(0),
    }
    postings = ledger.select(_day("event_date").alias("event"), **{name: delta[name] for name in names})
    return DayRows(
        ledger[ENTITY_NUMBER].to_numpy(),
        postings["event"].to_numpy(),
        instants_us(ledger["knowledge_time"]),
        {name: postings[name].to_numpy() for name in names},
    )


def _measure_increments(
    ledger: pl.DataFrame,
    source: FeatureSource,
    measure: Measure,
    names: Collection[str],
    calendar: CutoffCalendar,
) -> DayRows:
    """`measure_rows` of sums by day: values are changes of D, lines those of N, known at the knowledge date's cut-off.

    At a cut-off, what is known of postings is what became known up to some knowledge date: nothing lies between.
    """
    n_silent = ledger[str(source.lines)].null_count()
    if n_silent:
        raise OutOfRange("increments without a count of facts", source=source.name, column=source.lines, rows=n_silent)
    is_summed = measure.value is not None and ledger.schema[measure.value] in SUMMED_TYPES
    delta = {
        "total": pl.col(str(measure.value)).cast(pl.Int64).fill_null(0) if is_summed else pl.lit(0, dtype=pl.Int64),
        "count": pl.col(str(source.lines)).cast(pl.Int64),
    }
    columns = {"event": _day("event_date"), "known": _day("knowledge_date")} | {name: delta[name] for name in names}
    rows = ledger.select(**columns)
    return DayRows(
        ledger[ENTITY_NUMBER].to_numpy(),
        rows["event"].to_numpy(),
        calendar.instant_of(rows["known"].to_numpy()),
        {name: rows[name].to_numpy() for name in names},
    )


def _day(column: str) -> pl.Expr:
    """Days since 1970-01-01; what a null becomes is of no meaning."""
    return pl.col(column).cast(pl.Date).to_physical().cast(pl.Int64).fill_null(0)


def _is_of(kinds: Sequence[str]) -> pl.Expr:
    return pl.any_horizontal(pl.lit(False), *[pl.col("posting_kind") == kind for kind in kinds])
