from datetime import time

import polars as pl
import pytest

from replenish.errors import FileFault
from replenish.ingest.plain_columns import plain_columns


def test_columns_that_no_mapping_reads_become_text() -> None:
    frame = pl.DataFrame(
        {"n": [1, 2], "b": [b"A1", None], "l": [[1], None], "t": [time(1), None], "s": [{"a": 1}, {"a": None}]}
    )
    assert plain_columns(frame).to_dict(as_series=False) == {
        "n": [1, 2],
        "b": ["A1", None],
        "l": ['{"l":[1]}', None],
        "t": ["01:00:00", None],
        "s": ['{"s":{"a":1}}', '{"s":{"a":null}}'],
    }


def test_bytes_that_are_no_text_refuse_the_file() -> None:
    with pytest.raises(FileFault) as caught:
        plain_columns(pl.DataFrame({"b": [b"\xff"]}))
    assert caught.value.reason == "wrong_encoding"
