"""Served values beside those computed offline: match, missing, extra or difference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

from replenish.features.online.postings import Plain
from replenish.features.reconciliation.served_answer import ServedAnswer

Outcome = Literal["match", "missing", "extra", "difference"]
"""missing: offline has a value and the served vector none; extra: the other way round."""

RELATIVE_TOLERANCE = 1e-12
"""Of ratios, means and deviations, which are computed last from integer sums: an order of operations, no more."""


@dataclass(frozen=True)
class ComparedValue:
    """One feature of one served vector. `place`: number of the vector."""

    place: int
    feature: str
    outcome: Outcome
    served: Plain
    offline: Plain


def plain_value(value: Any) -> Plain:
    """A computed value as the twin tells it: instants and days as ISO text, instants in UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    return value  # type: ignore[no-any-return]


def is_served_value(served: Plain, offline: Plain) -> bool:
    """Equality of a value; of floats to within `RELATIVE_TOLERANCE`, and an integer is never a float or a flag."""
    if isinstance(served, float) and isinstance(offline, float):
        return math.isclose(served, offline, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)
    return type(served) is type(offline) and served == offline


def compare_vector(place: int, served: ServedAnswer, offline: Mapping[str, Plain]) -> Iterator[ComparedValue]:
    """Every feature that either side has, in name order."""
    for feature in sorted({*served.values, *offline}):
        ours, theirs = served.values.get(feature), offline.get(feature)
        outcome: Outcome = "difference"
        if feature not in served.values or (ours is None and theirs is not None):
            outcome = "missing"
        elif feature not in offline or (theirs is None and ours is not None):
            outcome = "extra"
        elif is_served_value(ours, theirs):
            outcome = "match"
        yield ComparedValue(place, feature, outcome, ours, theirs)
