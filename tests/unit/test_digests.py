from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replenish.digests import file_digest, json_digest, ordered_rows_digest, table_digest
from replenish.errors import ContractError

FRAME = pl.DataFrame(
    {
        "id": ["b", "a", None],
        "units": [1, 2, None],
        "at": [datetime(2024, 1, 1, tzinfo=UTC)] * 3,
        "day": [date(2024, 1, 1), None, date(2024, 1, 2)],
        "share": [0.5, -0.0, None],
        "is_ok": [True, False, None],
        "reasons": [["x"], [], None],
    }
)


@given(st.permutations(range(3)), st.permutations(FRAME.columns))
def test_row_and_column_order_do_not_move_a_digest(rows, columns):
    assert table_digest(FRAME[rows].select(columns), ["id"]) == table_digest(FRAME, ["id"])


def test_rows_with_equal_keys_are_ordered_by_their_other_columns():
    twins = pl.DataFrame({"key": [1, 1], "value": [1, 2]})
    assert table_digest(twins, ["key"]) == table_digest(twins.reverse(), ["key"])


@pytest.mark.parametrize(
    "other",
    [
        FRAME.with_columns(units=pl.Series([1, 2, 0])),
        FRAME.with_columns(id=pl.Series(["b", "a", ""])),
        FRAME.with_columns(share=pl.Series([0.5, 0.0, 0.0])),
        FRAME.with_columns(reasons=pl.Series([["x"], [], []])),
        FRAME.rename({"units": "unit"}),
        FRAME[:2],
        FRAME.with_columns(units=pl.Series([1, 3, None])),
    ],
    ids=["null or 0", "null or empty text", "null or 0.0", "null or empty list", "column name", "rows", "value"],
)
def test_any_difference_in_content_moves_the_digest(other):
    assert table_digest(other, ["id"] if "id" in other.columns else []) != table_digest(FRAME, ["id"])


def test_integer_width_time_unit_and_negative_zero_do_not_matter():
    same = FRAME.with_columns(
        pl.col("units").cast(pl.Int8), pl.col("at").dt.cast_time_unit("ms"), share=pl.Series([0.5, 0.0, None])
    )
    assert table_digest(same, ["id"]) == table_digest(FRAME, ["id"])


@given(st.lists(st.text(max_size=3), min_size=2, max_size=4))
def test_text_is_length_prefixed_so_that_neighbours_never_run_together(words):
    joined = pl.DataFrame({"key": range(len(words)), "word": words})
    shifted = joined.with_columns(word=pl.Series(["".join(words), *[""] * (len(words) - 1)]))
    assert (table_digest(joined, ["key"]) == table_digest(shifted, ["key"])) == joined.equals(shifted)


def test_the_digest_of_a_small_table_is_written_down_so_that_it_never_changes():
    frame = pl.DataFrame({"sku_id": ["A", "B"], "units": [1, None]})
    assert table_digest(frame, ["sku_id"]) == "3b0aba469872ba0b389febcbfc64ade47312db8b67e1ce61bd12d85fe9b2d704"


def test_a_type_without_canonical_encoding_is_refused():
    with pytest.raises(ContractError):
        table_digest(pl.DataFrame({"raw": [b"x"]}), ["raw"])


def test_json_digest_ignores_key_order_and_refuses_nan():
    assert json_digest({"a": 1, "b": "ü"}) == json_digest({"b": "ü", "a": 1})
    with pytest.raises(ValueError):
        json_digest(float("nan"))


def test_file_digest_is_sha256_of_the_bytes(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert file_digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_digest_of_ordered_rows_depends_on_order_and_nothing_else() -> None:
    rows = pl.DataFrame({"text": ["a", None, "", "\u00e4b"], "number": [1, 2, None, 4]})
    digest = ordered_rows_digest(rows)
    assert ordered_rows_digest(rows.select("number", "text").with_columns(pl.col("number").cast(pl.Int16))) == digest
    assert ordered_rows_digest(pl.concat([rows[:1], rows[1:]], rechunk=False)) == digest
    assert ordered_rows_digest(pl.concat([rows, rows])[4:]) == digest
    changed = [rows.reverse(), rows.with_columns(text=pl.lit("a")), rows.with_columns(pl.col("text").fill_null(""))]
    assert digest not in [ordered_rows_digest(other) for other in (*changed, rows[:3], rows.select("text"))]
