from __future__ import annotations

import json

import polars as pl

from replenish.contracts.dataset import ColumnRule, Exclusion, Feed, FileFormat, KnowledgeRule, RowTest
from replenish.ingest.gate import DEAD_SCHEMA
from replenish.ingest.repeated_exclusions import repeats_of_excluded


def feed(batch: tuple[str, ...] = ("sheet",)) -> Feed:
    return Feed(
        feed_id="till",
        stream="sales",
        files=("*",),
        format=FileFormat(),
        zone="UTC",
        columns={"sale_id": ColumnRule(content_of=("item", "qty"), batch=batch)},
        knowledge=KnowledgeRule("arrival"),
        exclude=(Exclusion("voucher", RowTest("item", equals="GV")),),
    )


def dead(*rows: tuple[str, str, str]) -> pl.DataFrame:
    """Rows of (reason, item, sheet); every item is bought once."""
    records = [
        (nr, reason, None, None, json.dumps({"item": item, "qty": "1", "sheet": sheet}))
        for nr, (reason, item, sheet) in enumerate(rows, 1)
    ]
    return pl.DataFrame(records, schema=DEAD_SCHEMA, orient="row")


def test_a_row_left_out_in_an_earlier_batch_is_known() -> None:
    rows = dead(("voucher", "GV", "a"), ("voucher", "GV", "b"))
    assert repeats_of_excluded(rows, feed())["row_nr"].to_list() == [2]


def test_a_row_twice_in_one_batch_is_two_rows() -> None:
    rows = dead(("voucher", "GV", "a"), ("voucher", "GV", "a"), ("voucher", "GV", "b"))
    assert repeats_of_excluded(rows, feed())["row_nr"].to_list() == [3]


def test_faults_are_never_taken_for_repeats() -> None:
    rows = dead(("not_a_number", "GV", "a"), ("not_a_number", "GV", "b"))
    assert repeats_of_excluded(rows, feed()).is_empty()


def test_a_feed_without_batches_repeats_nothing() -> None:
    rows = dead(("voucher", "GV", "a"), ("voucher", "GV", "b"))
    assert repeats_of_excluded(rows, feed(batch=())).is_empty()
