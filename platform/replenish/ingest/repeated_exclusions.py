"""Rows left out on purpose that the same file had already offered in an earlier batch: known, not dead twice."""

from __future__ import annotations

import polars as pl

from replenish.contracts.dataset import ColumnRule, Feed
from replenish.ingest.content_ids import batch_texts, content_ids, number_occurrences


def repeats_of_excluded(dead: pl.DataFrame, feed: Feed) -> pl.DataFrame:
    """The dead rows that repeat, in another batch of the file, a row that was left out before; reasons counted once.

    Only a feed whose ids are made of content says which rows are the same one.

    Args:
        dead: Dead rows of the file (`gate.DEAD_SCHEMA`) in file order; `raw` holds the source fields as JSON.
        feed: Its exclusions and its `content_of` rule.
    """
    rule = _content_rule(feed)
    on_purpose = dead.filter(pl.col("reason").is_in([exclusion.reason for exclusion in feed.exclude]))
    if rule is None or on_purpose.is_empty():
        return dead.clear()
    fields = pl.Struct(dict.fromkeys([*rule.content_of, *rule.batch], pl.String()))
    source = on_purpose.select(pl.col("raw").str.json_decode(fields)).unnest("raw")
    rows = on_purpose.with_columns(
        content_ids(source.select(rule.content_of)).alias("_id"), batch_texts(source, rule.batch).alias("_batch")
    )
    return number_occurrences(rows, "_id", "_batch").filter(~pl.col("_id").is_first_distinct()).drop("_id")


def _content_rule(feed: Feed) -> ColumnRule | None:
    """The rule that names its columns and batches; without batches nothing in a file is offered twice."""
    rules = [rule for rule in feed.columns.values() if rule.content_of and rule.batch and rule.content_of != ("*",)]
    return rules[0] if rules else None
