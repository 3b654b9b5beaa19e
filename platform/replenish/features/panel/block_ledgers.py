"""The rows of a ledger by blocks of series: slices of a sorted one, so that nothing is read or sorted twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from replenish.features.offline.latest_version import ENTITY_NUMBER
from replenish.features.offline.ledger_parts import LedgerFrame, LedgerParts

_ORDERED_TYPES = (*pl.datatypes.group.INTEGER_DTYPES, pl.String, pl.Date)
"""Types of key columns that compare as they sort."""
_NUMBER = "_number"


class BlockLedgers:
    """The rows of each block of series, with `_entity`: the number of the row's series within its block (Int64).

    A lazy ledger is filtered by the range of a block's first key column, which files sorted by it answer from their
    statistics; a frame in memory sorted by it is sliced. Any other frame in memory is parted once.

    Args:
        ledger: Postings in any order; rows of other series are dropped.
        columns: Columns to keep, the entity's among them.
        entity: Entity columns.
        series: The series in order of `entity`, one row each.
        size: Series of a block; the last may have fewer.
    """

    def __init__(
        self, ledger: LedgerFrame, columns: Sequence[str], entity: Sequence[str], series: pl.DataFrame, size: int
    ) -> None:
        self._entity, self._series, self._size = list(entity), series, size
        self._leading = entity[0]
        self._is_ordered = series.schema[self._leading] in _ORDERED_TYPES and not series[self._leading].null_count()
        self._parts: LedgerParts | None = None
        self._frame: pl.DataFrame | None = None
        self._lazy = ledger.lazy().select(columns)
        if isinstance(ledger, pl.DataFrame):
            keys = ledger[self._leading]
            if self._is_ordered and not keys.null_count() and keys.is_sorted():
                self._frame = ledger.select(columns)
            else:
                self._parts = LedgerParts(ledger, columns, entity, series, size)

    def block(self, number: int) -> pl.DataFrame:
        """The rows of a block; each block is given once."""
        if self._parts is not None:
            return self._parts.part(number)
        series = self._series[number * self._size : (number + 1) * self._size]
        if not series.height:
            return self._numbered(self._lazy.head(0).collect(), series)
        low, high = series[self._leading][0], series[self._leading][-1]
        if self._frame is not None:
            keys = self._frame[self._leading]
            first, stop = int(keys.search_sorted(low, "left")), int(keys.search_sorted(high, "right"))
            return self._numbered(self._frame[first:stop], series)
        in_range = pl.col(self._leading).is_between(pl.lit(low), pl.lit(high))
        return self._numbered((self._lazy.filter(in_range) if self._is_ordered else self._lazy).collect(), series)

    def _numbered(self, rows: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
        """The rows of the series, numbered; series are looked up once for each run of rows of one series."""
        numbers = series.select(self._entity).with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(_NUMBER))
        # Slices side by side compare in a fraction of the time that shifting and filtering takes.
        differs = [pl.col(name).slice(1).ne_missing(pl.col(name).slice(0, pl.len() - 1)) for name in self._entity]
        changes = rows.select(pl.any_horizontal(differs).arg_true()).to_series().to_numpy().astype(np.int64)
        first = np.concatenate([np.zeros(min(rows.height, 1), dtype=np.int64), changes + 1])
        heads = rows.select(self._entity)[first]
        found = heads.join(numbers, on=self._entity, how="left", nulls_equal=True, maintain_order="left")
        number = np.repeat(found[_NUMBER].fill_null(-1).to_numpy(), np.diff(first, append=rows.height))
        rows = rows.with_columns(pl.Series(ENTITY_NUMBER, number, dtype=pl.Int64))
        return rows if not len(number) or int(number.min()) >= 0 else rows.filter(pl.col(ENTITY_NUMBER) >= 0)
