"""What a table looks like and who answers for it, from its contract: pandera schema, column rows, owners, freshness.

Plain values only; the Dagster shells turn them into metadata, owners, tags and policies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import polars as pl

from replenish.contracts.model import CLOCK_COLUMNS, ENVELOPE_COLUMNS, POSTING_COLUMNS, Column, Contract

if TYPE_CHECKING:
    from pandera.polars import DataFrameSchema

Layer = Literal["bronze", "silver"]

_NULLABLE_ADDED = ("unmapped",)
"""Of the columns that the platform adds, those that may be null."""

_POSTING_KINDS = ("version", "reversal", "cancellation", "return")

_ADDED_DESCRIPTIONS = {
    "event_time": "When it happened in the world, UTC.",
    "event_date": "Business date of the event, in the feed's zone.",
    "knowledge_time": "When the platform could first have known it, UTC; never rewritten.",
    "knowledge_date": "First origin date at which the row is visible.",
    "is_retraction": "The source takes the fact back.",
    "is_cancellation": "The row takes an earlier sale back, wholly or in part.",
    "is_correction": "The fact was known before with other content.",
    "journal_seq": "Record of the journal that the row arrived with.",
    "row_nr": "Row of the offered file, from 0.",
    "feed_id": "Feed that delivered the row.",
    "delivery_id": "Identity of the delivery within its feed.",
    "contract_version": "Version of the contract that the row was judged by.",
    "unmapped": "Fields of the source that the contract does not know, as a JSON object.",
    "version_nr": "Version of the fact, from 1.",
    "posting_kind": "version, reversal, cancellation or return.",
    "posting_sign": "+1 adds the row to every sum, -1 takes it back.",
}


@dataclass(frozen=True)
class TableColumn:
    """One row of a table's column listing."""

    name: str
    type: str
    """Name of the Polars type."""
    description: str
    is_nullable: bool
    constraints: tuple[str, ...] = ()
    """In words, e.g. `>= 0`."""
    tags: tuple[tuple[str, str], ...] = ()
    """(key, value) pairs: classification, unit, key."""


@dataclass(frozen=True)
class FreshnessWindow:
    """Hours since the newest known row after which a table is late (warn) and too late (fail)."""

    warn_after_hours: float
    fail_after_hours: float


def table_columns(contract: Contract, layer: Layer) -> tuple[TableColumn, ...]:
    """The columns of `<layer>/<stream>` in table order."""
    own = tuple(_own_column(contract, column) for column in contract.columns)
    added = CLOCK_COLUMNS | (ENVELOPE_COLUMNS if layer == "bronze" else POSTING_COLUMNS)
    return own + tuple(
        TableColumn(name, str(dtype), _ADDED_DESCRIPTIONS[name], name in _NULLABLE_ADDED)
        for name, dtype in added.items()
    )


def table_owners(contract: Contract) -> tuple[str, ...]:
    """Owners of the stream's tables in Dagster's form, `team:<name>`; the one who answers first comes first."""
    return tuple(f"team:{name}" for name in dict.fromkeys((contract.owner, contract.escalation)))


def table_tags(contract: Contract) -> dict[str, str]:
    """Tags of the stream's tables: tier, strictest classification, contract version."""
    order = ("public", "internal", "confidential", "personal")
    strictest = max((column.classification for column in contract.columns), key=order.index)
    return {"tier": contract.sla.tier, "classification": strictest, "contract_version": contract.version}


def freshness_window(contract: Contract) -> FreshnessWindow | None:
    """The declared freshness; None for a stream that is never late (reference data)."""
    sla = contract.sla
    if math.isinf(sla.fail_after_hours):
        return None
    return FreshnessWindow(min(sla.warn_after_hours, sla.fail_after_hours), sla.fail_after_hours)


def pandera_schema(contract: Contract, layer: Layer) -> DataFrameSchema:
    """The pandera schema of `<layer>/<stream>`: types, nulls and the contract's value rules; other columns are refused.

    A retraction names its fact and nothing else, so in bronze only the key of a row is surely there.
    """
    # Importing pandera takes seconds; most commands never look at a schema.
    from pandera.polars import Column as PanderaColumn
    from pandera.polars import DataFrameSchema

    columns = {}
    for column in contract.columns:
        is_nullable = not column.is_required or (layer == "bronze" and column.name not in contract.fact_key)
        columns[column.name] = PanderaColumn(column.dtype, checks=_pandera_checks(column), nullable=is_nullable)
    added = CLOCK_COLUMNS | (ENVELOPE_COLUMNS if layer == "bronze" else POSTING_COLUMNS)
    for name, dtype in added.items():
        columns[name] = PanderaColumn(dtype, checks=_added_checks(name), nullable=name in _NULLABLE_ADDED)
    extra = {} if layer == "bronze" or contract.is_reference else {"event_month": _event_month(PanderaColumn)}
    return DataFrameSchema(columns | extra, strict=True, name=f"{layer}/{contract.stream}")


def _event_month(pandera_column: type) -> object:
    """Partition column of an event stream's silver table, yyyymm; a frame before partitioning does not have it yet."""
    return pandera_column(pl.Int32(), nullable=False, required=False)


def _pandera_checks(column: Column) -> list:
    from pandera.polars import Check

    checks = []
    if column.minimum is not None:
        checks.append(Check.ge(column.minimum))
    if column.maximum is not None:
        checks.append(Check.le(column.maximum))
    if column.pattern is not None:
        checks.append(Check.str_matches(f"^(?:{column.pattern})$"))
    if column.allowed:
        checks.append(Check.isin(list(column.allowed)))
    return checks


def _added_checks(name: str) -> list:
    from pandera.polars import Check

    allowed: dict[str, list] = {"posting_kind": list(_POSTING_KINDS), "posting_sign": [-1, 1]}
    if name in allowed:
        return [Check.isin(allowed[name])]
    return [Check.ge(1)] if name == "version_nr" else []


def _own_column(contract: Contract, column: Column) -> TableColumn:
    constraints = []
    if column.minimum is not None:
        constraints.append(f">= {column.minimum:g}")
    if column.maximum is not None:
        constraints.append(f"<= {column.maximum:g}")
    if column.pattern is not None:
        constraints.append(f"matches {column.pattern}")
    if column.allowed:
        constraints.append(f"one of {', '.join(column.allowed)}")
    tags: list[tuple[str, str]] = [("classification", column.classification)]
    if column.unit is not None:
        tags.append(("unit", column.unit))
    if column.name in contract.fact_key:
        tags.append(("fact_key", str(contract.fact_key.index(column.name) + 1)))
    return TableColumn(
        column.name, str(column.dtype), column.description, not column.is_required, tuple(constraints), tuple(tags)
    )
