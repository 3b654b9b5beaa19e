"""Rows between the gate and the log keep their bucket and order, in memory or not."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replenish.ingest.spool import RowSpool, split_by_month


@settings(max_examples=20, deadline=None)
@given(adds=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), max_size=12), held=st.integers(0, 6))
def test_every_row_comes_back_in_order_whatever_was_spilled(
    tmp_path_factory: pytest.TempPathFactory, adds: list[tuple[str, int]], held: int
) -> None:
    spool = RowSpool(tmp_path_factory.mktemp("spool") / "scratch", rows_in_memory=held)
    expected: dict[str, list[int]] = {}
    for nr, (bucket, n_rows) in enumerate(adds):
        values = [nr * 10 + i for i in range(n_rows)]
        spool.add(bucket, pl.DataFrame({"value": values}, schema={"value": pl.Int64()}))
        if values:
            expected.setdefault(bucket, []).extend(values)
    assert {bucket: spool.rows(bucket)["value"].to_list() for bucket in spool.buckets()} == expected


def test_few_rows_touch_no_disk(tmp_path: Path) -> None:
    spool = RowSpool(tmp_path / "scratch")
    spool.add("a", pl.DataFrame({"value": [1]}))
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]], ids=["unsorted", "sorted"])
def test_months_are_months_of_utc(order: list[int]) -> None:
    instants = [
        datetime(2025, 1, 31, 23, tzinfo=UTC),
        datetime(2025, 2, 1, 0, tzinfo=UTC),
        datetime(2024, 12, 1, tzinfo=UTC),
    ]
    rows = pl.DataFrame({"event_time": instants, "nr": [1, 2, 3]})[order]
    assert {month: part["nr"].to_list() for month, part in split_by_month(rows)} == {
        "2025-01": [1],
        "2025-02": [2],
        "2024-12": [3],
    }
