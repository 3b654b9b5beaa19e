"""What sources of increments can answer: sums by the day at which they became known, and no single fact.

A row holds what one day of knowledge added to an event date. Refused is what needs an instant between two cut-offs,
the order of facts, a filter on them, or the number of those that name a value: two ledgers that differ in the answer
may have the same increments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from replenish.contracts.model import Contract
from replenish.features.definitions.meaning import FEATURE_NAME, RESERVED_NAMES, DefinitionMistake
from replenish.features.definitions.model import FeatureDefinition, FeatureSet, FeatureSource


def increment_mistakes(feature_set: FeatureSet, contracts: Mapping[str, Contract]) -> Iterator[DefinitionMistake]:
    """Sources of increments that are declared wrongly, and features that increments cannot answer.

    Expects a set in which `source_mistakes` and `feature_mistakes` find nothing.
    """
    for source in feature_set.sources:
        yield from _source_mistakes(feature_set, source)
        if source.is_increments:
            for feature in feature_set.features:
                if feature.source == source.name:
                    yield from _unanswerable(feature, source, contracts[source.stream])


def facts_counted_by(feature: FeatureDefinition) -> str | None:
    """The field by which a feature needs N of its value; None where D is enough, or N of all facts is asked."""
    if feature.value is None:
        return None
    if feature.aggregation in ("count", "min", "max"):
        return "aggregation"
    return "denominator" if feature.denominator == "observed" else None


def _source_mistakes(feature_set: FeatureSet, source: FeatureSource) -> Iterator[DefinitionMistake]:
    place = f"sources.{source.name}"
    if not source.is_increments:
        if source.lines is not None:
            yield DefinitionMistake(f"{place}.lines", "means nothing for postings: drop it")
        return
    if feature_set.clock != "daily":
        rule = "increments are known by the day: read postings, or make the clock daily"
        yield DefinitionMistake(f"{place}.grain", rule)
    if source.lines is None:
        yield DefinitionMistake(f"{place}.lines", "is missing: name the column that counts facts")
    elif source.lines in {*RESERVED_NAMES, *feature_set.entity, *(column.name for column in source.columns)}:
        rule = f"{source.lines!r} is something else: the count of facts is a column of its own"
        yield DefinitionMistake(f"{place}.lines", rule)
    elif not FEATURE_NAME.fullmatch(source.lines):
        yield DefinitionMistake(f"{place}.lines", "a column's name is lower case letters, digits and _")
    for column in source.columns:
        if column.logical_type != "integer":
            rule = f"is {column.logical_type}, and increments are sums of integers: drop it, or read postings"
            yield DefinitionMistake(f"{place}.columns.{column.name}", rule)


def _unanswerable(feature: FeatureDefinition, source: FeatureSource, contract: Contract) -> Iterator[DefinitionMistake]:
    place = f"features.{feature.name}"
    if feature.aggregation == "last":
        yield DefinitionMistake(f"{place}.aggregation", "the newest value is one of single facts: read postings")
    if feature.where is not None:
        yield DefinitionMistake(f"{place}.where", "filters single facts, and increments are sums: read postings")
    field = facts_counted_by(feature)
    if field is not None and not contract.column(source.column(str(feature.value)).from_column).is_required:
        rule = f"needs the facts that name a value: {source.lines} counts all facts, and {feature.value} may be null"
        yield DefinitionMistake(f"{place}.{field}", f"{rule}; read postings, or a column that is never null")
