"""A ledger as its table holds it, under the names and types that a feature set reads: a rename and a cast, by SQL."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from replenish.contracts.model import LogicalType
from replenish.features.cluster.sql_terms import SqlTerm, as_integer, as_number, named, sql_column, sql_table
from replenish.features.definitions.model import FeatureSet, FeatureSource
from replenish.features.offline.measures import ledger_columns
from replenish.features.state_logs.definition import PostingsTable

SQL_CASTS: dict[LogicalType, Callable[[SqlTerm], SqlTerm]] = {"integer": as_integer, "number": as_number}
"""`definition.LEDGER_CASTS` in SQL."""


def stored_view(source: str) -> str:
    """Name of the table that holds a source's columns under the names that they are stored by."""
    return "".join(("stored_", source))


def stored_columns(feature_set: FeatureSet, source: FeatureSource, table: PostingsTable) -> list[str]:
    """The stored columns that a set reads of a source."""
    return list(dict.fromkeys(table.stored_name(name) for name in ledger_columns(feature_set, source)))


def ledger_query(feature_set: FeatureSet, source: FeatureSource, table: PostingsTable) -> exp.Select:
    """What `FeatureGrid.ledger` does: the columns that the set reads, renamed, and cast as the source declares."""
    declared = {column.name: column.logical_type for column in source.columns}

    def term(name: str) -> SqlTerm:
        stored = sql_column(table.stored_name(name))
        cast = SQL_CASTS.get(declared[name]) if name in declared else None
        return stored if cast is None else cast(stored)

    columns = [named(term(name), name) for name in ledger_columns(feature_set, source)]
    return exp.select(*columns).from_(sql_table(stored_view(source.name)))
