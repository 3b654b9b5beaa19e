"""The offline evaluator: a feature set for any spine, exactly as known at each row's instant."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import time, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from replenish.bitemporal_windows import IntArray
from replenish.errors import OutOfRange
from replenish.features.definitions.model import FeatureDefinition, FeatureSet
from replenish.features.offline.latest_version import instants_us, latest_versions
from replenish.features.offline.ledger_checks import check_bounds, check_clocks, check_ledgers
from replenish.features.offline.ledger_parts import LedgerFrame, LedgerParts, declared_ledger
from replenish.features.offline.measure_features import MeasureFeatures, posted_statistics
from replenish.features.offline.measures import (
    is_wanted,
    latest_of,
    ledger_columns,
    measure_rows,
    measures_of,
)
from replenish.features.offline.query_axis import CutoffCalendar, QueryAxis, max_entities, query_axis

ROWS_AT_ONCE = 8_000_000
"""Ledger and spine rows evaluated at once by default: up to 1.5 GB of arrays."""

_ROW = "_spine_row"


def evaluate(
    feature_set: FeatureSet,
    spine: pl.DataFrame,
    ledgers: Mapping[str, LedgerFrame],
    zone: str,
    cutoff: time,
    *,
    as_of: str = "as_of",
    rows_at_once: int = ROWS_AT_ONCE,
) -> pl.DataFrame:
    """The spine with the features of a set, each as known at its row's instant.

    Args:
        feature_set: What to compute.
        spine: Rows with the set's entity columns and `as_of`; other columns are kept, rows may repeat.
        ledgers: By name of source its postings or, where that is its grain, its increments, in memory or lazy; rows of
            other entities are ignored.
        zone: IANA zone of the deployment; knowledge dates of increments were made with it and with `cutoff`.
        cutoff: Cut-off of an origin, in `zone`.
        as_of: Name of the spine's instant, a timestamp with a zone.
        rows_at_once: Ledger and spine rows to hold in arrays at once; entities are parted accordingly.

    Returns:
        The spine's rows and columns in their order, then one column per feature in the set's order.

    Raises:
        OutOfRange: A column is missing or has a wrong type, a feature is called like a column of the spine, an `as_of`
            is null, or no cut-off although the set is daily; a row lacks a clock; the values of an entity leave 64
            bits together; increments are asked for what they do not hold.
    """
    parts = list(evaluate_partitions(feature_set, spine, ledgers, zone, cutoff, as_of=as_of, rows_at_once=rows_at_once))
    rows = pl.concat([row for row, _ in parts])
    features = pl.concat([frame.select(feature_set.feature_names) for _, frame in parts])
    if len(parts) > 1:
        place = np.empty(len(rows), dtype=np.int64)
        place[rows.to_numpy()] = np.arange(len(rows), dtype=np.int64)
        features = features[place]
    return pl.concat([spine, features], how="horizontal")


def evaluate_partitions(
    feature_set: FeatureSet,
    spine: pl.DataFrame,
    ledgers: Mapping[str, LedgerFrame],
    zone: str,
    cutoff: time,
    *,
    as_of: str = "as_of",
    rows_at_once: int = ROWS_AT_ONCE,
    spill: Path | None = None,
) -> Iterator[tuple[pl.Series, pl.DataFrame]]:
    """`evaluate` by partitions of entities, one at a time: (row numbers of the spine, those rows with features).

    Entities are parted in order of their keys. At least one partition is given, an empty one for an empty spine.

    Args:
        spill: A folder that nobody else uses, made and taken away here. With it a ledger still to be read is read once,
            however many partitions there are; without it once for each.
    """
    instant = _checked_instants(feature_set, spine, ledgers, as_of)
    calendar = _calendar(instant, zone, cutoff)
    if feature_set.clock == "daily":
        _check_cutoffs(instant, calendar, spine, as_of)
    entities, number = _numbered_entities(spine, feature_set.entity)
    size = _partition_size(feature_set, entities.height, instant, ledgers, rows_at_once)
    sources = [feature_set.source(name) for name in _sources_of(feature_set)]
    if spill is not None:
        # Left by one that was killed.
        shutil.rmtree(spill, ignore_errors=True)
    parts: dict[str, LedgerParts] = {}
    for source in sources:
        ledger = declared_ledger(ledgers[source.name], source)
        columns = ledger_columns(feature_set, source)
        own = None if spill is None else spill / source.name
        parts[source.name] = LedgerParts(ledger, columns, feature_set.entity, entities, size, own)
    try:
        for nr, start in enumerate(range(0, max(entities.height, 1), size)):
            stop = min(start + size, entities.height)
            rows = np.arange(len(number)) if stop - start == entities.height else _rows_between(number, start, stop)
            axis, order = query_axis(number[rows] - start, instant[rows], calendar)
            features = _Partition(feature_set, axis, nr, parts).columns()
            place = np.empty(len(order), dtype=np.int64)
            place[order] = np.arange(len(order), dtype=np.int64)
            frame = pl.concat([spine[rows], pl.DataFrame(features)[place]], how="horizontal")
            yield pl.Series(_ROW, rows), frame
    finally:
        if spill is not None:
            shutil.rmtree(spill, ignore_errors=True)


@dataclass(frozen=True)
class _Partition:
    """The queries of some entities, evaluated source by source so that one ledger is held at a time."""

    feature_set: FeatureSet
    axis: QueryAxis
    number: int
    parts: Mapping[str, LedgerParts]

    def columns(self) -> list[pl.Series]:
        """One column per feature in the set's order, rows in the order of the axis."""
        found: dict[str, pl.Series] = {}
        for name in _sources_of(self.feature_set):
            found |= self._of_source(name)
        for feature in self.feature_set.features:
            if feature.aggregation == "ratio":
                found[feature.name] = _ratio(feature, found)
        return [found[name] for name in self.feature_set.feature_names]

    def _of_source(self, name: str) -> dict[str, pl.Series]:
        source = self.feature_set.source(name)
        ledger = self.parts[name].part(self.number)
        check_clocks(ledger, name, self.feature_set.entity)
        found: dict[str, pl.Series] = {}
        for measure, features in measures_of(self.feature_set).items():
            if measure.source == name:
                names, calendar = posted_statistics(features), self.axis.calendar
                rows = measure_rows(ledger, source, measure, names, calendar)
                check_bounds(rows, ledger, measure, self.feature_set.entity)
                evaluated = MeasureFeatures(self.axis, rows, features)
                found |= {f.name: evaluated.column(f) for f in features}
        for (latest_source, where), features in latest_of(self.feature_set).items():
            if latest_source == name:
                chosen = None if where is None else is_wanted(where)
                row = latest_versions(self.axis, ledger, fact_key=source.fact_key, is_chosen=chosen)
                found |= {f.name: _latest_value(self.axis, ledger, row, f) for f in features}
        return found


def _latest_value(axis: QueryAxis, ledger: pl.DataFrame, row: IntArray, feature: FeatureDefinition) -> pl.Series:
    """The value of the rows found, null where none is live or the matched event time is too old."""
    place = pl.Series(row)
    is_found = place >= 0
    if feature.time_to_live_days is not None and ledger.height:
        # A row that is not found reads row 0 and stays null.
        age = axis.instant - instants_us(ledger["event_time"])[np.maximum(row, 0)]
        is_found &= pl.Series(age <= timedelta(days=feature.time_to_live_days) // timedelta(microseconds=1))
    place = pl.select(pl.when(is_found).then(place)).to_series()
    return ledger[str(feature.value)].gather(place).rename(feature.name)


def _ratio(feature: FeatureDefinition, found: Mapping[str, pl.Series]) -> pl.Series:
    numerator, denominator = pl.lit(found[str(feature.numerator)]), pl.lit(found[str(feature.denominator_feature)])
    quotient = numerator.cast(pl.Float64) / denominator.cast(pl.Float64)
    return pl.select(pl.when(denominator != 0).then(quotient).alias(feature.name)).to_series()


def _checked_instants(
    feature_set: FeatureSet, spine: pl.DataFrame, ledgers: Mapping[str, LedgerFrame], as_of: str
) -> IntArray:
    """The spine's instants [us], once everything has the columns and types that are needed."""
    missing = [c for c in (*feature_set.entity, as_of) if c not in spine.columns]
    if missing:
        raise OutOfRange("the spine lacks columns", feature_set=feature_set.name, columns=missing)
    clash = sorted(set(feature_set.feature_names) & set(spine.columns))
    if clash:
        raise OutOfRange("the spine already has columns of these names", feature_set=feature_set.name, columns=clash)
    dtype = spine.schema[as_of]
    if not isinstance(dtype, pl.Datetime) or dtype.time_zone is None:
        raise OutOfRange("as_of is a timestamp with a zone", column=as_of, dtype=str(dtype))
    if spine[as_of].null_count():
        raise OutOfRange("as_of is null", column=as_of, rows=spine[as_of].null_count())
    check_ledgers(feature_set, ledgers, spine)
    return instants_us(spine[as_of])


def _calendar(instant: IntArray, zone: str, cutoff: time) -> CutoffCalendar:
    oldest, newest = (int(instant.min()), int(instant.max())) if len(instant) else (0, 0)
    return CutoffCalendar.around(oldest, newest, zone, cutoff)


def _check_cutoffs(instant: IntArray, calendar: CutoffCalendar, spine: pl.DataFrame, as_of: str) -> None:
    wrong = np.flatnonzero(calendar.instant_of(calendar.origin_of(instant)) != instant)
    if len(wrong):
        raise OutOfRange(
            "a daily set is evaluated at cut-offs only", rows=len(wrong), example=spine[as_of][int(wrong[0])]
        )


def _numbered_entities(spine: pl.DataFrame, entity: Sequence[str]) -> tuple[pl.DataFrame, IntArray]:
    """The spine's entities sorted by key, and the number of each row's."""
    keys = spine.select(entity)
    entities = keys.unique().sort(*entity)
    numbers = entities.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_number"))
    found = keys.join(numbers, on=list(entity), how="left", nulls_equal=True, maintain_order="left")
    return entities, found["_number"].to_numpy()


def _sources_of(feature_set: FeatureSet) -> list[str]:
    return list(dict.fromkeys(f.source for f in feature_set.features if f.source is not None))


def _partition_size(
    feature_set: FeatureSet,
    n_entities: int,
    instant: IntArray,
    ledgers: Mapping[str, LedgerFrame],
    rows_at_once: int,
) -> int:
    """How many entities are evaluated together, at least 1."""
    if not n_entities:
        return 1
    n_rows = [ledgers[name].lazy().select(pl.len()).collect().item() for name in _sources_of(feature_set)]
    n_parts = -(-(max(n_rows, default=0) + len(instant)) // max(1, rows_at_once))
    size = -(-n_entities // min(n_entities, max(1, n_parts)))
    return min(size, max_entities(int(instant.min()), int(instant.max())))


def _rows_between(number: IntArray, start: int, stop: int) -> IntArray:
    return np.flatnonzero((number >= start) & (number < stop))
