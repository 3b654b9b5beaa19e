"""The typed contract of one stream, as every stage sees it.

A contract file (ODCS 3.1, `platform/contracts/*.odcs.yaml`) is read by `contracts.reader` into these values.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

import polars as pl

LogicalType = Literal["string", "integer", "number", "boolean", "timestamp", "date"]
Classification = Literal["public", "internal", "confidential", "personal"]

TIMESTAMP = pl.Datetime("us", "UTC")
POLARS_TYPES: dict[str, pl.DataType] = {
    "string": pl.String(),
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "boolean": pl.Boolean(),
    "timestamp": TIMESTAMP,
    "date": pl.Date(),
}

CLOCK_COLUMNS: dict[str, pl.DataType] = {
    "event_time": TIMESTAMP,
    "event_date": pl.Date(),
    "knowledge_time": TIMESTAMP,
    "knowledge_date": pl.Date(),
}
"""On every bronze and silver row. `event_date`: business date in the feed's zone; `knowledge_date`: first origin date
at which the row is visible (see `bitemporal.knowledge_date_expr`)."""

ENVELOPE_COLUMNS: dict[str, pl.DataType] = {
    "is_retraction": pl.Boolean(),
    "is_cancellation": pl.Boolean(),
    "is_correction": pl.Boolean(),
    "journal_seq": pl.Int64(),
    "row_nr": pl.Int64(),
    "feed_id": pl.String(),
    "delivery_id": pl.String(),
    "contract_version": pl.String(),
    "unmapped": pl.String(),
}
"""On every bronze row, after the clocks. `unmapped`: JSON object of fields the contract does not know, or null."""

POSTING_COLUMNS: dict[str, pl.DataType] = {
    "version_nr": pl.Int32(),
    "posting_kind": pl.String(),
    "posting_sign": pl.Int8(),
}
"""On every silver row: the ledger of versions (see `history.ledger`)."""


@dataclass(frozen=True)
class Deprecation:
    """A field on its way out: named so since a version, to be removed (with a major version) after a day."""

    since: str
    """Contract version, `major.minor.patch`."""
    remove_after: date


@dataclass(frozen=True)
class Column:
    """One field of a contract. `minimum`/`maximum` are inclusive, `pattern` must match the whole text."""

    name: str
    logical_type: LogicalType
    description: str
    is_required: bool = False
    unit: str | None = None
    classification: Classification = "internal"
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None
    allowed: tuple[str, ...] = ()
    is_additive: bool = False
    """Sums of this integer make sense; gold may add it up."""
    is_closed_set: bool = False
    """Consumers rely on `allowed` being all there ever is: a new value breaks them."""
    deprecated: Deprecation | None = None

    @property
    def dtype(self) -> pl.DataType:
        """Polars type of the column in every frame and table."""
        return POLARS_TYPES[self.logical_type]


@dataclass(frozen=True)
class ServiceLevel:
    """How fresh a stream has to be, by data time: hours since the newest known row; infinite where never judged."""

    warn_after_hours: float
    fail_after_hours: float
    tier: str


@dataclass(frozen=True)
class Contract:
    """What one stream promises. `fact_key` decides duplicate against correction, across files and doors."""

    stream: str
    version: str
    description: str
    owner: str
    escalation: str
    runbook: str
    columns: tuple[Column, ...]
    fact_key: tuple[str, ...]
    event_time: str
    """Name of the timestamp or date column that says when the fact happened."""
    is_reference: bool
    """Slowly changing reference data: small, not partitioned by month."""
    max_dead_share: float
    """Above this share of faulty rows in a file the whole file is dead-lettered, in [0, 1]."""
    sla: ServiceLevel
    retention_days: int

    def column(self, name: str) -> Column:
        """The column of this name; KeyError where the contract has none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"contract {self.stream} has no column {name}")

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in contract order."""
        return tuple(c.name for c in self.columns)

    @property
    def content_columns(self) -> tuple[str, ...]:
        """Columns outside the fact key: two rows of one key that agree here are duplicates."""
        return tuple(c.name for c in self.columns if c.name not in self.fact_key)

    @property
    def additive_columns(self) -> tuple[str, ...]:
        """Integer columns whose sums make sense."""
        return tuple(c.name for c in self.columns if c.is_additive)

    @property
    def is_keyed_by_date(self) -> bool:
        """The key holds the event time, so a fact never leaves its month and look-ups can be pruned to it."""
        return self.event_time in self.fact_key and not self.is_reference

    @property
    def bronze_schema(self) -> dict[str, pl.DataType]:
        """Columns of `bronze/<stream>`: contract, clocks, envelope."""
        return {c.name: c.dtype for c in self.columns} | CLOCK_COLUMNS | ENVELOPE_COLUMNS

    @property
    def silver_schema(self) -> dict[str, pl.DataType]:
        """Columns of `silver/<stream>`: contract, clocks, posting."""
        return {c.name: c.dtype for c in self.columns} | CLOCK_COLUMNS | POSTING_COLUMNS
