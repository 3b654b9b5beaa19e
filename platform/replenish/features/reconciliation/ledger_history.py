"""The ledgers that reconciliation computes from: as they are, and as they were at a place of the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import polars as pl

from replenish.contracts.model import POLARS_TYPES
from replenish.features.definitions.model import FeatureSet, FeatureSource

_CLOCKS = ("event_time", "event_date", "knowledge_time")
_POSTING = ("version_nr", "posting_kind", "posting_sign")


class LedgerHistory(Protocol):
    """Ledgers of silver by stream; the silver rules lie behind it, since stages never import one another."""

    def silver_through(self, stream: str, keys: pl.DataFrame, seq: int | None) -> pl.DataFrame:
        """Silver's postings of some entities, as the log up to a place makes them; None = the whole log.

        Columns of the contract, the clocks and those of a posting.
        """
        ...

    def seqs_of(self, stream: str, keys: pl.DataFrame, through: int) -> list[int]:
        """Places of the log up to one that say something of these entities, newest first."""
        ...


def ledger_as_read(source: FeatureSource, silver: pl.DataFrame, entity: Sequence[str]) -> pl.DataFrame:
    """Silver's rows as a feature source reads them: renamed and cast, nothing else.

    Args:
        source: Names the columns.
        silver: Rows of its stream.
        entity: The set's key columns.
    """
    kept = list(dict.fromkeys([*entity, *source.fact_key, *_CLOCKS, *_POSTING]))
    columns = [pl.col(c.from_column).cast(POLARS_TYPES[c.logical_type]).alias(c.name) for c in source.columns]
    return silver.select(*kept, *columns)


def ledgers_of(
    feature_set: FeatureSet, history: LedgerHistory, keys: pl.DataFrame, seq: int | None
) -> dict[str, pl.DataFrame]:
    """The ledger of every source of a set, see `LedgerHistory.silver_through`."""
    return {
        source.name: ledger_as_read(source, history.silver_through(source.stream, keys, seq), feature_set.entity)
        for source in feature_set.sources
    }
