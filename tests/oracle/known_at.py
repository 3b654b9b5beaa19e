"""What a feature is worth at an instant, by the book: plain loops over all postings, anew for every spine row.

The rules are those of DESIGN §4, written down without any of the platform's code, and without frames or arrays, so
that a mistake made there is not made here too. Slow on purpose. `true_at` gives the same from statements instead of
postings.

A posting is a dict: `key` (tuple, the entity), `fact` (tuple, the fact key), `event_date`, `event_time`,
`knowledge_time`, `posting_sign`, `posting_kind`, `version_nr` and `values` (dict by column name).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

Posting = Mapping[str, Any]
Known = int | float | str | bool | None
WINDOWED = ("sum", "count", "count_nonzero", "mean", "std", "min", "max")
AGGREGATIONS = (*WINDOWED, "lag", "days_since", "days_since_first", "last", "ratio")
WHOLE = ("sum", "count", "count_nonzero", "min", "max", "lag", "days_since", "days_since_first")
"""Aggregations whose result is an integer."""
FACT_KINDS = ("version", "reversal")
"""Posting kinds of facts. Others (`cancellation`, `return`) move a total where a source takes them, never a count."""
DENOMINATORS = ("calendar", "observed", "since_first")


@dataclass(frozen=True)
class Feature:
    """One feature. Days are whole days; `value` None counts facts, whatever they say."""

    name: str
    aggregation: str
    value: str | None = None
    window_days: int | None = None
    offset_days: int = 0
    lag_days: int | None = None
    denominator: str = "calendar"
    time_to_live_days: int | None = None
    where: tuple[str, str | int | bool] | None = None
    """Column and the value it must have."""
    numerator: str | None = None
    denominator_feature: str | None = None


@dataclass(frozen=True)
class Day:
    """What was known of one event date: total of the values, and number of facts with a value."""

    total: int = 0
    n_facts: int = 0

    @property
    def is_observed(self) -> bool:
        # A return may stand on a day without a sale.
        return self.n_facts != 0 or self.total != 0

    @property
    def is_active(self) -> bool:
        return self.total != 0


@lru_cache(maxsize=100_000)
def cutoff_instant(day: date, zone: str, cutoff: time) -> datetime:
    """When an origin date begins to count, in UTC: the first such wall time; a skipped one by the offset before."""
    wall = datetime.combine(day, cutoff)
    place = ZoneInfo(zone)
    around = [wall.replace(tzinfo=UTC) + timedelta(days=days) for days in (-1, 1)]
    offsets = [instant.astimezone(place).utcoffset() for instant in around]
    instants = [wall.replace(tzinfo=UTC) - offset for offset in offsets if offset is not None]
    real = [instant for instant in instants if instant.astimezone(place).replace(tzinfo=None) == wall]
    # In a gap the clock jumps ahead, so the smaller offset is the one before, and it gives the later instant.
    return min(real) if real else max(instants)


@lru_cache(maxsize=100_000)
def origin_date(as_of: datetime, zone: str, cutoff: time) -> date:
    """The newest origin date whose cut-off has passed at `as_of`."""
    day = as_of.astimezone(UTC).date() + timedelta(days=3)
    while cutoff_instant(day, zone, cutoff) > as_of:
        day -= timedelta(days=1)
    return day


def known_values(
    features: Sequence[Feature],
    postings: Sequence[Posting],
    key: tuple[str, ...],
    as_of: datetime,
    zone: str,
    cutoff: time,
    kinds: Sequence[str] = FACT_KINDS,
) -> dict[str, Known]:
    """Every feature of one spine row, by name; `kinds` are the posting kinds that the source takes.

    `key` may be shorter than a posting's: then it stands for all that begin so.
    """
    own = [p for p in postings if p["key"][: len(key)] == key and p["posting_kind"] in kinds]
    visible = [p for p in own if p["knowledge_time"] <= as_of]
    origin = origin_date(as_of, zone, cutoff)
    values = {f.name: _value(f, visible, as_of, origin) for f in features if f.aggregation != "ratio"}
    for feature in features:
        if feature.aggregation == "ratio":
            values[feature.name] = ratio(values[str(feature.numerator)], values[str(feature.denominator_feature)])
    return {f.name: values[f.name] for f in features}


def _value(feature: Feature, visible: Sequence[Posting], as_of: datetime, origin: date) -> Known:
    if feature.where is not None:
        column, wanted = feature.where
        visible = [p for p in visible if p["values"][column] == wanted]
    if feature.aggregation == "last":
        return _last(feature, visible, as_of)
    return from_days(feature, _days(visible, feature.value), origin)


def _days(visible: Sequence[Posting], value: str | None) -> dict[date, Day]:
    """D and N of every event date that occurs."""
    days: dict[date, Day] = {}
    for posting in visible:
        said = 0 if value is None else posting["values"][value]
        if said is not None:
            day = days.get(posting["event_date"], Day())
            sign = posting["posting_sign"]
            n_facts = sign if posting["posting_kind"] in FACT_KINDS else 0
            # A text can be counted, not summed.
            change = 0 if isinstance(said, str) else sign * int(said)
            days[posting["event_date"]] = Day(day.total + change, day.n_facts + n_facts)
    return days


def _last(feature: Feature, visible: Sequence[Posting], as_of: datetime) -> Known:
    live = []
    for version in visible:
        is_version = version["posting_kind"] == "version"
        if not is_version or version["event_time"] > as_of:
            continue
        identity = (version["fact"], version["version_nr"])
        if any(p["posting_kind"] == "reversal" and (p["fact"], p["version_nr"]) == identity for p in visible):
            continue
        live.append(version)
    if not live:
        return None
    newest = max(live, key=lambda p: (p["event_time"], p["knowledge_time"], p["fact"], p["version_nr"]))
    days = feature.time_to_live_days
    if days is not None and as_of - newest["event_time"] > timedelta(days=days):
        return None
    return newest["values"][feature.value]


def from_days(feature: Feature, days: Mapping[date, Day], origin: date) -> Known:
    """A feature from what is known of each event date, seen from an origin date."""
    if feature.aggregation == "lag":
        day = days.get(origin - timedelta(days=feature.lag_days or 0), Day())
        return None if feature.denominator == "observed" and not day.is_observed else day.total
    if feature.aggregation in ("days_since", "days_since_first"):
        active = [e for e, day in days.items() if day.is_active and e < origin]
        if not active:
            return None
        return (origin - (max(active) if feature.aggregation == "days_since" else min(active))).days
    width = feature.window_days or 0
    end = origin - timedelta(days=feature.offset_days)
    window = [days.get(end - timedelta(days=back), Day()) for back in range(1, width + 1)]
    return from_window(feature, window, days, end)


def from_window(feature: Feature, window: Sequence[Day], days: Mapping[date, Day], end: date) -> Known:
    """A windowed feature; `end` is the day after the window, `days` all that is known."""
    observed = [day for day in window if day.is_observed]
    total = sum(day.total for day in window)
    match feature.aggregation:
        case "sum":
            return total
        case "count":
            return sum(day.n_facts for day in window)
        case "count_nonzero":
            return sum(1 for day in window if day.is_active)
        case "min":
            return min((day.total for day in observed), default=None)
        case "max":
            return max((day.total for day in observed), default=None)
    n_days = len(window)
    if feature.denominator == "observed":
        n_days = len(observed)
    elif feature.denominator == "since_first":
        first = min((e for e, day in days.items() if day.is_active), default=end)
        n_days = min(n_days, (end - first).days)
    if n_days <= 0:
        return None
    if feature.aggregation == "mean":
        return float(Fraction(total, n_days))
    assert feature.aggregation == "std", feature
    squares = sum(day.total**2 for day in window)
    return math.sqrt(n_days * squares - total**2) / n_days


def ratio(numerator: Known, denominator: Known) -> float | None:
    """One feature over another; null where either is null or the lower one is 0."""
    if numerator is None or denominator is None or denominator == 0:
        return None
    assert isinstance(numerator, int | float), numerator
    assert isinstance(denominator, int | float), denominator
    return numerator / denominator
