"""Parquet of odd types, and files that stand for far more than they hold."""

from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from replenish.errors import FileFault
from replenish.ingest.parquet_batches import FREE_ROWS, MAX_COLUMNS, MAX_NESTED_VALUES, parquet_frames


def _written(table: pa.Table, **options: object) -> BytesIO:
    target = BytesIO()
    pq.write_table(table, target, **options)
    return target


def _frame(table: pa.Table, **options: object) -> pl.DataFrame:
    source = _written(table, **options)
    return pl.concat(parquet_frames(source, 1000))


def _refused(table: pa.Table, **options: object) -> str:
    with pytest.raises(FileFault) as caught:
        _frame(table, **options)
    return caught.value.reason


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (pa.array([Decimal("1" * 50 + ".25")], pa.decimal256(60, 2)), "1" * 50 + ".25"),
        (pa.array([5, None], pa.duration("us")), "5 us"),
        (pa.array([[1, None]]), "[1,null]"),
        (pa.array([{"a": {"b": "é"}}]), '{"a":{"b":"é"}}'),
        (pa.array(["A1", None]).dictionary_encode(), "A1"),
        (pa.array([b"A1"]).dictionary_encode(), b"A1"),
        (pa.array(["A1"], pa.large_string()), "A1"),
        (pa.array([5]).dictionary_encode(), 5),
    ],
)
def test_what_no_frame_holds_becomes_text(column: pa.Array, told: object) -> None:
    values = _frame(pa.table({"c": column}))["c"].to_list()
    assert values == [told, None][: len(column)]


@pytest.mark.parametrize("zone", ["+25:00", "Foo/Bar", "America/New_York"])
def test_an_instant_is_the_same_in_whatever_zone_it_was_written(zone: str) -> None:
    column = pa.array([1_736_500_000_000_000]).cast(pa.timestamp("us", tz=zone))
    assert _frame(pa.table({"at": column}))["at"].dt.timestamp("us").to_list() == [1_736_500_000_000_000]


def test_a_late_time_of_96_bits_stays_what_it_is() -> None:
    column = pa.array([datetime(3000, 1, 1, tzinfo=UTC)], pa.timestamp("us"))
    frame = _frame(pa.table({"at": column}), use_deprecated_int96_timestamps=True)
    assert frame["at"].dt.year().to_list() == [3000]


def test_a_time_of_96_bits_is_an_instant_whoever_says_no_zone() -> None:
    told = datetime(2026, 1, 5, 12, tzinfo=UTC)
    plain, empty = pa.array([told], pa.timestamp("us")), pa.array([], pa.timestamp("us"))
    for column, values in ((plain, [told]), (empty, [])):
        frame = _frame(pa.table({"at": column}), use_deprecated_int96_timestamps=True)
        assert frame.schema["at"] == pl.Datetime("us", "UTC")
        assert frame["at"].to_list() == values
    assert _frame(pa.table({"at": plain})).schema["at"] == pl.Datetime("us")


def test_names_are_kept_even_an_empty_one() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["", "column_0"])
    assert _frame(table).columns == ["", "column_0"]
    assert _frame(pa.table({"a": pa.array([], pa.string())})).columns == ["a"]


def test_two_columns_of_one_name_refuse_the_file() -> None:
    assert _refused(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["c", "c"])) == "duplicate_column"


def test_more_columns_than_any_table_has_refuse_the_file() -> None:
    many = pa.table({f"c{nr}": pa.array([1]) for nr in range(MAX_COLUMNS + 1)})
    assert _refused(many) == "unreadable"


def test_a_nested_value_outside_the_calendar_refuses_the_file() -> None:
    assert _refused(pa.table({"c": pa.array([[2**31 - 1]], pa.list_(pa.int32())).cast(pa.list_(pa.date32()))}))


def test_one_long_text_that_stands_in_every_row_is_a_bomb() -> None:
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 600, pa.int32()), pa.array(["x" * (1 << 20)]))
    assert _refused(pa.table({"c": long})) == "gzip_bomb"


def test_a_row_of_millions_of_values_is_a_bomb() -> None:
    n = MAX_NESTED_VALUES + 1
    values = pa.array(pl.zeros(n, pl.Int8(), eager=True).to_numpy())
    assert _refused(pa.table({"c": pa.ListArray.from_arrays(pa.array([0, n], pa.int32()), values)})) == "gzip_bomb"


def test_rows_without_bytes_are_a_bomb() -> None:
    source = _written(pa.table({"c": pa.array(pl.zeros(FREE_ROWS + 1, pl.Int8(), eager=True).to_numpy())}))
    with pytest.raises(FileFault) as caught:
        next(iter(parquet_frames(source, 1000)))
    assert caught.value.reason == "gzip_bomb"


def test_a_footer_of_gigabytes_is_not_read() -> None:
    body = b"PAR1" + b"\0" * 100 + (2**31 - 1).to_bytes(4, "little") + b"PAR1"
    with pytest.raises(FileFault):
        next(iter(parquet_frames(BytesIO(body), 1000)))
