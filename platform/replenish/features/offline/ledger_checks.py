"""What a ledger has to be like for a feature set: columns and types before it is read, rows once they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from replenish.errors import OutOfRange
from replenish.features.definitions.model import FeatureSet, FeatureSource
from replenish.features.offline.latest_version import ENTITY_NUMBER
from replenish.features.offline.ledger_parts import LedgerFrame
from replenish.features.offline.measures import SUMMED_TYPES, Measure, ledger_columns, measures_of
from replenish.features.offline.window_sums import DayRows

MAX_POSTED = 2**62
"""The values of an entity, all taken as positive, stay below together: so every sum of some of them fits into int64."""

_NEVER_NULL = ("event_date", "event_time", "knowledge_time", "knowledge_date")


def check_ledgers(feature_set: FeatureSet, ledgers: Mapping[str, LedgerFrame], spine: pl.DataFrame) -> None:
    """Refuse ledgers that the set cannot be evaluated on.

    Raises:
        OutOfRange: A source has no ledger, a ledger lacks a column, an entity column has not the spine's
            type, a value to be summed is no integer, or increments are asked for what they do not hold.
    """
    for name in {f.source for f in feature_set.features if f.source is not None}:
        if name not in ledgers:
            raise OutOfRange("a source of the set has no ledger", feature_set=feature_set.name, source=name)
        schema = ledgers[name].lazy().collect_schema()
        missing = [c for c in ledger_columns(feature_set, feature_set.source(name)) if c not in schema]
        if missing:
            raise OutOfRange("the ledger lacks columns", feature_set=feature_set.name, source=name, columns=missing)
        strange = [c for c in feature_set.entity if schema[c] != spine.schema[c]]
        if strange:
            raise OutOfRange("entity columns of spine and ledger differ in type", source=name, columns=strange)
        if feature_set.source(name).is_increments:
            _check_increments(feature_set, feature_set.source(name), schema)
    for measure, features in measures_of(feature_set).items():
        if measure.value is None or all(f.aggregation == "count" for f in features):
            continue
        dtype = ledgers[measure.source].lazy().collect_schema()[measure.value]
        if dtype not in SUMMED_TYPES:
            raise OutOfRange("only integers are summed", source=measure.source, column=measure.value, dtype=str(dtype))


def _check_increments(feature_set: FeatureSet, source: FeatureSource, schema: pl.Schema) -> None:
    """The rules of `definitions.increments` that need no contract, for sets that no reader has judged."""
    if feature_set.clock != "daily":
        raise OutOfRange("increments answer daily sets only", feature_set=feature_set.name, source=source.name)
    of_facts = [f for f in feature_set.features if f.source == source.name]
    of_facts = [f for f in of_facts if f.aggregation == "last" or f.where is not None]
    if of_facts:
        raise OutOfRange("increments hold no single facts", source=source.name, feature=of_facts[0].name)
    if schema["knowledge_date"] != pl.Date or schema[str(source.lines)] not in SUMMED_TYPES:
        found = {name: str(schema[name]) for name in ("knowledge_date", str(source.lines))}
        raise OutOfRange("increments have a knowledge date and count facts in integers", source=source.name, **found)


def check_clocks(ledger: pl.DataFrame, source: str, entity: Sequence[str]) -> None:
    """Refuse rows that do not say when: they would count on no day, or at all times.

    Raises:
        OutOfRange: Names the source, the columns and the entity of one such row.
    """
    wrong = [c for c in _NEVER_NULL if c in ledger.columns and ledger[c].null_count()]
    if wrong:
        rows = ledger.filter(pl.any_horizontal(pl.col(wrong).is_null())).select(entity)
        raise OutOfRange("rows without a clock", source=source, columns=wrong, rows=rows.height, entity=rows.row(0))


def check_bounds(postings: DayRows, ledger: pl.DataFrame, measure: Measure, entity: Sequence[str]) -> None:
    """Refuse values whose sums may leave 64 bits.

    Raises:
        OutOfRange: Names source, column and entity.
    """
    total = postings.delta.get("total")
    if total is None or not len(total):
        return
    greatest = max(int(total.max()), -int(total.min()))
    if greatest * len(total) < MAX_POSTED:
        return
    posted = np.bincount(postings.entity, weights=np.abs(total.astype(np.float64)))
    number = int(posted.argmax())
    if posted[number] >= MAX_POSTED:
        key = ledger.filter(pl.col(ENTITY_NUMBER) == number).select(entity).row(0)
        raise OutOfRange(
            "values of an entity leave 64 bits together", source=measure.source, column=measure.value, entity=key
        )
