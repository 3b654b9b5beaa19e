"""What a feature set is, apart from its words: the canonical form, the id, and what tells two forms apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from replenish.digests import json_digest
from replenish.features.definitions.model import FeatureDefinition, FeatureSet, FeatureSource

FEATURE_SEMANTICS_VERSION = 1
"""Raised whenever an aggregation gets another meaning, so that every feature-set id changes."""

_SET_DEFAULTS: dict[str, object] = {"offset_days": 0, "first_day": 0, "is_planned": False, "grain": "postings"}
"""Left out of canonical forms where a field has this value, as None is: a field added later keeps older ids."""


def canonical_form(feature_set: FeatureSet) -> dict[str, object]:
    """Everything of a set that decides its values, as JSON: no names of people, no descriptions, no version.

    Sources, columns, features, targets and planned columns are mappings by name, so that their order in the file does
    not matter; the order of the entity columns does.
    """
    return {
        "semantics": FEATURE_SEMANTICS_VERSION,
        "clock": feature_set.clock,
        "entity": list(feature_set.entity),
        "sources": {source.name: _source_form(source) for source in feature_set.sources},
        "features": {feature.name: _feature_form(feature) for feature in feature_set.features},
        "targets": {t.name: _given(t, "source", "value", "horizon_days", "first_day") for t in feature_set.targets},
        "known_future": {column.name: _given(column, "reads", "unit") for column in feature_set.known_future},
    }


def feature_set_digest(feature_set: FeatureSet) -> str:
    """The id of a feature set: sha256 (hex) of its canonical form. Equal ids mean equal columns with equal meaning."""
    return json_digest(canonical_form(feature_set))


def metric_form(feature_set: FeatureSet, feature: FeatureDefinition) -> dict[str, object]:
    """The meaning of one feature, whatever set it stands in: what it reads is spelled out, a ratio down to its parts.

    Expects a set that `definitions.meaning` found no mistake in.
    """
    form = _feature_form(feature)
    for part in ("numerator", "denominator_feature"):
        if part in form:
            form[part] = metric_form(feature_set, feature_set.feature(str(form[part])))
    if feature.source is not None:
        source = feature_set.source(feature.source)
        used = [source.column(name) for name in (feature.value, feature.where and feature.where.column) if name]
        form["source"] = _source_form(source) | {"columns": {c.name: _column_form(c) for c in used}}
    return form | {"semantics": FEATURE_SEMANTICS_VERSION, "entity": list(feature_set.entity)}


def differing_places(old: object, new: object, place: str = "") -> Iterator[str]:
    """Dotted places at which two canonical forms differ, in name order.

    >>> list(differing_places({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 0}))
    ['a.c', 'd']
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            inner = f"{place}.{key}" if place else str(key)
            if key in old and key in new:
                yield from differing_places(old[key], new[key], inner)
            else:
                yield inner
    elif old != new:
        yield place


def _source_form(source: FeatureSource) -> dict[str, object]:
    return {
        "table": source.table,
        "stream": source.stream,
        "fact_key": sorted(source.fact_key),
        "posting_kinds": sorted(source.posting_kinds),
        "columns": {column.name: _column_form(column) for column in source.columns},
        **_given(source, "grain", "lines"),
    }


def _column_form(column: object) -> dict[str, object]:
    return _given(column, "from_column", "unit", "logical_type", "is_planned")


def _feature_form(feature: FeatureDefinition) -> dict[str, object]:
    form = _given(
        feature,
        *("aggregation", "unit", "source", "value", "window_days", "offset_days", "lag_days", "denominator"),
        *("time_to_live_days", "numerator", "denominator_feature"),
    )
    if feature.where is not None:
        form["where"] = {"column": feature.where.column, "equals": feature.where.equals}
    return form


def _given(value: object, *names: str) -> dict[str, object]:
    fields = {name: getattr(value, name) for name in names}
    return {n: v for n, v in fields.items() if v is not None and not (n in _SET_DEFAULTS and v == _SET_DEFAULTS[n])}
