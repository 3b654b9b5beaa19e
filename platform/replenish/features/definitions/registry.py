"""The metric registry: over all feature sets, one name has one meaning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from replenish.digests import json_digest
from replenish.errors import ContractError
from replenish.features.definitions.identity import differing_places, metric_form
from replenish.features.definitions.model import FeatureSet


@dataclass(frozen=True)
class RegisteredMetric:
    """One name and its meaning; `feature_sets` are those that hold it, in name order."""

    name: str
    meaning: str
    """sha256 of its `identity.metric_form`."""
    feature_sets: tuple[str, ...]


def check_one_meaning(feature_sets: Iterable[FeatureSet]) -> dict[str, RegisteredMetric]:
    """The registry of all features by name; sets may share a feature of equal meaning, whatever their clocks.

    Raises:
        ContractError: Two sets define one name differently; names both, what differs and what to do.
    """
    metrics: dict[str, RegisteredMetric] = {}
    forms: dict[str, dict[str, object]] = {}
    for feature_set in sorted(feature_sets, key=lambda each: each.name):
        for feature in feature_set.features:
            form = metric_form(feature_set, feature)
            held = metrics.get(feature.name)
            if held is None:
                metrics[feature.name] = RegisteredMetric(feature.name, json_digest(form), (feature_set.name,))
                forms[feature.name] = form
                continue
            if held.meaning != json_digest(form):
                places = ", ".join(differing_places(forms[feature.name], form))
                raise ContractError(
                    f"{feature_set.name}: features.{feature.name}: {held.feature_sets[0]} gives this name another "
                    f"meaning ({places}): rename one, or make them equal",
                    feature=feature.name,
                )
            metrics[feature.name] = RegisteredMetric(held.name, held.meaning, (*held.feature_sets, feature_set.name))
    return dict(sorted(metrics.items()))
