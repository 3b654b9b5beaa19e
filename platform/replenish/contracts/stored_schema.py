"""Whether a stored table can take rows of a contract: looked at before a write, so no table holds two meanings."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from replenish.contracts.model import Contract
from replenish.contracts.table_schema import Layer
from replenish.errors import IncompatibleSchema

EVENT_MONTH_COLUMN = "event_month"
"""Partition column that silver adds by itself."""


def schema_faults(contract: Contract, layer: Layer, stored: Mapping[str, pl.DataType]) -> list[str]:
    """Why rows of this contract do not fit a table with these columns, in words; empty where they do.

    A table may lack optional columns of the contract: the next append adds them, older rows read as null.
    """
    wanted = contract.bronze_schema if layer == "bronze" else contract.silver_schema
    faults = [
        f"{name} is {stored[name]} in the table and {dtype} in the contract"
        for name, dtype in wanted.items()
        if name in stored and stored[name] != dtype
    ]
    required = {column.name for column in contract.columns if column.is_required}
    faults += [f"{name} is required and the table lacks it" for name in wanted if name in required - set(stored)]
    gone = [name for name in stored if name not in wanted and name != EVENT_MONTH_COLUMN]
    return faults + [f"{name} is in the table and not in the contract" for name in gone]


def guard_stored_schema(contract: Contract, layer: Layer, stored: Mapping[str, pl.DataType]) -> None:
    """Refuse a write of rows that do not fit what is stored.

    Raises:
        IncompatibleSchema: Names table, column and what to do.
    """
    faults = schema_faults(contract, layer, stored)
    if faults:
        raise IncompatibleSchema(
            f"{layer}/{contract.stream} was written under another contract: {'; '.join(faults)}. "
            "Take the contract back, or rebuild the lake from the log (`replenish rebuild`)",
            version=contract.version,
        )
