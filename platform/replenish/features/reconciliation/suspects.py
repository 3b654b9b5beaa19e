"""What may lie behind a difference: every suspect is a way to compute the vector again, and is named only if it fits.

Each is tried on the ledgers as the log made them up to the served place, so that late data is no second reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from itertools import permutations
from typing import Literal

import polars as pl

from replenish.bitemporal import origin_instant
from replenish.features.definitions.model import FeatureSet, FeatureSource

Cause = Literal["late_data", "code", "freshness", "preprocessing", "unexplained"]

BLOCKING_CAUSES: tuple[Cause, ...] = ("freshness", "preprocessing", "unexplained")
"""A vector that was right for what was there (late data), or right by an older recorded definition (code), is no fault.
One that is older than it says, or made of other rows than the ledger's, is one, however well it is explained."""

EARLIER_CUTOFFS = 7
"""Days a resident process can stand still before its feeds are past every limit."""
EARLIER_INSTANTS = 12
UNIT_FACTORS = (100, 1000)
"""Cents for units of money, thousandths for units."""

Ledgers = Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class Reading:
    """One way to compute a vector: definitions, ledgers, instant and clock."""

    feature_set: FeatureSet
    ledgers: Ledgers
    as_of: datetime
    zone: str
    cutoff: time


@dataclass(frozen=True)
class Suspect:
    """A cause, what exactly, and the reading that it amounts to; `make` is called only when its turn comes."""

    cause: Cause
    detail: str
    make: Callable[[], Reading]


def stale_instants(as_of: datetime, ledgers: Ledgers, zone: str, cutoff: time) -> list[datetime]:
    """Earlier instants at which a vector may have been another: cut-offs and what became known, newest first."""
    local = as_of.date()
    cutoffs = [origin_instant(local - timedelta(days=n), zone, cutoff) for n in range(-1, EARLIER_CUTOFFS + 2)]
    instants = {instant for instant in cutoffs if instant < as_of}
    known = pl.concat([frame.select("knowledge_time") for frame in ledgers.values()]).unique()
    earlier = known.filter(pl.col("knowledge_time") < as_of).sort("knowledge_time", descending=True)
    # What stands still before a posting has it not yet: the instant just before it is the one to try.
    last = [instant.astimezone(UTC) for (instant,) in earlier.head(EARLIER_INSTANTS).iter_rows()]
    instants |= {instant - timedelta(microseconds=1) for instant in last}
    newest = known.filter(pl.col("knowledge_time") == as_of)
    if newest.height:
        instants.add(as_of - timedelta(microseconds=1))
    return sorted(instants, reverse=True)


def freshness_suspects(reading: Reading) -> Iterator[Suspect]:
    """The vector of an earlier instant, given out for that of `as_of`."""
    for instant in stale_instants(reading.as_of, reading.ledgers, reading.zone, reading.cutoff):
        detail = f"stands at {instant.isoformat()}"
        yield Suspect("freshness", detail, lambda instant=instant: replace(reading, as_of=instant))  # type: ignore[misc]


def preprocessing_suspects(reading: Reading, raw: Ledgers) -> Iterator[Suspect]:
    """Other rows than the ledger's: another zone or cut-off, event dates of UTC, another unit, another column.

    Args:
        reading: The right one.
        raw: By source, the ledgers with all integer columns of silver, under their own names.
    """
    for zone in ("UTC",):
        if zone != reading.zone:
            yield Suspect("preprocessing", f"zone {zone}", lambda zone=zone: replace(reading, zone=zone))  # type: ignore[misc]
    for cutoff in (time(0), time(12)):
        if cutoff != reading.cutoff:
            detail = f"cut-off {cutoff.isoformat('minutes')}"
            yield Suspect("preprocessing", detail, lambda cutoff=cutoff: replace(reading, cutoff=cutoff))  # type: ignore[misc]
    for zone in ("UTC", reading.zone):
        day = pl.col("event_time").dt.convert_time_zone(zone).dt.date()
        detail = f"event dates of {zone}"
        yield Suspect("preprocessing", detail, lambda day=day: _changed(reading, {"event_date": day}))  # type: ignore[misc]
    event_as_known = {"knowledge_time": pl.col("event_time")}
    yield Suspect("preprocessing", "event time for knowledge time", lambda: _changed(reading, event_as_known))
    for source in reading.feature_set.sources:
        yield from _column_suspects(reading, source, raw[source.name])


def _column_suspects(reading: Reading, source: FeatureSource, raw: pl.DataFrame) -> Iterator[Suspect]:
    names = [c.name for c in source.columns if reading.ledgers[source.name].schema[c.name].is_integer()]
    for name in names:
        for factor in UNIT_FACTORS:
            for value, word in ((pl.col(name) * factor, "times"), (pl.col(name) // factor, "over")):
                detail = f"{source.name}.{name} {word} {factor}"
                yield Suspect("preprocessing", detail, _one_column(reading, source.name, name, value))
        yield Suspect(
            "preprocessing",
            f"{source.name}.{name} zero for null",
            _one_column(reading, source.name, name, pl.col(name).fill_null(0)),
        )
        for other, dtype in raw.schema.items():
            if dtype.is_integer() and other != name and other not in ("version_nr", "posting_sign"):
                detail = f"{other} in place of {source.name}.{name}"
                values = pl.lit(raw[other].cast(pl.Int64))
                yield Suspect("preprocessing", detail, _one_column(reading, source.name, name, values))
    for one, other in permutations(names, 2):
        if one < other:
            swapped = {one: pl.col(other), other: pl.col(one)}
            detail = f"{source.name}.{one} and {source.name}.{other} exchanged"
            yield Suspect("preprocessing", detail, _columns(reading, source.name, swapped))


def _one_column(reading: Reading, source: str, name: str, value: pl.Expr) -> Callable[[], Reading]:
    return _columns(reading, source, {name: value})


def _columns(reading: Reading, source: str, values: Mapping[str, pl.Expr]) -> Callable[[], Reading]:
    return lambda: replace(reading, ledgers={**reading.ledgers, source: reading.ledgers[source].with_columns(**values)})


def _changed(reading: Reading, values: Mapping[str, pl.Expr]) -> Reading:
    return replace(reading, ledgers={name: frame.with_columns(**values) for name, frame in reading.ledgers.items()})
