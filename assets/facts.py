"""What a shell reports of a table it wrote: version, rows, columns, in the shapes Dagster draws."""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
import polars as pl

from assets.gate import StageResult
from replenish.contracts.model import Contract
from replenish.contracts.table_schema import Layer, table_columns
from replenish.features.definitions.catalogue import feature_rows
from replenish.features.definitions.model import FeatureSet
from replenish.stores.lake import DeltaLake, TableCommit


def contract_columns(contract: Contract, layer: Layer) -> dg.TableSchema:
    """Column schema of a stream's `bronze` or `silver` table, with units, limits and classification."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                column.type,
                description=column.description,
                constraints=dg.TableColumnConstraints(nullable=column.is_nullable, other=list(column.constraints)),
                tags=dict(column.tags),
            )
            for column in table_columns(contract, layer)
        ]
    )


def described_columns(feature_set: FeatureSet, contracts: Mapping[str, Contract]) -> dg.TableSchema:
    """Columns of a stored feature set in the catalogue's words: key, instant, and every feature."""
    key = [dg.TableColumn(name, description="Key of the row.") for name in feature_set.entity]
    origin = [dg.TableColumn("origin_date", "date", description="Origin that the row is of.")]
    instant = dg.TableColumn("as_of", "timestamp", description="Instant up to which the row knows.")
    rows = [
        dg.TableColumn(
            row.name,
            row.type,
            description=row.meaning,
            constraints=dg.TableColumnConstraints(
                other=[row.reads, *(f"{word}: {getattr(row, word)}" for word in ("source", "consumers"))]
            ),
            tags={word: getattr(row, word) for word in ("unit", "owner", "classification")},
        )
        for row in feature_rows(feature_set, contracts)
    ]
    return dg.TableSchema(columns=[*key, *(origin if feature_set.clock == "daily" else []), instant, *rows])


def frame_columns(schema: Mapping[str, pl.DataType]) -> dg.TableSchema:
    """Column schema of a derived table, as stored."""
    return dg.TableSchema(columns=[dg.TableColumn(name, str(dtype)) for name, dtype in schema.items()])


def table_result(lake: DeltaLake, commits: Iterable[TableCommit], **metadata: Any) -> StageResult:
    """The report of one table after one or more commits to it."""
    last = list(commits)[-1]
    return StageResult(
        n_rows=last.n_rows,
        version=last.version,
        metadata={"dagster/column_schema": frame_columns(lake.schema(last.table)), "table": last.table, **metadata},
    )


def counts_of(report: object) -> dict[str, int]:
    """The integer fields of a stage's report, by name."""
    return {name: value for name, value in vars(report).items() if isinstance(value, int)}
