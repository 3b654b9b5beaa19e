"""Which state logs a feature set needs, what they are called, and the postings each is made of."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from replenish.contracts.model import LogicalType
from replenish.digests import json_digest
from replenish.errors import OutOfRange
from replenish.features.definitions.model import FeatureSet, FeatureSource, RowFilter
from replenish.features.offline.measures import is_wanted, latest_of

STATE_LOG_SEMANTICS = 1
"""Raised whenever a stored log gets another meaning or form, so that every log is built anew under another name."""

POSTING_CLOCKS = ("event_time", "knowledge_time", "version_nr", "posting_kind")
"""Columns that every ledger has under these names."""

LEDGER_CASTS: dict[LogicalType, pl.DataType] = {"integer": pl.Int64(), "number": pl.Float64()}
"""Casts that a source may declare; every other type stays as it is stored."""


@dataclass(frozen=True)
class PostingsTable:
    """A lake table that holds a ledger, and what its columns are called there."""

    table: str
    renamed: tuple[tuple[str, str], ...] = ()
    """(name in the ledger, name in the table) of the columns that have two."""

    def stored_name(self, column: str) -> str:
        """What a column of the ledger is called in the table."""
        return dict(self.renamed).get(column, column)


@dataclass(frozen=True)
class StateLogDefinition:
    """The state log of one source and filter: everything that decides its rows."""

    source: str
    stream: str
    entity: tuple[str, ...]
    fact_key: tuple[str, ...]
    values: tuple[tuple[str, LogicalType], ...]
    """Columns that the log carries with their types, in name order."""
    where: RowFilter | None = None

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of the carried columns."""
        return tuple(name for name, _ in self.values)

    @property
    def digest(self) -> str:
        """sha256 (hex) of all fields and of `STATE_LOG_SEMANTICS`."""
        form = {
            "semantics": STATE_LOG_SEMANTICS,
            "stream": self.stream,
            "entity": list(self.entity),
            "fact_key": sorted(self.fact_key),
            "values": [list(value) for value in self.values],
            "where": None if self.where is None else [self.where.column, self.where.equals],
        }
        return json_digest(form)

    @property
    def table(self) -> str:
        """Name in the lake. It holds the digest: sets that mean the same share a log, a changed meaning gets another.

        A log under the set's name would be stored once per set, and a changed set would go on in rows of the old one.
        """
        return f"features/state_{self.source.lower()}_{self.digest[:12]}"

    @property
    def identity(self) -> list[str]:
        """Columns that tell versions apart: the fact key and `version_nr`."""
        return [*self.fact_key, "version_nr"]

    @property
    def version_columns(self) -> list[str]:
        """What the log says of a version beside its entity: clocks, the rest of its identity, and the values."""
        names = ["event_time", "knowledge_time", *self.identity, *self.value_names]
        return [name for name in dict.fromkeys(names) if name not in self.entity]

    @property
    def columns(self) -> list[str]:
        """Columns of the log in order, without the partition."""
        return [*self.entity, "known_from", "is_live", *self.version_columns]

    def postings(self, stored: pl.LazyFrame, source: PostingsTable) -> pl.LazyFrame:
        """The versions and reversals that the log is made of, under the ledger's names and cast as the source declares.

        Raises:
            OutOfRange: The table lacks a column.
        """
        names = list(dict.fromkeys([*self.entity, *self.fact_key, *POSTING_CLOCKS, *self.value_names]))
        read = [*names, *([self.where.column] if self.where is not None else [])]
        schema = stored.collect_schema()
        missing = [name for name in read if source.stored_name(name) not in schema]
        if missing:
            raise OutOfRange("the source's table lacks columns", table=source.table, columns=missing)
        # `last` knows nothing of cancellations and returns, nor of versions that happened at no time.
        rows = stored.filter(pl.col("posting_kind").is_in(["version", "reversal"]), pl.col("event_time").is_not_null())
        rows = rows.select(pl.col(source.stored_name(name)).alias(name) for name in dict.fromkeys(read))
        if self.where is not None:
            rows = rows.filter(is_wanted(self.where))
        casts = [pl.col(name).cast(LEDGER_CASTS[kind]) for name, kind in self.values if kind in LEDGER_CASTS]
        clocks = pl.col("event_time", "knowledge_time").dt.cast_time_unit("us")
        return rows.select(names).with_columns(clocks, *casts)


def silver_postings(source: FeatureSource) -> PostingsTable:
    """Where the postings of a feature source are: its stream's silver table, of which gold is a renamed copy.

    Gold is written whole by every build, so that what changed in it is found only by comparing all of it; silver is
    appended to, and where a month is written anew the commit log says which.
    """
    renamed = tuple((c.name, c.from_column) for c in source.columns if c.name != c.from_column)
    return PostingsTable(f"silver/{source.stream}", renamed)


def state_logs_of(feature_set: FeatureSet) -> tuple[tuple[StateLogDefinition, PostingsTable], ...]:
    """The state logs behind the `last` features of a set and what they are made of, one per source and filter."""
    found = []
    for (name, where), features in latest_of(feature_set).items():
        source = feature_set.source(name)
        read = sorted({feature.value for feature in features if feature.value is not None})
        values = tuple((value, source.column(value).logical_type) for value in read)
        log = StateLogDefinition(name, source.stream, feature_set.entity, source.fact_key, values, where)
        found.append((log, silver_postings(source)))
    return tuple(found)
