"""Makes a stored bronze or silver table fit the contract of today, or refuses before anything is written."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from replenish.contracts.model import Contract
from replenish.contracts.stored_schema import guard_stored_schema
from replenish.contracts.table_schema import Layer
from replenish.stores.lake import DeltaLake


def fit_table(
    table: str, contract: Contract, layer: Layer, columns: Mapping[str, pl.DataType], lake: DeltaLake
) -> None:
    """Add optional columns that the contract gained since the table was made; older rows are null in them.

    Raises:
        IncompatibleSchema: The table holds what the contract no longer means; nothing was written.
    """
    stored = lake.schema(table)
    guard_stored_schema(contract, layer, stored)
    if set(columns) - set(stored):
        lake.append(table, pl.DataFrame(schema=columns))
