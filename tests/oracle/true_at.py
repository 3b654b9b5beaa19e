"""The same values a second way: from what sources said, not from postings and their signs.

At an instant each fact is what the last statement known by then says; a retracted one is nothing. No reversal, no sign,
no version is booked anywhere, so a mistake in the rule of postings shows as a difference from `known_at`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from tests.oracle.histories import Cancellation, History, Statement
from tests.oracle.known_at import FACT_KINDS, Feature, Known, origin_date, ratio


@dataclass(frozen=True)
class TrueFact:
    """A fact as an instant knows it; `since` is when this wording was first heard, `nr` counts its wordings."""

    statement: Statement
    since: datetime
    nr: int


def true_facts(statements: Sequence[Statement], as_of: datetime) -> list[TrueFact]:
    """Every fact that stands at an instant."""
    stands: dict[tuple[object, ...], TrueFact] = {}
    wording_nr: dict[tuple[object, ...], int] = {}
    for said in sorted(statements, key=lambda s: (s.knowledge_time, s.arrival)):
        if said.knowledge_time > as_of:
            break
        if said.is_retraction:
            stands.pop(said.fact, None)
            continue
        before = stands.get(said.fact)
        if before is not None and before.statement.content == said.content:
            continue
        wording_nr[said.fact] = wording_nr.get(said.fact, 0) + 1
        stands[said.fact] = TrueFact(said, said.knowledge_time, wording_nr[said.fact])
    return list(stands.values())


def true_values(
    features: Sequence[Feature],
    history: History,
    key: tuple[str, ...],
    as_of: datetime,
    zone: str,
    cutoff: time,
    kinds: Sequence[str] = FACT_KINDS,
) -> dict[str, Known]:
    """Every feature of one spine row, by name; `kinds` are the posting kinds that the source takes."""
    part = len(key)
    facts = [fact for fact in true_facts(history.statements, as_of) if fact.statement.key[:part] == key]
    taken = [c for c in history.cancellations if c.key[:part] == key and c.kind in kinds and c.stands_at(as_of)]
    origin = origin_date(as_of, zone, cutoff)
    values: dict[str, Known] = {}
    for feature in sorted(features, key=lambda f: f.aggregation == "ratio"):
        where = feature.where
        chosen = [f for f in facts if where is None or f.statement.values[where[0]] == where[1]]
        if feature.aggregation == "ratio":
            values[feature.name] = ratio(values[str(feature.numerator)], values[str(feature.denominator_feature)])
        elif feature.aggregation == "last":
            values[feature.name] = _last(feature, chosen, as_of)
        else:
            back = [c for c in taken if where is None or c.values[where[0]] == where[1]]
            values[feature.name] = _by_day(feature, chosen, back, origin)
    return {feature.name: values[feature.name] for feature in features}


def _last(feature: Feature, facts: Sequence[TrueFact], as_of: datetime) -> Known:
    best: tuple[datetime, datetime, tuple[object, ...], int] | None = None
    value: Known = None
    for fact in facts:
        rank = (fact.statement.event_time, fact.since, fact.statement.fact, fact.nr)
        if fact.statement.event_time <= as_of and (best is None or rank > best):
            best, value = rank, fact.statement.values[str(feature.value)]
    is_stale = (
        best is not None
        and feature.time_to_live_days is not None
        and best[0] + timedelta(days=feature.time_to_live_days) < as_of
    )
    return None if is_stale else value


def _by_day(feature: Feature, facts: Sequence[TrueFact], taken: Sequence[Cancellation], origin: date) -> Known:
    """Lists of what was said per event date; null says nothing. What is taken back may stand alone on its day."""
    said: dict[date, list[int]] = {}
    for fact in facts:
        value = 0 if feature.value is None else fact.statement.values[feature.value]
        if value is not None:
            amount = 0 if feature.aggregation == "count" else int(value)
            said.setdefault(fact.statement.event_date, []).append(amount)
    sums = {day: sum(values) for day, values in said.items()}
    for cancelled in taken:
        value = 0 if feature.value is None else cancelled.values[feature.value]
        if value is not None and feature.aggregation != "count":
            sums[cancelled.event_date] = sums.get(cancelled.event_date, 0) - int(value)
    # Of a day without facts something is known only where what is taken back leaves a total.
    sums = {day: total for day, total in sums.items() if total or day in said}
    if feature.aggregation == "lag":
        day = origin - timedelta(days=feature.lag_days or 0)
        return sums.get(day, None if feature.denominator == "observed" else 0)
    active = sorted(day for day, total in sums.items() if total)
    past = [day for day in active if day < origin]
    if feature.aggregation == "days_since":
        return (origin - past[-1]).days if past else None
    if feature.aggregation == "days_since_first":
        return (origin - past[0]).days if past else None
    last = origin - timedelta(days=feature.offset_days + 1)
    first = origin - timedelta(days=feature.offset_days + (feature.window_days or 0))
    totals = [total for day, total in sums.items() if first <= day <= last]
    match feature.aggregation:
        case "sum":
            return sum(totals)
        case "count":
            return sum(len(values) for day, values in said.items() if first <= day <= last)
        case "count_nonzero":
            return sum(first <= day <= last for day in active)
        case "min":
            return sorted(totals)[0] if totals else None
        case "max":
            return sorted(totals)[-1] if totals else None
    days = (last - first).days + 1
    if feature.denominator == "observed":
        days = len(totals)
    elif feature.denominator == "since_first":
        days = min(days, (last - active[0]).days + 1) if active else 0
    if days <= 0:
        return None
    if feature.aggregation == "mean":
        return sum(totals) / days
    # The textbook form, day by day, on totals scaled by the number of days so that it stays in integers.
    sold = [total for total in totals if total]
    spread = sum((days * total - sum(sold)) ** 2 for total in [*sold, *[0] * (days - len(sold))])
    return math.sqrt(spread / days) / days
