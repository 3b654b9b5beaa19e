"""A lake as it would have been: some tables are changed on their way to the reader, and nothing is ever written.

The stages run on it as they are, so what they would have done is not told by a second implementation of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NoReturn

import polars as pl

from replenish.errors import BrokenPromise
from replenish.features.late_data.punctual import TableChange
from replenish.stores.delta_values import Filter, filter_expr
from replenish.stores.lake import DeltaLake, TableCommit

IN_MEMORY = -1
"""Version of a table that was only written here."""


class WhatIfLake(DeltaLake):
    """Reads through to another lake; partitions that a stage replaces stay in this object.

    Args:
        lake: What is read.
        changes: By table, what is done to its rows first.
        tables: By table, rows that stand for the whole table.
    """

    def __init__(
        self,
        lake: DeltaLake,
        changes: Mapping[str, TableChange],
        tables: Mapping[str, pl.DataFrame] | None = None,
    ) -> None:
        super().__init__(lake.root)
        self._lake, self._changes = lake, changes
        self._tables: dict[str, pl.LazyFrame] = {name: frame.lazy() for name, frame in (tables or {}).items()}

    def has(self, table: str) -> bool:
        """Whether the table exists, in the lake or here."""
        return table in self._tables or self._lake.has(table)

    def version(self, table: str) -> int | None:
        """Version in the lake below; `IN_MEMORY` of a table that stands here."""
        return IN_MEMORY if table in self._tables else self._lake.version(table)

    def row_count(self, table: str) -> int:
        """Rows as read here."""
        return int(self.scan(table).select(pl.len()).collect().item())

    def scan(self, table: str, *, version: int | None = None) -> pl.LazyFrame:
        """The table as it would have been."""
        if table in self._tables:
            return self._tables[table]
        rows = self._lake.scan(table, version=version)
        return self._changes[table](rows) if table in self._changes else rows

    def read(
        self,
        table: str,
        *,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        filters: Sequence[Filter] | None = None,
    ) -> pl.DataFrame:
        """Rows of the table as it would have been that pass all filters."""
        rows = self.scan(table, version=version)
        for condition in filters or ():
            rows = rows.filter(filter_expr(condition))
        return (rows.select(columns) if columns is not None else rows).collect()

    def replace_partitions(
        self,
        table: str,
        frame: pl.DataFrame,
        *,
        column: str,
        values: Sequence[int | date],
        app: Any = None,
        app_from: int | None = None,
    ) -> TableCommit:
        """Keep the rows here: readers find them in place of the partitions of the lake below."""
        kept = self.scan(table).filter(~pl.col(column).is_in(list(values))) if self.has(table) else None
        self._tables[table] = frame.lazy() if kept is None else pl.concat([kept, frame.lazy()], how="diagonal_relaxed")
        return TableCommit(table, IN_MEMORY, frame.height)

    def writing(self, table: str, purpose: str = "write the table") -> NoReturn:
        """Refused: what would have been is never written."""
        raise BrokenPromise("a what-if lake writes nothing", table=table, purpose=purpose)
