"""What stands behind a closing quote is no value: it is dead-lettered, wherever the pieces of the source are cut."""

from __future__ import annotations

import csv
import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_shop import HEADER, Shop, line

from replenish.ingest.quotes import MARK, QuoteWatch

WELL_FORMED = [
    "a,b\n",
    '"a","b"\n',
    '"a""b",c\n',
    '"",x\n',
    '"a\n,""b""",c\r\n',
    'A"1,b\n',
    "'a,b\n",
    'a,5" pipe\n',
    '"a,"""\n',
]
MISPLACED = ['"a"x,b\n', '""x,b\n', '"a,"x"\n', '"5" pipe",b\n', '"a""" ,b\n', '"a" "b",c\n']


def marked(text: str, cuts: list[int]) -> str:
    watch = QuoteWatch('"', ",")
    raw, places = text.encode(), sorted({0, *(c % (len(text) + 1) for c in cuts), len(text.encode())})
    out = b"".join(watch.marked(raw[a:b]) for a, b in pairwise(places))
    assert out.count(MARK.encode()) == watch.n_marked
    return out.decode()


@pytest.mark.parametrize("row", WELL_FORMED)
def test_well_formed_rows_stay_as_they_are(row: str) -> None:
    assert marked("h,i\n" + row * 2, [5, 7]) == "h,i\n" + row * 2


@pytest.mark.parametrize("row", MISPLACED)
def test_a_row_with_something_behind_a_closing_quote_is_marked_and_the_next_is_not(row: str) -> None:
    text = marked("h,i\n" + row + '"a","b"\n', [])
    assert MARK in text.split("\n")[1]
    assert text.endswith('"a","b"\n')


@given(st.text('",\na', max_size=30), st.lists(st.integers(0, 40), max_size=4))
def test_the_standard_reader_refuses_exactly_what_is_marked(text: str, cuts: list[int]) -> None:
    try:
        # The standard reader is as strict, but for a field that is never closed, which is another fault.
        list(csv.reader(io.StringIO(text, newline=""), strict=True))
        is_sound = True
    except csv.Error as error:
        is_sound = "unexpected end" in str(error)
    assert (MARK not in marked(text, cuts)) == is_sound


def test_such_rows_are_dead_letters_and_the_others_are_accepted(tmp_path) -> None:  # type: ignore[no-untyped-def]
    shop = Shop(tmp_path)
    rows = [line(f"r{i}") for i in range(8)]
    rows[3] = line("r3", article='"A"x')
    verdict = shop.offer("\n".join([HEADER, *rows, ""]))
    assert (verdict.offered, verdict.accepted, verdict.reasons) == (8, 7, {"misplaced_quote": 1})
    (letter,) = shop.journal.dead_letters()
    assert (letter.row_nr, letter.reason) == (4, "misplaced_quote")
    assert 'A"x' in str(letter.raw)
