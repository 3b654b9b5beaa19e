"""The evaluators under judgement, each as a function of a `Question`."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import polars as pl

from replenish.contracts.model import LogicalType
from replenish.features.definitions.model import (
    INTEGER_VALUED,
    WINDOWED,
    Aggregation,
    Denominator,
    FeatureClock,
    FeatureDefinition,
    FeatureSet,
    FeatureSource,
    RowFilter,
    SourceColumn,
)
from replenish.features.offline.evaluator import evaluate
from replenish.features.online.feature_twin import FeatureTwin
from replenish.features.online.postings import PostingBatch, postings_of
from tests.oracle.known_at import Feature
from tests.oracle.range_join import Evaluator, Question, RangeJoin

SOURCE = "ledger"
N_BATCHES = 3
"""Of a ledger as the twin gets it."""
ROWS_AT_ONCE = 300
"""Makes many partitions of a batch."""
_TYPES: dict[str, LogicalType] = {"channel": "string", "is_promotion": "boolean"}


def feature_set_of(question: Question) -> FeatureSet:
    """The question's features as a set in the platform's own vocabulary."""
    names = ("units", "cents", "channel", "is_promotion")
    columns = tuple(SourceColumn(name, name, "units", _TYPES.get(name, "integer")) for name in names)
    source = FeatureSource(SOURCE, "gold/fct_ledger", SOURCE, question.fact_key, columns, question.kinds)
    clock, features = cast("FeatureClock", question.clock), tuple(map(_definition, question.features))
    return FeatureSet("oracle", "1.0.0", "", "", clock, question.entity, (source,), features)


def _definition(feature: Feature) -> FeatureDefinition:
    kind = cast("Aggregation", feature.aggregation)
    is_divided = kind in ("mean", "std", "lag")
    return FeatureDefinition(
        feature.name,
        kind,
        unit="units",
        description="",
        source=None if kind == "ratio" else SOURCE,
        value=feature.value,
        window_days=feature.window_days if kind in WINDOWED else None,
        offset_days=feature.offset_days,
        lag_days=feature.lag_days,
        denominator=cast("Denominator", feature.denominator) if is_divided else None,
        time_to_live_days=feature.time_to_live_days,
        where=None if feature.where is None else RowFilter(*feature.where),
        numerator=feature.numerator,
        denominator_feature=feature.denominator_feature,
    )


def offline(question: Question) -> pl.DataFrame:
    """The offline evaluator in one piece."""
    ledgers = {SOURCE: question.ledger}
    return evaluate(feature_set_of(question), question.spine, ledgers, question.zone, question.cutoff)


def offline_in_parts(question: Question) -> pl.DataFrame:
    """The offline evaluator over a lazy ledger, by many small partitions of entities."""
    ledgers = {SOURCE: question.ledger.lazy()}
    features, zone, cutoff = feature_set_of(question), question.zone, question.cutoff
    return evaluate(features, question.spine, ledgers, zone, cutoff, rows_at_once=ROWS_AT_ONCE)


def offline_of_two_sources(question: Question) -> pl.DataFrame:
    """The offline evaluator with every other feature read from a second source, whose ledger has other columns too."""
    one = feature_set_of(question)
    second = replace(one.sources[0], name="second")
    features = tuple(
        replace(feature, source="second") if nr % 2 and feature.source else feature
        for nr, feature in enumerate(one.features)
    )
    both = replace(one, sources=(*one.sources, second), features=features)
    ledgers = {SOURCE: question.ledger, "second": question.ledger.reverse().with_columns(noise=pl.lit(1))}
    return evaluate(both, question.spine, ledgers, question.zone, question.cutoff)


def online(question: Question) -> pl.DataFrame:
    """The resident twin: postings in an order of their own, in some batches; each key is asked in order of time."""
    feature_set, spine = feature_set_of(question), question.spine.with_row_index("_row").sort("as_of")
    names = list(feature_set.feature_names)
    values = {name: _dtype(feature_set, name, question) for name in names}
    if spine.is_empty():
        return pl.concat([question.spine, pl.DataFrame(schema=values)], how="horizontal")
    twin = FeatureTwin(feature_set, question.zone, question.cutoff, spine["as_of"][0])
    source = feature_set.source(SOURCE)
    for seq in range(N_BATCHES):
        some = question.ledger.gather_every(N_BATCHES, seq).sort(question.entity, maintain_order=True)
        twin.apply(PostingBatch(seq + 1, postings_of(feature_set, source, some)))
    vectors = [twin.vector(row[1:-1], row[-1]) for row in spine.iter_rows()]
    answer = pl.DataFrame(vectors, schema=values, orient="row").with_columns(spine["_row"]).sort("_row")
    return pl.concat([question.spine, answer.select(names)], how="horizontal")


def _dtype(feature_set: FeatureSet, name: str, question: Question) -> pl.DataType:
    feature = feature_set.feature(name)
    if feature.aggregation == "last":
        return question.ledger.schema[str(feature.value)]
    return pl.Int64() if feature.aggregation in INTEGER_VALUED else pl.Float64()


PLATFORM = ("offline", "offline_in_parts", "offline_of_two_sources")
"""Names of the platform's evaluators, which refuse what cannot be answered."""
EVALUATORS: dict[str, Evaluator] = {
    "range_join": RangeJoin.answer,
    "offline": offline,
    "offline_in_parts": offline_in_parts,
    "offline_of_two_sources": offline_of_two_sources,
    "online": online,
}
