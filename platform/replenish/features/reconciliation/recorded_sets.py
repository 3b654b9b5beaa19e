"""Recorded versions of feature sets as definitions again, so that what was served by them can be computed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from replenish.errors import ContractError
from replenish.features.definitions.identity import feature_set_digest
from replenish.features.definitions.model import (
    FeatureDefinition,
    FeatureSet,
    FeatureSource,
    FeatureTarget,
    KnownFutureColumn,
    RowFilter,
    SourceColumn,
)
from replenish.features.definitions.reader import FEATURE_FOLDER
from replenish.features.definitions.recorded import RecordedFeatureSet, recorded_feature_sets

Form = Mapping[str, Any]


def sets_by_id(name: str, folder: Path = FEATURE_FOLDER) -> dict[str, FeatureSet]:
    """Every recorded version of a set, by its id.

    A version whose form this release does not read any more is left out: its vectors cannot be computed.
    """
    found = {}
    for record in recorded_feature_sets(name, folder):
        try:
            found[record.feature_set_id] = feature_set_of_record(record)
        except ContractError:
            continue
    return found


def feature_set_of_record(record: RecordedFeatureSet) -> FeatureSet:
    """The definitions of a recorded version, without words and owners; features in name order, ratios last.

    Raises:
        ContractError: Its form has another id when it is read so: it was recorded by another release.
    """
    form = cast("Form", record.definition)
    features = [_feature(name, each) for name, each in sorted(form["features"].items())]
    read = FeatureSet(
        name=record.name,
        version=record.version,
        description="",
        owner="",
        clock=form["clock"],
        entity=tuple(form["entity"]),
        sources=tuple(_source(name, each) for name, each in sorted(form["sources"].items())),
        features=tuple(_parts_first(features)),
        targets=tuple(FeatureTarget(name=name, **each) for name, each in form["targets"].items()),
        known_future=tuple(
            KnownFutureColumn(name=name, description="", **each) for name, each in form["known_future"].items()
        ),
    )
    if feature_set_digest(read) != record.feature_set_id:
        words = "was recorded by another release, whose form is read no more"
        raise ContractError(f"{record.name}@{record.version} {words}", feature_set=record.name)
    return read


def _feature(name: str, form: Form) -> FeatureDefinition:
    where = RowFilter(**form["where"]) if "where" in form else None
    return FeatureDefinition(name=name, description="", **{**form, "where": where})


def _source(name: str, form: Form) -> FeatureSource:
    columns = tuple(SourceColumn(name=column, **each) for column, each in sorted(form["columns"].items()))
    lists = {key: tuple(form[key]) for key in ("fact_key", "posting_kinds")}
    return FeatureSource(name=name, **{**form, **lists, "columns": columns})


def _parts_first(features: list[FeatureDefinition]) -> list[FeatureDefinition]:
    """Features so that a ratio stands behind what it divides, which may be a ratio too."""
    placed: dict[str, FeatureDefinition] = {}
    waiting = features
    while waiting:
        ready = [f for f in waiting if {f.numerator, f.denominator_feature} - {None} <= placed.keys()]
        if not ready:
            raise ContractError("features divide one another in a circle", features=[f.name for f in waiting])
        placed |= {f.name: f for f in ready}
        waiting = [f for f in waiting if f.name not in placed]
    return list(placed.values())
