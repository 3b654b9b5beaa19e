"""Sources against the contracts of their streams: columns, units, casts, fact keys, and classification inherited."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import get_args

from replenish.contracts.model import CLOCK_COLUMNS, Classification, Column, Contract, LogicalType
from replenish.features.definitions.meaning import MOST_DAYS, RESERVED_NAMES, DefinitionMistake
from replenish.features.definitions.model import (
    COUNTED_KINDS,
    FeatureDefinition,
    FeatureSet,
    FeatureSource,
    SourceColumn,
)

POSTING_KINDS = (*COUNTED_KINDS, "cancellation", "return")
CASTS: frozenset[tuple[LogicalType, LogicalType]] = frozenset({("boolean", "integer"), ("integer", "number")})
"""(from, to) of the casts that lose nothing and depend on no format; a type may always stay as it is."""

_TABLE = re.compile(r"gold/[a-z][a-z0-9_]*")
_STRICTNESS: tuple[Classification, ...] = get_args(Classification)


def source_mistakes(feature_set: FeatureSet, contracts: Mapping[str, Contract]) -> Iterator[DefinitionMistake]:
    """Every mistake in the sources and targets of a set, held against the contracts (by stream)."""
    if not feature_set.entity or len(set(feature_set.entity)) != len(feature_set.entity):
        yield DefinitionMistake("entity", "must name key columns, each once")
    for source in feature_set.sources:
        place = f"sources.{source.name}"
        if not _TABLE.fullmatch(source.table):
            yield DefinitionMistake(
                f"{place}.table", "must be a gold table, as gold/fct_demand: features read nothing below"
            )
        if source.stream not in contracts:
            known = ", ".join(sorted(contracts))
            yield DefinitionMistake(f"{place}.stream", f"no contract for stream {source.stream!r}; known: {known}")
            continue
        yield from _mapping_mistakes(source, contracts[source.stream], place)
        yield from _key_mistakes(feature_set, source, contracts[source.stream], place)
        if source.name not in {*(f.source for f in feature_set.features), *(t.source for t in feature_set.targets)}:
            yield DefinitionMistake(place, "no feature or target reads it: drop it")
    yield from _target_mistakes(feature_set)


def feature_classification(
    feature_set: FeatureSet, feature: FeatureDefinition, contracts: Mapping[str, Contract]
) -> Classification:
    """The strictest classification of the contract columns behind a feature: its keys, value and filter.

    A ratio is as strict as its parts. Expects a set without mistakes.
    """
    if feature.aggregation == "ratio":
        parts = (feature_set.feature(name or "") for name in (feature.numerator, feature.denominator_feature))
        return _strictest([feature_classification(feature_set, part, contracts) for part in parts])
    source = feature_set.source(feature.source or "")
    read = [name for name in (feature.value, feature.where and feature.where.column) if name]
    names = [*feature_set.entity, *(source.column(name).from_column for name in read)]
    return _strictest([contracts[source.stream].column(name).classification for name in names])


def _strictest(found: list[Classification]) -> Classification:
    return max(found, key=_STRICTNESS.index)


def _mapping_mistakes(source: FeatureSource, contract: Contract, place: str) -> Iterator[DefinitionMistake]:
    seen: set[str] = set()
    for column in source.columns:
        inner = f"{place}.columns.{column.name}"
        if column.name in seen:
            yield DefinitionMistake(inner, "is declared twice: drop one")
        seen.add(column.name)
        if column.name in RESERVED_NAMES:
            yield DefinitionMistake(inner, "every ledger has a column of this name: choose another")
        if column.from_column not in contract.names:
            known = ", ".join(contract.names)
            yield DefinitionMistake(f"{inner}.from", f"{source.stream} has no column {column.from_column!r}: {known}")
        else:
            yield from _cast_mistakes(column, contract.column(column.from_column), inner)
    wrong = [kind for kind in source.posting_kinds if kind not in POSTING_KINDS]
    if (
        wrong
        or not set(COUNTED_KINDS) <= set(source.posting_kinds)
        or len(set(source.posting_kinds)) < len(source.posting_kinds)
    ):
        rule = f"must hold {' and '.join(COUNTED_KINDS)}, and may hold {' and '.join(POSTING_KINDS[2:])}, each once"
        yield DefinitionMistake(f"{place}.posting_kinds", rule)


def _cast_mistakes(column: SourceColumn, origin: Column, place: str) -> Iterator[DefinitionMistake]:
    if column.logical_type != origin.logical_type and (origin.logical_type, column.logical_type) not in CASTS:
        casts = ", ".join(sorted(f"{a} to {b}" for a, b in CASTS))
        rule = f"{origin.logical_type} is not cast to {column.logical_type} (only {casts}): change it in gold's source"
        yield DefinitionMistake(f"{place}.type", rule)
    if origin.unit is not None and column.unit != origin.unit:
        yield DefinitionMistake(
            f"{place}.unit", f"must be {origin.unit!r}, the contract's: sources rename and cast only"
        )


def _key_mistakes(
    feature_set: FeatureSet, source: FeatureSource, contract: Contract, place: str
) -> Iterator[DefinitionMistake]:
    for name in feature_set.entity:
        if name not in contract.names:
            yield DefinitionMistake("entity", f"{source.stream}, behind source {source.name}, has no column {name!r}")
    expected = tuple("event_time" if name == contract.event_time else name for name in contract.fact_key)
    if sorted(source.fact_key) != sorted(expected):
        rule = f"must be [{', '.join(expected)}], the key of contract {contract.stream} with its clock as event_time"
        yield DefinitionMistake(f"{place}.fact_key", rule)
    unknown = set(source.fact_key) - set(contract.names) - set(CLOCK_COLUMNS)
    if unknown:
        yield DefinitionMistake(f"{place}.fact_key", f"{source.stream} has no column {sorted(unknown)[0]!r}")


def _target_mistakes(feature_set: FeatureSet) -> Iterator[DefinitionMistake]:
    seen: set[str] = set()
    for target in feature_set.targets:
        place = f"targets.{target.name}"
        if target.name in seen:
            yield DefinitionMistake(f"{place}.name", "is declared twice: drop one")
        seen.add(target.name)
        columns = {f"{s.name}.{c.name}": c for s in feature_set.sources for c in s.columns}
        column = columns.get(f"{target.source}.{target.value}")
        if column is None or column.logical_type != "integer":
            rule = f"{target.source}.{target.value} is no integer column of a source: declare one"
            yield DefinitionMistake(f"{place}.value", rule)
        if not 1 <= target.horizon_days <= MOST_DAYS:
            yield DefinitionMistake(f"{place}.horizon_days", f"must be 1 to {MOST_DAYS} days, is {target.horizon_days}")
        elif target.first_day + target.horizon_days < 1:
            rule = f"the target would end at t{target.first_day + target.horizon_days - 1:+d}: it must reach day t"
            yield DefinitionMistake(f"{place}.first_day", rule)
