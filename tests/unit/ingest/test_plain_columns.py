from datetime import UTC, date, datetime, time

import polars as pl
import pytest

from replenish.errors import FileFault
from replenish.ingest.plain_columns import plain_columns


def test_columns_that_no_mapping_reads_become_text() -> None:
    frame = pl.DataFrame({"n": [1, 2], "b": [b"A1", None], "t": [time(1), None]})
    assert plain_columns(frame).to_dict(as_series=False) == {
        "n": [1, 2],
        "b": ["A1", None],
        "t": ["01:00:00", None],
    }


def test_bytes_that_are_no_text_refuse_the_file() -> None:
    with pytest.raises(FileFault) as caught:
        plain_columns(pl.DataFrame({"b": [b"\xff"]}))
    assert caught.value.reason == "wrong_encoding"


def test_dates_and_times_beyond_every_calendar_are_told_as_numbers() -> None:
    days = pl.Series("day", [20_000, 2**31 - 1, None], dtype=pl.Int32()).cast(pl.Date())
    moments = pl.Series("at", [0, 2**62, None]).cast(pl.Datetime("ms"))
    assert plain_columns(pl.DataFrame([days, moments])).to_dict(as_series=False) == {
        "day": ["2024-10-04", "2147483647 days from 1970", None],
        "at": ["1970-01-01 00:00:00.000", f"{2**62} ms from 1970", None],
    }


def test_dates_and_times_of_the_calendar_stay_what_they_are() -> None:
    frame = pl.DataFrame({"day": [date(1, 1, 1), date(9999, 12, 31)], "at": [datetime(1, 1, 1, tzinfo=UTC), None]})
    assert plain_columns(frame).equals(frame)
