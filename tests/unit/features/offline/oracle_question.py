"""The oracle's questions put to the offline evaluator."""

from __future__ import annotations

import polars as pl

from replenish.contracts.model import LogicalType
from replenish.features.definitions.model import FeatureDefinition, FeatureSet, FeatureSource, RowFilter, SourceColumn
from replenish.features.offline.evaluator import evaluate
from tests.oracle.known_at import Feature
from tests.oracle.range_join import Question


def feature_set_of(question: Question, clock: str = "instant") -> FeatureSet:
    types: dict[str, LogicalType] = {"channel": "string", "is_promotion": "boolean"}
    names = ("units", "cents", "channel", "is_promotion")
    columns = tuple(SourceColumn(name, name, "units", types.get(name, "integer")) for name in names)
    source = FeatureSource("ledger", "gold/ledger", "ledger", question.fact_key, columns, question.kinds)
    features = tuple(_defined(f) for f in question.features)
    # Ratios stand after the features that they divide.
    features = tuple(sorted(features, key=lambda f: f.aggregation == "ratio"))
    return FeatureSet("asked", "1.0.0", "", "", clock, question.entity, (source,), features)  # type: ignore[arg-type]


def _defined(feature: Feature) -> FeatureDefinition:
    is_ratio = feature.aggregation == "ratio"
    return FeatureDefinition(
        name=feature.name,
        aggregation=feature.aggregation,  # type: ignore[arg-type]
        unit="",
        description="",
        source=None if is_ratio else "ledger",
        value=feature.value,
        window_days=feature.window_days,
        offset_days=feature.offset_days,
        lag_days=feature.lag_days,
        denominator=feature.denominator,  # type: ignore[arg-type]
        time_to_live_days=feature.time_to_live_days,
        where=None if feature.where is None else RowFilter(*feature.where),
        numerator=feature.numerator,
        denominator_feature=feature.denominator_feature,
    )


def answered(question: Question, rows_at_once: int = 8_000_000) -> pl.DataFrame:
    """The evaluator's answer, as the oracle's comparison reads it."""
    found = evaluate(
        feature_set_of(question),
        question.spine,
        {"ledger": question.ledger},
        question.zone,
        question.cutoff,
        rows_at_once=rows_at_once,
    )
    return found.select(*question.spine.columns, *[f.name for f in question.features])
