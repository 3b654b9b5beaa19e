"""The daily grid of a feature set: every key at every origin, and where its rows and its inputs are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time

import polars as pl

from replenish.bitemporal import origin_instant
from replenish.digests import json_digest
from replenish.errors import OutOfRange
from replenish.features.definitions.identity import feature_set_digest
from replenish.features.definitions.model import FeatureSet, FeatureSource
from replenish.features.offline.measures import ledger_columns
from replenish.features.state_logs.definition import (
    LEDGER_CASTS,
    PostingsTable,
    StateLogDefinition,
    silver_postings,
    state_logs_of,
)

GRID_SEMANTICS = 1
"""Raised whenever stored rows get another meaning or form."""

ORIGIN_DATE = "origin_date"
"""Partition column of a grid: the origin at whose cut-off (`as_of`) a row is taken."""

AS_OF = "as_of"

FIRST_KNOWN = "_first_known"
"""Optional column of a grid's keys: the instant from which on a key has rows."""


@dataclass(frozen=True)
class FeatureGrid:
    """A daily feature set over a grid of keys and origins, read from ledgers of postings."""

    feature_set: FeatureSet
    """Of the clock `daily`; its sources have the grain `postings` (`FeatureSet.on_postings`)."""
    zone: str
    cutoff: time
    first_origin: date
    tables: Mapping[str, PostingsTable]
    """The ledger of each source, by name."""

    def __post_init__(self) -> None:
        if self.feature_set.clock != "daily" or any(source.is_increments for source in self.feature_set.sources):
            raise OutOfRange("a grid is of a daily set on postings", feature_set=self.feature_set.name)

    @property
    def table(self) -> str:
        """Name in the lake; a changed meaning gets another."""
        said = [GRID_SEMANTICS, feature_set_digest(self.feature_set), self.zone, self.cutoff.isoformat()]
        return f"features/grid_{self.feature_set.name}_{json_digest([*said, self.first_origin.isoformat()])[:12]}"

    @property
    def source_names(self) -> list[str]:
        """The sources that features read."""
        return list(dict.fromkeys(f.source for f in self.feature_set.features if f.source is not None))

    def instant(self, origin: date) -> datetime:
        """The cut-off of an origin."""
        return origin_instant(origin, self.zone, self.cutoff)

    def spine(self, keys: pl.DataFrame, origins: Sequence[date]) -> pl.DataFrame:
        """Keys at origins, in order of origin and key: the entity's columns, `origin_date`, `as_of`.

        Keys with `FIRST_KNOWN` stand at the origins whose cut-off is not before it.
        """
        days = pl.DataFrame(
            {ORIGIN_DATE: list(origins), AS_OF: [self.instant(origin) for origin in origins]},
            schema={ORIGIN_DATE: pl.Date(), AS_OF: pl.Datetime("us", "UTC")},
        )
        key = list(self.feature_set.entity)
        begins = [FIRST_KNOWN] if FIRST_KNOWN in keys.columns else []
        distinct = keys.select(*key, *begins).unique(key).sort(key)
        rows = days.sort(ORIGIN_DATE).join(distinct, how="cross", maintain_order="left_right")
        if begins:
            rows = rows.filter(pl.col(AS_OF) >= pl.col(FIRST_KNOWN))
        return rows.select(*key, ORIGIN_DATE, AS_OF)

    def ledger(self, name: str, stored: pl.LazyFrame) -> pl.LazyFrame:
        """The columns of a source's ledger that the set reads, under its names and cast as it declares.

        Raises:
            OutOfRange: The table lacks a column.
        """
        source, table = self.feature_set.source(name), self.tables[name]
        names = ledger_columns(self.feature_set, source)
        schema = stored.collect_schema()
        missing = [column for column in names if table.stored_name(column) not in schema]
        if missing:
            raise OutOfRange("the source's table lacks columns", table=table.table, columns=missing)
        rows = stored.select(pl.col(table.stored_name(column)).alias(column) for column in names)
        return rows.with_columns(_casts(source, names))

    def logs(self) -> dict[str, list[tuple[StateLogDefinition, PostingsTable]]]:
        """By source, the state logs behind the features that read a latest value."""
        found: dict[str, list[tuple[StateLogDefinition, PostingsTable]]] = {}
        for log, _ in state_logs_of(self.feature_set):
            found.setdefault(log.source, []).append((log, self.tables[log.source]))
        return found


def grid_on_silver(feature_set: FeatureSet, zone: str, cutoff: time, first_origin: date) -> FeatureGrid:
    """The grid of a set whose sources are read from silver, whatever grain gold gives them."""
    postings = feature_set.on_postings()
    tables = {source.name: silver_postings(source) for source in postings.sources}
    return FeatureGrid(postings, zone, cutoff, first_origin, tables)


def _casts(source: FeatureSource, names: Sequence[str]) -> list[pl.Expr]:
    declared = {column.name: column.logical_type for column in source.columns}
    return [pl.col(name).cast(LEDGER_CASTS[declared[name]]) for name in names if declared.get(name) in LEDGER_CASTS]
