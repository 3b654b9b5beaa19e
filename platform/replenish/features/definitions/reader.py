"""Reads `platform/features/*.yaml` into feature sets; everything that is wrong in a file is refused here.

A feature with `for_days: [7, 28]` stands for one feature a number: `{days}` in its texts becomes the number, and a
field that is `"{days}"` alone becomes it as a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import cast, get_args

from replenish.contracts.document import YamlNode, read_yaml
from replenish.contracts.model import Contract, LogicalType
from replenish.contracts.reader import PLATFORM_FOLDER, read_contracts
from replenish.errors import ContractError
from replenish.features.definitions.increments import increment_mistakes
from replenish.features.definitions.meaning import FEATURE_NAME, feature_mistakes
from replenish.features.definitions.model import (
    AGGREGATIONS,
    COUNTED_KINDS,
    Aggregation,
    Denominator,
    FeatureClock,
    FeatureDefinition,
    FeatureSet,
    FeatureSource,
    FeatureTarget,
    KnownFutureColumn,
    RowFilter,
    SourceColumn,
    SourceGrain,
)
from replenish.features.definitions.registry import check_one_meaning
from replenish.features.definitions.sources import source_mistakes
from replenish.features.definitions.time_guards import known_future_mistakes, target_overlaps

FEATURE_FOLDER = PLATFORM_FOLDER / "features"
DAYS_MARK = "{days}"


def read_feature_sets(
    folder: Path = FEATURE_FOLDER, contracts: Mapping[str, Contract] | None = None
) -> dict[str, FeatureSet]:
    """Every feature set by name, in name order.

    Args:
        folder: Holds one `<set>.yaml` a set.
        contracts: By stream; None = those of the platform.

    Raises:
        ContractError: A file is malformed, breaks a rule, or gives a feature's name another meaning than another file.
    """
    known = read_contracts() if contracts is None else contracts
    found = {path.stem: read_feature_set(path, known) for path in sorted(folder.glob("*.yaml"))}
    if not found:
        raise ContractError(f"{folder}: holds no feature set (*.yaml)")
    check_one_meaning(found.values())
    return found


def read_feature_set(path: Path, contracts: Mapping[str, Contract]) -> FeatureSet:
    """One file, typed and judged.

    Raises:
        ContractError: Names file, field, rule and what to do.
    """
    top = read_yaml(path)
    feature_set = FeatureSet(
        name=top.text("feature_set"),
        version=top.text("version"),
        description=top.text("description"),
        owner=top.text("owner"),
        clock=cast(FeatureClock, top.choice("clock", get_args(FeatureClock))),
        entity=top.texts("entity"),
        sources=_sources(top.child("sources"), contracts),
        features=tuple(chain.from_iterable(_features(node) for node in top.children("features"))),
        targets=tuple(_target(node) for node in top.children("targets")),
        known_future=tuple(_known_future(node) for node in top.children("known_future")),
        consumers=top.texts("consumers", ()),
    )
    top.finish()
    if feature_set.name != path.stem or not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", feature_set.name):
        raise top.error("feature_set", f"must be the file's name in lower case, {path.stem!r}: rename one of them")
    if not re.fullmatch(r"\d+\.\d+\.\d+", feature_set.version):
        raise top.error("version", "must read major.minor.patch")
    if not feature_set.features:
        raise top.error("features", "must hold at least one feature")
    mistakes = chain(
        source_mistakes(feature_set, contracts),
        feature_mistakes(feature_set),
        increment_mistakes(feature_set, contracts),
        target_overlaps(feature_set),
        known_future_mistakes(feature_set),
    )
    for mistake in mistakes:
        raise top.error(mistake.place, mistake.rule)
    return feature_set


def _sources(node: YamlNode, contracts: Mapping[str, Contract]) -> tuple[FeatureSource, ...]:
    sources = []
    for name in node.keys:
        inner = node.child(name)
        stream = inner.text("stream")
        source = FeatureSource(
            name=name,
            table=inner.text("table"),
            stream=stream,
            fact_key=inner.texts("fact_key"),
            columns=_columns(inner.child("columns"), contracts.get(stream)),
            posting_kinds=inner.texts("posting_kinds", COUNTED_KINDS),
            grain=cast(SourceGrain, inner.choice("grain", get_args(SourceGrain), "postings")),
            lines=inner.optional_text("lines"),
        )
        inner.finish()
        sources.append(source)
    node.finish()
    if not sources:
        raise node.error("", "must hold at least one source")
    return tuple(sources)


def _columns(node: YamlNode, contract: Contract | None) -> tuple[SourceColumn, ...]:
    columns = []
    for name in node.keys:
        inner = node.child(name)
        if not FEATURE_NAME.fullmatch(name):
            raise node.error(name, "a column's name is lower case letters, digits and _")
        origin = inner.text("from")
        kept = contract.column(origin).logical_type if contract and origin in contract.names else "integer"
        column = SourceColumn(
            name=name,
            from_column=origin,
            unit=inner.text("unit"),
            logical_type=cast(LogicalType, inner.choice("type", get_args(LogicalType), kept)),
            is_planned=inner.flag("planned", False),
        )
        inner.finish()
        columns.append(column)
    node.finish()
    return tuple(columns)


def _features(node: YamlNode) -> list[FeatureDefinition]:
    """The feature of one entry, or those that its `for_days` stands for."""
    if not node.has("for_days"):
        node.declare(("for_days",))
        return [_feature(node)]
    days = node.raw("for_days")
    if not isinstance(days, list) or not days or any(type(d) is not int for d in days) or len(set(days)) < len(days):
        raise node.error("for_days", "must be a list of whole numbers, each once")
    if DAYS_MARK not in node.text("name"):
        raise node.error("name", f"must hold {DAYS_MARK}, so that each number of for_days has a name of its own")
    texts = {key: value for key, value in node.value.items() if key != "for_days"}
    return [_feature(YamlNode(node.file, node.place, {k: _filled(v, n) for k, v in texts.items()})) for n in days]


def _filled(value: object, days: int) -> object:
    if value == DAYS_MARK:
        return days
    return value.replace(DAYS_MARK, str(days)) if isinstance(value, str) else value


def _feature(node: YamlNode) -> FeatureDefinition:
    feature = FeatureDefinition(
        name=node.text("name"),
        aggregation=cast(Aggregation, node.choice("aggregation", AGGREGATIONS)),
        unit=node.text("unit"),
        description=node.text("description"),
        source=node.optional_text("source"),
        value=node.optional_text("value"),
        window_days=_optional_days(node, "window_days"),
        offset_days=node.integer("offset_days", 0),
        lag_days=_optional_days(node, "lag_days"),
        denominator=_denominator(node),
        time_to_live_days=_optional_days(node, "time_to_live_days"),
        where=_where(node),
        numerator=node.optional_text("numerator"),
        denominator_feature=node.optional_text("denominator_feature"),
        owner=node.optional_text("owner"),
    )
    node.declare(("for_days",))
    node.finish()
    if not feature.description.strip():
        raise node.error("description", "is empty: say what the feature means")
    return feature


def _optional_days(node: YamlNode, key: str) -> int | None:
    node.declare((key,))
    return node.integer(key) if node.has(key) else None


def _denominator(node: YamlNode) -> Denominator | None:
    node.declare(("denominator",))
    if not node.has("denominator"):
        # A lag without a word counts a day without facts as 0, which is how sums see it.
        return "calendar" if node.value.get("aggregation") == "lag" else None
    return cast(Denominator, node.choice("denominator", get_args(Denominator)))


def _where(node: YamlNode) -> RowFilter | None:
    node.declare(("where",))
    if not node.has("where"):
        return None
    inner = node.child("where")
    if len(inner.keys) != 1:
        raise node.error("where", "must be one column and its value, as {where: {channel: web}}")
    value = inner.raw(inner.keys[0])
    if not isinstance(value, str | int | bool):
        raise inner.error(inner.keys[0], "must be a text, a whole number, true or false")
    return RowFilter(inner.keys[0], value)


def _target(node: YamlNode) -> FeatureTarget:
    target = FeatureTarget(
        name=node.text("name"),
        source=node.text("source"),
        value=node.text("value"),
        horizon_days=node.integer("horizon_days"),
        first_day=node.integer("first_day", 0),
    )
    node.finish()
    return target


def _known_future(node: YamlNode) -> KnownFutureColumn:
    column = KnownFutureColumn(
        name=node.text("name"),
        reads=node.text("reads"),
        unit=node.text("unit"),
        description=node.text("description"),
    )
    node.finish()
    return column
