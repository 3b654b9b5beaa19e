"""What a feature may read of time: nothing of the target's days, and planned values only where they are declared."""

from __future__ import annotations

from collections.abc import Iterator

from replenish.errors import ContractError
from replenish.features.definitions.meaning import DefinitionMistake
from replenish.features.definitions.model import (
    WINDOWED,
    FeatureDefinition,
    FeatureSet,
    FeatureTarget,
    KnownFutureColumn,
)

CALENDAR = "calendar"
"""What a planned column reads that follows from the date alone."""


def newest_day_read(feature: FeatureDefinition) -> int | None:
    """Newest event date that a feature reads, in days from the origin date t; None for a ratio, whose parts have one.

    A `last` may read day t itself: the hours between midnight and the cut-off.
    """
    if feature.aggregation == "ratio":
        return None
    if feature.aggregation == "lag":
        return -(feature.lag_days or 0)
    if feature.aggregation in WINDOWED:
        return -feature.offset_days - 1
    return 0 if feature.aggregation == "last" else -1


def target_overlaps(feature_set: FeatureSet) -> Iterator[DefinitionMistake]:
    """Features that read days of a target, or later ones: they would hold what they are to predict.

    A `last` of another stream than the target's may read day t, since the newest stock count or price is no label.
    Without declared targets, the days from t on are taken for one.
    """
    targets = feature_set.targets or (FeatureTarget("any target", "", "", 1),)
    streams = {source.name: source.stream for source in feature_set.sources}
    for feature in feature_set.features:
        newest = newest_day_read(feature)
        if newest is None:
            continue
        for target in targets:
            is_label = streams.get(feature.source or "") == streams.get(target.source)
            if newest >= target.first_day and (is_label or feature.aggregation != "last"):
                yield _overlap(feature, newest, target)
                break


def check_no_target_overlap(feature_set: FeatureSet) -> None:
    """Refuse a set with a feature that touches a target's days.

    Raises:
        ContractError: Names the set, the feature and what to do; `feature` holds its name.
    """
    for mistake in target_overlaps(feature_set):
        raise ContractError(
            f"{feature_set.name}: {mistake.place}: {mistake.rule}",
            feature_set=feature_set.name,
            feature=mistake.place.split(".")[1],
        )


def known_future_mistakes(feature_set: FeatureSet) -> Iterator[DefinitionMistake]:
    """Planned columns that are read without being declared, and declarations that declare nothing."""
    declared: dict[str, KnownFutureColumn] = {}
    planned = {f"{s.name}.{c.name}": c for s in feature_set.sources for c in s.columns if c.is_planned}
    for column in feature_set.known_future:
        place = f"known_future.{column.name}"
        if column.name in declared:
            yield DefinitionMistake(f"{place}.name", "is declared twice: drop one")
        declared[column.name] = column
        if column.reads != CALENDAR and column.reads not in planned:
            known = ", ".join((CALENDAR, *planned))
            yield DefinitionMistake(f"{place}.reads", f"{column.reads!r} is no planned column; may be: {known}")
        elif column.reads in planned and column.unit != planned[column.reads].unit:
            yield DefinitionMistake(f"{place}.unit", f"must be {planned[column.reads].unit!r}, the column's")
    for feature in feature_set.features:
        reads = [f"{feature.source}.{name}" for name in _columns_read(feature) if f"{feature.source}.{name}" in planned]
        entry = declared.get(feature.name)
        if reads and (entry is None or entry.reads not in reads):
            rule = f"{reads[0]} is planned: declare `{{name: {feature.name}, reads: {reads[0]}}}` under known_future"
            yield DefinitionMistake(f"features.{feature.name}.value", f"{rule}, or drop `planned` from the column")
        elif entry is not None and not reads:
            rule = f"is a feature that reads no planned column: rename, or read {entry.reads}"
            yield DefinitionMistake(f"known_future.{feature.name}.name", rule)


def _columns_read(feature: FeatureDefinition) -> tuple[str, ...]:
    filtered = () if feature.where is None else (feature.where.column,)
    return (*(() if feature.value is None else (feature.value,)), *filtered)


def _overlap(feature: FeatureDefinition, newest: int, target: FeatureTarget) -> DefinitionMistake:
    """What is read of a target, and the field that moves the feature away from it."""
    field, way_out = "aggregation", "use a window or a lag that ends before"
    if feature.aggregation == "lag":
        field, way_out = "lag_days", f"lag_days must be at least {1 - target.first_day}"
    elif feature.aggregation in WINDOWED:
        field, way_out = "offset_days", f"offset_days must be at least {-target.first_day}"
    words = f"reads event dates up to {_day(newest)}, and target {target.name} begins at {_day(target.first_day)}"
    return DefinitionMistake(f"features.{feature.name}.{field}", f"{words}: {way_out}")


def _day(day: int) -> str:
    return "t" if day == 0 else f"t{day:+d}"
