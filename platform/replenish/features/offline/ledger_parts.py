"""A ledger as its source declares it, in parts by ranges of entities.

If the parts are many, a frame in memory is parted in one pass, and one still to be read is dealt to files in one pass
where there is a folder for them; else the ledger is looked through once a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from replenish.features.definitions.model import FeatureSource
from replenish.features.offline.latest_version import ENTITY_NUMBER

LedgerFrame = pl.DataFrame | pl.LazyFrame
"""The postings of a source, in memory or still to be read."""

MOST_LOOK_UPS = 6
"""Up to so many parts, finding each one's rows in the whole ledger costs less than a parted copy of it."""

_PART = "_part"


def declared_ledger(ledger: LedgerFrame, source: FeatureSource) -> LedgerFrame:
    """The ledger with its columns cast as the source declares them: flags to integers, integers to numbers.

    Columns of other types, and those that are missing, stay as they are.
    """
    schema = ledger.lazy().collect_schema()
    casts: list[pl.Expr] = []
    for column in source.columns:
        held = schema.get(column.name)
        if held is None:
            continue
        if column.logical_type == "integer" and held == pl.Boolean:
            casts.append(pl.col(column.name).cast(pl.Int64))
        elif column.logical_type == "number" and held.is_integer():
            casts.append(pl.col(column.name).cast(pl.Float64))
    return ledger.with_columns(casts) if casts else ledger


class LedgerParts:
    """The rows of each range of entities, with `_entity`: the entity's number within its range (Int64).

    Args:
        ledger: Postings; rows of entities that are not named are dropped.
        columns: Columns to keep, the entity's among them.
        entity: Entity columns.
        entities: The entities in order of their numbers, one row each.
        size: Entities of a part; the last may have fewer.
        spill: A folder of its own for a lazy ledger of many parts; None: it is read anew for each part.
    """

    def __init__(
        self,
        ledger: LedgerFrame,
        columns: Sequence[str],
        entity: Sequence[str],
        entities: pl.DataFrame,
        size: int,
        spill: Path | None = None,
    ) -> None:
        self._ledger, self._entity, self._entities, self._size = ledger.lazy().select(columns), entity, entities, size
        self._parts: dict[tuple[object, ...], pl.DataFrame] | None = None
        self._spill: Path | None = None
        if entities.height <= MOST_LOOK_UPS * size:
            return
        # Looking for the rows of a part in the whole ledger part by part would cost more with every part.
        part = (pl.col(ENTITY_NUMBER) // size).alias(_PART)
        numbered = self._numbered(entities).with_columns(part, pl.col(ENTITY_NUMBER) % size)
        self._empty = pl.DataFrame(schema=numbered.drop(_PART).collect_schema())
        if isinstance(ledger, pl.DataFrame):
            self._parts = numbered.collect().partition_by(_PART, as_dict=True, include_key=False)
        elif spill is not None:
            self._spill = spill
            by_part = pl.PartitionBy(spill, key=_PART, include_key=False)
            numbered.sink_ipc(by_part, mkdir=True, maintain_order=False, engine="streaming")

    def part(self, number: int) -> pl.DataFrame:
        """The rows of a part; each part is given once."""
        if self._parts is not None:
            return self._parts.pop((number,), self._empty)
        if self._spill is not None:
            files = sorted((self._spill / f"{_PART}={number}").glob("*"))
            return pl.scan_ipc(files).collect() if files else self._empty
        return self._numbered(self._entities[number * self._size : (number + 1) * self._size]).collect()

    def _numbered(self, entities: pl.DataFrame) -> pl.LazyFrame:
        numbers = entities.lazy().with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(ENTITY_NUMBER))
        return self._ledger.join(numbers, on=list(self._entity), how="inner", nulls_equal=True)
