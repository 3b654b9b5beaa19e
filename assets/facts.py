"""What a shell reports of a table it wrote: version, rows, columns, in the shapes Dagster draws."""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
import polars as pl

from assets.gate import StageResult
from replenish.contracts.model import Column, Contract
from replenish.stores.lake import DeltaLake, TableCommit


def contract_columns(contract: Contract, layer: str) -> dg.TableSchema:
    """Column schema of a stream's `bronze` or `silver` table; contract columns with unit, limits and classification."""
    known = {column.name: column for column in contract.columns}
    schema = contract.bronze_schema if layer == "bronze" else contract.silver_schema
    return dg.TableSchema(columns=[_column(name, dtype, known.get(name)) for name, dtype in schema.items()])


def frame_columns(schema: Mapping[str, pl.DataType]) -> dg.TableSchema:
    """Column schema of a derived table, as stored."""
    return dg.TableSchema(columns=[_column(name, dtype, None) for name, dtype in schema.items()])


def table_result(lake: DeltaLake, commits: Iterable[TableCommit], **metadata: Any) -> StageResult:
    """The report of one table after one or more commits to it."""
    last = list(commits)[-1]
    return StageResult(
        n_rows=last.n_rows,
        version=last.version,
        metadata={"dagster/column_schema": frame_columns(lake.schema(last.table)), "table": last.table, **metadata},
    )


def _column(name: str, dtype: pl.DataType, column: Column | None) -> dg.TableColumn:
    if column is None:
        return dg.TableColumn(name, str(dtype))
    limits = [f"{sign} {limit:g}" for sign, limit in ((">=", column.minimum), ("<=", column.maximum)) if limit is not None]
    if column.allowed:
        limits.append(f"one of {', '.join(column.allowed)}")
    unit = f" [{column.unit}]" if column.unit else ""
    return dg.TableColumn(
        name,
        str(dtype),
        description=f"{column.description}{unit}",
        constraints=dg.TableColumnConstraints(nullable=not column.is_required, other=limits),
        tags={"classification": column.classification},
    )
