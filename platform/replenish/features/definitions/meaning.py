"""Whether a feature set makes sense: every rule over its features, each mistake with its place and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from replenish.features.definitions.model import (
    WINDOWED,
    Aggregation,
    FeatureDefinition,
    FeatureSet,
    SourceColumn,
    feature_type,
)

MOST_DAYS = 3660
"""Ten years: a longer window, lag or time-to-live is a slip of the pen."""

COUNT_UNIT = "facts"
DAYS_UNIT = "days"
RATIO_UNIT = "ratio"
"""Unit of a ratio whose parts have the same unit; of others it is `<numerator's>/<denominator's>`."""

FEATURE_NAME = re.compile(r"[a-z][a-z0-9]*(_{1,2}[a-z0-9]+)*")
"""Lower case words joined by `_`; `__` before a window."""

RESERVED_NAMES = frozenset(
    {"as_of", "origin_date", "feature_set_id", "event_time", "event_date", "knowledge_time", "knowledge_date"}
    | {"version_nr", "posting_kind", "posting_sign"}
)
"""Columns that spines, results and ledgers have anyway."""

_OPTIONAL_FIELDS = (
    *("source", "value", "window_days", "offset_days", "lag_days", "denominator", "time_to_live_days", "where"),
    *("numerator", "denominator_feature"),
)
_WINDOW = ("source", "value", "window_days")
_NEEDED: dict[Aggregation, tuple[str, ...]] = {
    **dict.fromkeys(("sum", "count_nonzero", "min", "max"), _WINDOW),
    **dict.fromkeys(("mean", "std"), (*_WINDOW, "denominator")),
    "count": ("source", "window_days"),
    "lag": ("source", "value", "lag_days"),
    **dict.fromkeys(("days_since", "days_since_first", "last"), ("source", "value")),
    "ratio": ("numerator", "denominator_feature"),
}
_ALLOWED: dict[Aggregation, tuple[str, ...]] = {
    **dict.fromkeys(WINDOWED, ("offset_days", "where")),
    "count": ("value", "offset_days", "where"),
    "lag": ("denominator", "where"),
    **dict.fromkeys(("days_since", "days_since_first"), ("where",)),
    "last": ("time_to_live_days", "where"),
    "ratio": (),
}
_VALUE_TYPES: dict[str, type] = {"string": str, "integer": int, "boolean": bool}


@dataclass(frozen=True)
class DefinitionMistake:
    """One broken rule: where (dotted, by name) and what to do about it."""

    place: str
    rule: str


def feature_mistakes(feature_set: FeatureSet) -> Iterator[DefinitionMistake]:
    """Every mistake in the features of a set, feature by feature; sources and targets are not judged here."""
    before: dict[str, FeatureDefinition] = {}
    for feature in feature_set.features:
        yield from _name_mistakes(feature, feature_set, before)
        found = list(_field_mistakes(feature))
        found = found or list(_reading_mistakes(feature, feature_set, before))
        yield from found or _unit_mistakes(feature, feature_set)
        before.setdefault(feature.name, feature)


def _at(feature: FeatureDefinition, field: str, rule: str) -> DefinitionMistake:
    return DefinitionMistake(f"features.{feature.name}.{field}", rule)


def _name_mistakes(
    feature: FeatureDefinition, feature_set: FeatureSet, before: dict[str, FeatureDefinition]
) -> Iterator[DefinitionMistake]:
    if not FEATURE_NAME.fullmatch(feature.name):
        yield _at(feature, "name", "must be lower case letters, digits and _, with __ at most before a window")
    if feature.name in RESERVED_NAMES or feature.name in feature_set.entity:
        yield _at(feature, "name", f"{feature.name!r} is a column of every result: choose another name")
    if feature.name in before:
        yield _at(feature, "name", f"{feature.name!r} is defined twice in this set: rename or drop one")


def _field_mistakes(feature: FeatureDefinition) -> Iterator[DefinitionMistake]:
    """Fields that the aggregation needs or has no use for, and numbers out of range."""
    kind = feature.aggregation
    needed = _NEEDED[kind]
    for field in _OPTIONAL_FIELDS:
        value = getattr(feature, field)
        is_given = value is not None and not (field == "offset_days" and value == 0)
        if field in needed and not is_given:
            yield _at(feature, field, f"is missing: {kind} needs {', '.join(needed)}")
        elif is_given and field not in (*needed, *_ALLOWED[kind]):
            yield _at(feature, field, f"means nothing for {kind}, which takes {_taken(kind)}: drop it")
    for field in ("window_days", "lag_days", "time_to_live_days"):
        days = getattr(feature, field)
        if days is not None and not 1 <= days <= MOST_DAYS:
            yield _at(feature, field, f"must be 1 to {MOST_DAYS} days, is {days}")
    if not 0 <= feature.offset_days <= MOST_DAYS:
        yield _at(feature, "offset_days", f"must be 0 to {MOST_DAYS} days, is {feature.offset_days}")
    if kind == "lag" and feature.denominator == "since_first":
        yield _at(feature, "denominator", "of a lag must be calendar (a day without facts is 0) or observed (null)")


def _taken(kind: Aggregation) -> str:
    return ", ".join((*_NEEDED[kind], *(f"{field} (optional)" for field in _ALLOWED[kind])))


def _reading_mistakes(
    feature: FeatureDefinition, feature_set: FeatureSet, before: dict[str, FeatureDefinition]
) -> Iterator[DefinitionMistake]:
    """Sources, columns and parts that do not exist or cannot be read so."""
    if feature.aggregation == "ratio":
        yield from _ratio_mistakes(feature, feature_set, before)
        return
    sources = {source.name: source for source in feature_set.sources}
    source = sources.get(feature.source or "")
    if source is None:
        yield _at(feature, "source", f"no such source: {feature.source!r}; declared: {', '.join(sources)}")
        return
    columns = {column.name: column for column in source.columns}
    if feature.value is not None and feature.value not in columns:
        yield _at(feature, "value", f"source {source.name} has no column {feature.value!r}; declared: {_list(columns)}")
    elif feature.value is not None and feature.aggregation not in ("last", "count"):
        column = columns[feature.value]
        if column.logical_type != "integer":
            rule = f"{feature.aggregation} is kept in integers and {column.name} is {column.logical_type}"
            yield _at(feature, "value", f"{rule}: declare the column with `type: integer`, or read it with last")
    yield from _where_mistakes(feature, columns)


def _where_mistakes(feature: FeatureDefinition, columns: dict[str, SourceColumn]) -> Iterator[DefinitionMistake]:
    if feature.where is None:
        return
    column = columns.get(feature.where.column)
    if column is None:
        rule = f"source {feature.source} has no column {feature.where.column!r}; declared: {_list(columns)}"
        yield _at(feature, "where", rule)
        return
    if column.logical_type not in _VALUE_TYPES:
        yield _at(feature, "where", f"{column.name} is {column.logical_type}: filter on text, integers or booleans")
    elif type(feature.where.equals) is not _VALUE_TYPES[column.logical_type]:
        rule = f"{column.name} is {column.logical_type} and cannot equal {feature.where.equals!r}"
        yield _at(feature, "where", f"{rule}: compare it with a value of its type")


def _ratio_mistakes(
    feature: FeatureDefinition, feature_set: FeatureSet, before: dict[str, FeatureDefinition]
) -> Iterator[DefinitionMistake]:
    for field in ("numerator", "denominator_feature"):
        name = getattr(feature, field)
        if name not in before:
            where = "stands further down: move it up" if name in feature_set.feature_names else "does not exist"
            yield _at(feature, field, f"{name!r} {where}; a ratio divides features defined before it in the same set")
        elif _is_sound(before[name], feature_set) and feature_type(feature_set, before[name]) not in _NUMBERS:
            yield _at(feature, field, f"{name!r} is no number: a ratio divides integers or numbers")


_NUMBERS = ("integer", "number")


def _is_sound(feature: FeatureDefinition, feature_set: FeatureSet) -> bool:
    """Whether the type of a feature can be told: its source and column exist."""
    if feature.aggregation != "last":
        return True
    return any(s.name == feature.source and feature.value in {c.name for c in s.columns} for s in feature_set.sources)


def _unit_mistakes(feature: FeatureDefinition, feature_set: FeatureSet) -> Iterator[DefinitionMistake]:
    expected = expected_unit(feature_set, feature)
    if feature.unit != expected:
        yield _at(feature, "unit", f"must be {expected!r}, is {feature.unit!r}: it follows from what is read")


def expected_unit(feature_set: FeatureSet, feature: FeatureDefinition) -> str:
    """The unit that follows from what a feature reads; KeyError where that does not exist."""
    if feature.aggregation == "ratio":
        over = feature_set.feature(feature.numerator or "").unit
        under = feature_set.feature(feature.denominator_feature or "").unit
        return RATIO_UNIT if over == under else f"{over}/{under}"
    if feature.aggregation == "count":
        return COUNT_UNIT
    if feature.aggregation in ("count_nonzero", "days_since", "days_since_first"):
        return DAYS_UNIT
    return feature_set.source(feature.source or "").column(feature.value or "").unit


def _list(columns: dict[str, SourceColumn]) -> str:
    return ", ".join(columns) or "none"
