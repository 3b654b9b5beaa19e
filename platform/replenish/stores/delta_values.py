"""Values on their way into and out of Delta tables: types it has, predicates it takes, filters on what is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

import polars as pl

from replenish.errors import StoreError

Filter = tuple[str, str, Any]
"""(column, operator, value): operators == != < <= > >= in; all filters of a list must hold."""

_COLUMN_NAME = re.compile(r"[a-z][a-z0-9_]*")
_OPERATORS: dict[str, Callable[[pl.Expr, Any], pl.Expr]] = {
    "==": lambda column, value: column == value,
    "!=": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "in": lambda column, value: column.is_in(list(value)),
}


def filter_expr(condition: Filter) -> pl.Expr:
    """One filter as an expression."""
    column, operator, value = condition
    return _OPERATORS[operator](pl.col(column), value)


def partition_predicate(column: str, values: Iterable[int | date]) -> str:
    """The only place where a Delta predicate is made; from integers and dates alone, so nothing can be smuggled in.

    >>> partition_predicate("event_month", [202402, 202401])
    'event_month IN (202401, 202402)'
    """
    if not _COLUMN_NAME.fullmatch(column):
        raise StoreError("not a column name", column=column)
    literals = [_literal(value) for value in sorted(set(values))]  # type: ignore[type-var]
    if not literals:
        raise StoreError("a partition predicate needs a value", column=column)
    return "".join([column, " IN (", ", ".join(literals), ")"])


def _literal(value: int | date) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is date:
        return "".join(["DATE '", value.isoformat(), "'"])
    raise StoreError("a partition is an integer or a date", value=repr(value))


def storable(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame in types that Delta has: unsigned integers widen, categories become text, times microseconds."""
    casts: list[pl.Expr] = []
    for name, dtype in frame.schema.items():
        if dtype.is_unsigned_integer():
            casts.append(pl.col(name).cast(pl.Int64))
        elif isinstance(dtype, pl.Categorical | pl.Enum | pl.Null):
            casts.append(pl.col(name).cast(pl.String))
        elif isinstance(dtype, pl.Datetime) and dtype.time_unit != "us":
            casts.append(pl.col(name).dt.cast_time_unit("us"))
    return frame.with_columns(casts) if casts else frame
