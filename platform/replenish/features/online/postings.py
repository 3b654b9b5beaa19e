"""What the twin is fed: changes of silver's ledgers in log order, and the stream that brings them.

Instants are microseconds since 1970-01-01 UTC, days are days since 1970-01-01; keys and values are text, numbers,
booleans or None, so that a state is plain data. A record that arrives late can change postings that silver held
already (a reversal is known earlier, versions get other numbers): the batch then withdraws the old ones first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, repeat
from typing import NamedTuple, Protocol

import polars as pl

from replenish.features.definitions.model import FeatureSet, FeatureSource

Plain = str | int | float | bool | None

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_CLOCKS = ("event_date", "event_time", "knowledge_time")
_POSTING = ("posting_sign", "posting_kind", "version_nr")


class Posting(NamedTuple):
    """One row of a source's ledger, as silver keeps it, for one entity."""

    source: str
    """Name of the source in the feature set."""
    key: tuple[Plain, ...]
    """Values of the set's entity columns."""
    fact: tuple[Plain, ...]
    """Values of the fact key, in the source's order, without entity columns and without nulls."""
    event_day: int
    event_us: int
    known_us: int
    sign: int
    kind: str
    version_nr: int
    values: tuple[Plain, ...]
    """Of `columns_read`, in their order."""
    is_withdrawn: bool = False
    """Silver does not hold this row any more: it never was."""


class PostingBatch(NamedTuple):
    """All changes that one place of the log makes. Those of one key become visible together.

    Postings of one key stand together, withdrawn ones first. They may be made as they are read.
    """

    seq: int
    postings: Iterable[Posting]


class PostingStream(Protocol):
    """Ledger changes in log order; the silver rules lie behind it."""

    def batches(self, after_seq: int) -> Iterator[PostingBatch]:
        """Batches behind a place of the log, ascending; places that change nothing may be left out.

        A posting is withdrawn only after it was brought, with equal fields. Replaying from the same place brings the
        same batches.
        """
        ...


def instant_us(instant: datetime) -> int:
    """A timestamp with a zone in microseconds since 1970-01-01 UTC.

    >>> instant_us(datetime(1970, 1, 2, tzinfo=UTC))
    86400000000
    """
    return (instant - _EPOCH) // _MICROSECOND


def instant_of_us(us: int) -> datetime:
    """The timestamp of `instant_us`, in UTC."""
    return _EPOCH + timedelta(microseconds=us)


def columns_read(feature_set: FeatureSet, source: FeatureSource) -> tuple[str, ...]:
    """The columns of a source that features of the set take values from or filter on, in the source's order."""
    features = [f for f in feature_set.features if f.source == source.name]
    read = {f.value for f in features} | {f.where.column for f in features if f.where is not None}
    return tuple(column.name for column in source.columns if column.name in read)


def postings_of(
    feature_set: FeatureSet, source: FeatureSource, ledger: pl.DataFrame, are_withdrawn: Sequence[bool] | None = None
) -> list[Posting]:
    """The rows of a ledger as postings, in their order.

    Args:
        feature_set: Names the entity and what is read.
        source: One of its sources.
        ledger: Columns as in silver, renamed and cast as the source says; no null in a clock or key.
        are_withdrawn: By row, whether silver does not hold it any more; None = it holds all.
    """
    fact = [name for name in source.fact_key if name not in feature_set.entity]
    parts = (feature_set.entity, fact, _CLOCKS, _POSTING, columns_read(feature_set, source))
    names = [name for part in parts for name in part]
    # All in one pass: for the few rows of a record a pass costs the same for one column as for all.
    rows = ledger.select(_plain(name, ledger.schema[name]).alias(str(nr)) for nr, name in enumerate(names)).rows()
    ends = list(accumulate(map(len, parts)))
    key, of, clocks, posting, said = (slice(end - len(part), end) for part, end in zip(parts, ends, strict=True))
    flags = are_withdrawn if are_withdrawn is not None else repeat(False, len(rows))
    name = source.name
    return [
        Posting._make((name, row[key], row[of], *row[clocks], *row[posting], row[said], gone))
        for row, gone in zip(rows, flags, strict=True)
    ]


def _plain(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column with instants in microseconds and days as numbers."""
    if isinstance(dtype, pl.Datetime):
        return pl.col(name).dt.cast_time_unit("us").to_physical()
    return pl.col(name).to_physical() if dtype == pl.Date else pl.col(name)
