"""JSON lines as columns of text, parsed by DuckDB; numbers keep their digits."""

from __future__ import annotations

import json

import duckdb
import polars as pl

from replenish.errors import FileFault

MAX_FIELDS = 1000
"""Distinct field names in one chunk; more means that keys are data and the file no table."""


def parse_json_lines(lines: pl.Series) -> tuple[pl.DataFrame, pl.Series]:
    """The objects among the lines as one text column a field (nested values as JSON), and which lines are objects.

    Raises:
        FileFault: `unreadable`: more than 1000 field names, or names that differ only in case.
    """
    with duckdb.connect() as connection:
        connection.execute("set threads = 1")
        connection.register("lines", lines.alias("line").to_frame().to_arrow())
        is_object = _column(
            connection,
            "select coalesce(json_type(case when json_valid(line) then line end) = 'OBJECT', false) as is_object"
            " from lines",
        )
        connection.register("objects", lines.filter(is_object).alias("line").to_frame().to_arrow())
        fields = [row[0] for row in connection.execute(_FIELDS).fetchall()]
        if not fields:
            return pl.DataFrame(), is_object
        if len(fields) > MAX_FIELDS or len({field.lower() for field in fields}) < len(fields):
            raise FileFault("unreadable", "the objects of this file are no table: too many or alike field names")
        structure = json.dumps(dict.fromkeys(fields, "VARCHAR"))
        parsed = _column(connection, "select json_transform(line, ?) as parsed from objects", [structure])
        return parsed.struct.unnest(), is_object


_FIELDS = """
select field from (select unnest(json_keys(line)) as field, row_number() over () as nr from objects)
group by field order by min(nr)
"""


def _column(connection: duckdb.DuckDBPyConnection, query: str, params: list[str] | None = None) -> pl.Series:
    frame = pl.from_arrow(connection.sql(query, params=params).to_arrow_table())
    if not isinstance(frame, pl.DataFrame):
        raise TypeError("a table was expected")
    return frame.to_series()
