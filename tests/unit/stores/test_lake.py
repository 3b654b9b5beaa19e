from __future__ import annotations

import contextlib
import os
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from replenish.errors import StoreError, TableMissing, WriteConflict
from replenish.stores import durable
from replenish.stores.delta_values import partition_predicate, storable
from replenish.stores.lake import DeltaLake, TableCommit

ROWS = pl.DataFrame(
    {
        "event_month": pl.Series([202401, 202401, 202402], dtype=pl.Int32),
        "day": [date(2024, 1, 1), date(2024, 1, 2), date(2024, 2, 1)],
        "units": [1, 2, 3],
        "sign": pl.Series([1, -1, 1], dtype=pl.Int8),
        "at": [datetime(2024, 1, 1, tzinfo=UTC)] * 3,
        "note": pl.Series([None, None, None], dtype=pl.String),
    }
).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))


@pytest.fixture
def lake(tmp_path):
    return DeltaLake(tmp_path / "lake")


def test_what_is_appended_is_read_back_with_the_same_types(lake):
    lake.append("silver/sales", ROWS, partition_by=["event_month"])
    read = lake.read("silver/sales").sort("units")
    assert read.select(ROWS.columns).equals(ROWS)
    assert lake.schema("silver/sales") == dict(ROWS.schema)


@pytest.mark.parametrize("text", ["A\u20281", "A\u20291", "A\u00851", "A\n1", "A\r1", "\ufeffA1"])
def test_a_text_with_a_line_end_of_some_script_does_not_break_the_log_of_the_table(lake, text):
    rows = ROWS.with_columns(pl.lit(text).alias("note"))
    lake.append("silver/sales", rows, partition_by=["note"], app=("silver", 1))
    lake.append("silver/sales", rows, app=("silver", 2))
    lake.append("bronze/sales", rows, app=("bronze", 1))
    assert lake.app_version("silver/sales", "silver") == 2
    assert set(lake.read("silver/sales")["note"]) == set(lake.read("bronze/sales")["note"]) == {text}


def test_an_empty_table_has_its_schema(lake):
    commit = lake.append("silver/sales", ROWS.clear(), partition_by=["event_month"], app=("silver", 0))
    assert commit == TableCommit("silver/sales", 0, 0)
    assert lake.read("silver/sales").schema == ROWS.schema
    assert lake.app_version("silver/sales", "silver") == 0


def test_an_offset_that_is_inside_is_not_written_again(lake):
    lake.append("bronze/sales", ROWS, app=("bronze", 7))
    again = lake.append("bronze/sales", ROWS, app=("bronze", 7))
    assert again == TableCommit("bronze/sales", 0, 3)
    assert lake.append("bronze/sales", ROWS, app=("bronze", 8)).n_rows == 6


def test_a_write_from_a_stale_view_of_the_table_never_lands_twice(lake, monkeypatch):
    lake.append("bronze/sales", ROWS, app=("bronze", 1))
    stale = lake._open("bronze/sales")
    lake.append("bronze/sales", ROWS, app=("bronze", 2))
    # The first look at the table is older than the other writer's commit.
    fresh_open, looks = lake._open, iter([stale])
    monkeypatch.setattr(lake, "_open", lambda table, version=None: next(looks, None) or fresh_open(table, version))
    with contextlib.suppress(WriteConflict):
        lake.append("bronze/sales", ROWS, app=("bronze", 2))
    assert lake.row_count("bronze/sales") == 6


def test_replacing_a_partition_leaves_the_others_alone(lake):
    lake.append("silver/sales", ROWS, partition_by=["event_month"])
    january = ROWS[:1].with_columns(units=pl.lit(9, pl.Int64))
    commit = lake.replace_partitions("silver/sales", january, column="event_month", values=[202401])
    assert commit.n_rows == 2
    assert sorted(lake.read("silver/sales")["units"]) == [3, 9]


def test_rows_outside_the_replaced_partitions_are_refused(lake):
    lake.append("silver/sales", ROWS, partition_by=["event_month"])
    with pytest.raises(StoreError):
        lake.replace_partitions("silver/sales", ROWS, column="event_month", values=[202401])
    assert lake.version("silver/sales") == 0


def test_partitions_by_date_can_be_replaced(lake):
    lake.append("bronze/sales", ROWS, partition_by=["day"])
    commit = lake.replace_partitions("bronze/sales", ROWS.clear(), column="day", values=[date(2024, 1, 1)])
    assert commit.n_rows == 2


def test_overwriting_changes_the_schema_and_keeps_the_old_version_readable(lake):
    lake.append("gold/fct", ROWS, partition_by=["event_month"])
    lake.overwrite("gold/fct", ROWS.select("units"))
    assert lake.read("gold/fct").columns == ["units"]
    assert lake.read("gold/fct", version=0).height == 3


def test_a_wider_frame_adds_its_columns(lake):
    lake.append("gold/fct", ROWS.select("units"))
    lake.append("gold/fct", ROWS.select("units", extra=pl.lit("x")))
    assert lake.read("gold/fct")["extra"].null_count() == 3


def test_filters_all_have_to_hold(lake):
    lake.append("silver/sales", ROWS, partition_by=["event_month"])
    read = lake.read("silver/sales", columns=["units"], filters=[("event_month", "in", [202401]), ("units", ">", 1)])
    assert read["units"].to_list() == [2]


def test_a_missing_table_says_so(lake):
    assert not lake.has("gold/fct")
    assert lake.version("gold/fct") is None
    assert lake.app_version("gold/fct", "x") is None
    with pytest.raises(TableMissing):
        lake.read("gold/fct")


@pytest.mark.parametrize("name", ["../x", "/etc", "Gold", "gold//x", "", "gold/"])
def test_a_table_name_cannot_leave_the_lake(lake, name):
    with pytest.raises(StoreError):
        lake.has(name)


@pytest.mark.parametrize("values", [["1) OR (1=1"], [True], [], [datetime(2024, 1, 1, tzinfo=UTC)], [1.5]])
def test_a_predicate_is_made_of_integers_and_dates_only(values):
    with pytest.raises(StoreError):
        partition_predicate("event_month", values)
    with pytest.raises(StoreError):
        partition_predicate("x; --", [1])


def test_every_file_of_a_commit_and_its_folders_are_forced_to_disk(lake, monkeypatch):
    forced = []
    real = os.fsync
    monkeypatch.setattr(
        durable.os, "fsync", lambda fd: (forced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), real(fd))[1]
    )
    lake.append("silver/sales", ROWS, partition_by=["event_month"])
    table = lake.path("silver/sales")
    written = {str(path) for path in table.rglob("*") if path.suffix in (".parquet", ".json")}
    folders = {str(path) for path in [table, table / "_delta_log", *table.glob("event_month=*")]}
    assert written | folders <= set(forced)
    entry = next(i for i, path in enumerate(forced) if path.endswith(".json"))
    data = [i for i, path in enumerate(forced) if path.endswith(".parquet")]
    assert len(data) == 2 and max(data) < entry


def test_types_that_delta_lacks_are_widened():
    frame = pl.DataFrame({"n": pl.Series([1], dtype=pl.UInt32), "c": pl.Series(["a"], dtype=pl.Categorical)})
    assert dict(storable(frame).schema) == {"n": pl.Int64(), "c": pl.String()}
