"""Ids for facts of sources that give none: made of the content, and of how often it occurred before."""

from __future__ import annotations

import duckdb
import polars as pl


def content_ids(content: pl.DataFrame) -> pl.Series:
    """MD5 (hex) of each row's columns in order; the same in every run, version and door.

    A cell counts as its text with its length before it, so that no two rows of different cells look alike; null is not
    the empty text.
    """
    cells = [pl.col(name).cast(pl.String()) for name in content.columns]
    marked = [
        pl.when(cell.is_null()).then(pl.lit("-")).otherwise(
            pl.concat_str(cell.str.len_bytes().cast(pl.String()), pl.lit(":"), cell)
        )
        for cell in cells
    ]  # fmt: skip
    text = content.select(pl.concat_str(marked).alias("text"))
    with duckdb.connect() as connection:
        connection.execute("set threads = 1")
        connection.register("content", text.to_arrow())
        hashed = pl.from_arrow(connection.sql("select md5(text) as id from content").to_arrow_table())
    return hashed["id"]  # type: ignore[index,return-value]


def batch_texts(source: pl.DataFrame, batch: tuple[str, ...]) -> pl.Series:
    """What tells batches apart: the batch columns as text; one empty text where the file is the batch."""
    if not batch:
        return pl.repeat("", source.height, dtype=pl.String(), eager=True)
    parts = [pl.col(name).cast(pl.String()).fill_null("") for name in batch]
    return source.select(pl.concat_str(parts, separator="\x1f").alias("batch"))["batch"]


def number_occurrences(rows: pl.DataFrame, column: str, batch_column: str) -> pl.DataFrame:
    """The ids of repeated content within one batch with `-2`, `-3` ... in row order; `batch_column` is dropped.

    Args:
        rows: All rows that may hold equal content, in the order of the file.
        column: The content ids.
        batch_column: Rows of different text here are of different batches.
    """
    repeated = rows.select(pl.struct(column, batch_column).is_duplicated()).to_series().arg_true()
    if not repeated.is_empty():
        occurrence = pl.int_range(1, pl.len() + 1).over(column, batch_column)
        ids = rows[repeated].select(
            pl.when(occurrence > 1)
            .then(pl.concat_str(pl.col(column), pl.lit("-"), occurrence.cast(pl.String())))
            .otherwise(pl.col(column))
        )
        rows = rows.with_columns(rows[column].scatter(repeated, ids.to_series()))
    return rows.drop(batch_column)
