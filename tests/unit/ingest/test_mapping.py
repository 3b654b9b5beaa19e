"""Cells of a source as typed values."""

import hashlib
from datetime import UTC, date, datetime, time
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ingest_shop import FEED, NOW, SALES, feed_with

from replenish.bitemporal import knowledge_date_expr
from replenish.contracts.dataset import ColumnRule, Dataset, Exclusion, FileFormat, RowTest
from replenish.errors import ContractError, FileFault
from replenish.ingest.cells import decimals_of, flags_of, integers_of, products_of, rounded, typed_text
from replenish.ingest.content_ids import content_ids
from replenish.ingest.instants import instants_of, knowledge_dates, local_dates
from replenish.ingest.mapping import FeedMapping
from replenish.ingest.row_tests import first_exclusion, holds

PLAIN = FileFormat()


def _cents(*texts: str | None) -> list[int | None]:
    return rounded(products_of(decimals_of(pl.Series(texts, dtype=pl.String()), PLAIN), None, 100.0)).to_list()


def test_a_price_in_text_is_exact_in_cents() -> None:
    assert _cents("12.35", "1.15", "0.07", "-2.675", " 3 ", "+4", "1e2") == [1235, 115, 7, -268, 300, 400, 10000]


def test_half_a_cent_goes_to_the_even_side() -> None:
    assert _cents("1.005", "1.015", "1.025") == [100, 102, 102]


def test_what_is_no_number_or_too_large_is_null() -> None:
    assert _cents("", "x", "NaN", "inf", "9" * 30, None) == [None] * 6


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=4))
def test_cents_are_the_rounded_product_of_decimals(price: Decimal) -> None:
    assert _cents(f"{price:f}") == [int((price * 100).quantize(Decimal(1)))]


def test_a_whole_number_may_carry_a_point_but_no_fraction() -> None:
    texts = pl.Series(["7", "7.0", "7.5", " 8", "9" * 20, "-3"])
    assert integers_of(texts, PLAIN).to_list() == [7, 7, None, 8, None, -3]


@pytest.mark.parametrize(
    "text", ["+-5", "++5", "4.99999999999999999999e0", "99999999999999999999e-20", "1e-400", "15e-1", "1e999999999"]
)
def test_a_number_with_a_rest_or_two_signs_is_no_whole_one(text: str) -> None:
    assert integers_of(pl.Series([text]), PLAIN).to_list() == [None]


def test_whole_numbers_with_an_exponent_are_read_exactly() -> None:
    texts = pl.Series(["1e3", "1.0000001e7", "50e-1", "1E+02", "-2.5e1", "+4e0", "1e12", "1e13", "9" * 5_000 + "e0"])
    assert integers_of(texts, PLAIN).to_list() == [1000, 10000001, 5, 100, -25, 4, 10**12, None, None]


@pytest.mark.parametrize("dtype", [pl.Float64(), pl.Decimal(38, 10)])
def test_a_typed_number_with_a_rest_behind_six_digits_is_no_whole_one(dtype: pl.DataType) -> None:
    numbers = pl.Series(["2.0000001", "0.0000001", "5", "-3.0"]).cast(dtype)
    assert integers_of(numbers, PLAIN).to_list() == [None, None, 5, -3]


def test_a_point_that_parts_no_thousands_never_makes_a_price_larger() -> None:
    german = FileFormat(decimal=",", thousands=".")
    texts = pl.Series(["1.234,50", "12.345.678", "-1.000", "12.50", "1.2345", "12,5"])
    assert [None if v is None else float(v) for v in decimals_of(texts, german)] == [
        *(1234.5, 12345678, -1000, None, None, 12.5)
    ]


def test_declared_separators_of_numbers_are_obeyed() -> None:
    german = FileFormat(decimal=",", thousands=".")
    assert decimals_of(pl.Series(["1.234,50", "7"]), german).to_list() == [Decimal("1234.5"), Decimal(7)]
    assert decimals_of(pl.Series(["1.5"]), FileFormat(decimal=",")).to_list() == [None]


def test_flags_have_many_spellings() -> None:
    assert flags_of(pl.Series(["1", "TRUE", "n", "0", "maybe"])).to_list() == [True, True, False, False, None]
    assert flags_of(pl.Series([1, 0, 2])).to_list() == [True, False, None]


def test_a_number_is_a_flag_only_if_it_is_one_or_zero() -> None:
    numbers = pl.Series([1.0, 0.0, 0.5, 1.9, float("nan"), float("inf"), 1e300])
    assert flags_of(numbers).to_list() == [True, False, None, None, None, None, None]
    assert flags_of(pl.Series([date(1970, 1, 2)])).to_list() == [None]


def test_times_without_an_offset_are_of_the_feed_zone() -> None:
    texts = pl.Series(["2025-01-10 12:00", "2025-07-10T12:00:00", "2025-07-10T12:00:00Z", "2025-07-10T12:00:00+02:00"])
    hours = [instant.hour for instant in instants_of(texts, "Europe/Berlin")]
    assert hours == [11, 10, 12, 10]


def test_the_hour_that_occurs_twice_is_the_first_and_the_skipped_one_none() -> None:
    texts = pl.Series(["2025-10-26T02:30:00", "2025-03-30T02:30:00"])
    assert instants_of(texts, "Europe/Berlin").to_list() == [datetime(2025, 10, 26, 0, 30, tzinfo=UTC), None]


def test_declared_formats_are_tried_in_order() -> None:
    texts = pl.Series(["1/2/06", "3-Feb-07", "nothing"])
    found = instants_of(texts, "UTC", ("%m/%d/%y", "%d-%b-%y"))
    assert local_dates(found, "UTC").to_list() == [date(2006, 1, 2), date(2007, 2, 3), None]


def test_an_offset_that_is_not_of_the_zone_is_a_contradiction() -> None:
    with pytest.raises(FileFault, match="not a time of Europe/Berlin"):
        instants_of(pl.Series(["2025-01-10T12:00:00", "2025-01-10T12:00:00-05:00"]), "Europe/Berlin")


def test_an_offset_that_nobody_can_hold_to_the_zone_makes_no_time() -> None:
    assert instants_of(pl.Series(["2025-01-10T12:00:00\u221201:00"]), "Europe/Berlin").to_list() == [None]


def test_the_offset_of_a_time_without_leading_zeros_is_held_to_the_zone_too() -> None:
    with pytest.raises(FileFault, match="not a time of Europe/Berlin"):
        instants_of(pl.Series(["2025-1-5T1:2:3+05:00"]), "Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "formats"),
    [
        ("2016-12-31T23:59:60Z", ()),
        ("2025-01-10T10:00:60", ()),
        ("2025-01-10 10:00:60.600Z", ()),
        ("20250110160060", ("%Y%m%d%H%M%S",)),
        ("10.01.2025 10:00:60 +01:00", ("%d.%m.%Y %H:%M:%S %z",)),
    ],
)
def test_a_second_sixty_is_never_the_next_minute(text: str, formats: tuple[str, ...]) -> None:
    assert instants_of(pl.Series([text]), "Europe/Berlin", formats).to_list() == [None]
    assert instants_of(pl.Series([text.replace("0060", "0000").replace(":60", ":00")]), "Europe/Berlin", formats)[0]


def test_day_numbers_are_whole_numbers_within_our_days() -> None:
    def days_of(values: list[object]) -> list[datetime | None]:
        return instants_of(pl.Series(values), "UTC", days_since=date(2000, 1, 1)).to_list()

    assert days_of(["2147483647", "-2147483648", "45.5", "9999999999", "1"]) == [
        *[None] * 4,
        datetime(2000, 1, 2, tzinfo=UTC),
    ]
    assert days_of([45.7, 1.0]) == [None, datetime(2000, 1, 2, tzinfo=UTC)]
    assert days_of([date(2025, 1, 1)]) == days_of([True]) == [None]


def test_day_numbers_count_from_the_declared_day() -> None:
    assert local_dates(instants_of(pl.Series([0, 59]), "UTC", days_since=date(2011, 1, 29)), "UTC").to_list() == [
        date(2011, 1, 29),
        date(2011, 3, 29),
    ]


@given(
    st.lists(
        st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1)),  # noqa: DTZ001
        min_size=1,
        max_size=30,
    ),
    st.sampled_from(["Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Kiritimati", "America/St_Johns"]),
)
def test_dates_by_day_boundaries_equal_dates_row_by_row(instants: list[datetime], zone: str) -> None:
    known = pl.Series("t", instants).dt.replace_time_zone("UTC").cast(pl.Datetime("us", "UTC"))
    assert local_dates(known, zone).to_list() == known.dt.convert_time_zone(zone).dt.date().to_list()
    expected = known.to_frame().select(knowledge_date_expr("t", zone, time(6)))["t"]
    assert knowledge_dates(known, zone, time(6)).to_list() == expected.to_list()


def test_content_ids_tell_cells_apart_and_nulls_from_blanks() -> None:
    frame = pl.DataFrame({"a": ["x", "xy", None, "", "x"], "b": ["yz", "z", "", None, "yz"]})
    ids = content_ids(frame).to_list()
    assert ids[0] == ids[4]
    assert len(set(ids)) == 4


def test_content_ids_are_the_same_in_every_version() -> None:
    # Stored facts carry these ids: another value here would make every known fact new.
    assert content_ids(pl.DataFrame({"a": ["x"], "b": [None]}, schema_overrides={"b": pl.String()})).to_list() == [
        hashlib.md5(b"1:x-").hexdigest()
    ]


def _apply(columns: dict[str, ColumnRule], source: dict[str, list[object]]) -> pl.DataFrame:
    feed = feed_with(columns={**FEED.columns, **columns}, retraction=None)
    dataset = Dataset("shop", "Europe/Berlin", time(6), "demo", None, (feed,))
    height = len(next(iter(source.values())))
    filler = {"shop": "S1", "time": "2025-01-10", "receipt": "r", "article": "a", "qty": "1", "price": "1"}
    rows = {name: [value] * height for name, value in (filler | {"known": "2025-01-11"}).items()} | source
    return FeedMapping(feed, SALES, dataset, NOW).apply(pl.DataFrame(rows))


def test_templates_cases_transforms_and_products_make_columns() -> None:
    rows = _apply(
        {
            "sale_id": ColumnRule(template="{receipt}-{line}"),
            "sku_id": ColumnRule(column="article", transform=("strip", "upper")),
            "location_id": ColumnRule(column="shop", cases=(("^S", "STORE"), (".", "WEB"))),
            "units": ColumnRule(column="qty", transform=("absolute",)),
            "revenue_cents": ColumnRule(column="price", multiply_by="qty", factor=100, transform=("absolute",)),
        },
        {
            "line": ["1", None],
            "article": [" a1 ", "b"],
            "shop": ["S1", "x"],
            "qty": ["-3", "2"],
            "price": ["0.35", "?"],
        },
    )
    expected = [("r-1", "A1", "STORE", 3, 105), (None, "B", "WEB", 2, None)]
    assert rows.select("sale_id", "sku_id", "location_id", "units", "revenue_cents").rows() == expected
    assert rows["revenue_cents__uncastable"].to_list() == [False, True]


def test_null_words_are_null_and_not_unreadable() -> None:
    rows = _apply({"revenue_cents": ColumnRule(column="price", null_values=("n/a",))}, {"price": ["n/a", ""]})
    assert rows["revenue_cents"].to_list() == [None, None]
    assert "revenue_cents__uncastable" not in rows.columns


def test_row_tests_hold_where_all_conditions_do() -> None:
    frame = pl.DataFrame({"a": ["C1", "1", None], "n": ["-2", "3", "x"], "d": ["2025-01-02", "2025-01-01", None]})
    frame = frame.with_columns(pl.lit("2025-01-02").alias("e"))
    cases = {
        RowTest("a", matches="^C"): [True, False, False],
        RowTest("a", not_matches="^C"): [False, True, True],
        RowTest("a", equals="1"): [False, True, False],
        RowTest("a", is_null=True): [False, False, True],
        RowTest("n", at_most=-1): [True, False, False],
        RowTest("n", at_least=-2, at_most=3): [True, True, False],
        RowTest("d", before_column="e"): [False, True, False],
        RowTest("n", at_most=5, and_also=(RowTest("a", matches="^C"),)): [True, False, False],
    }
    assert {test: holds(test, frame, FEED).to_list() for test in cases} == cases


def test_the_first_exclusion_that_applies_gives_the_reason() -> None:
    feed = feed_with(
        exclude=(Exclusion("one", RowTest("a", equals="1")), Exclusion("any", RowTest("a", is_null=False)))
    )
    assert first_exclusion(pl.DataFrame({"a": ["1", "2", None]}), feed).to_list() == ["one", "any", None]


def test_a_pattern_the_engine_cannot_run_names_the_feed() -> None:
    with pytest.raises(ContractError, match=r"shop\.sales"):
        holds(RowTest("a", matches="(?=x)"), pl.DataFrame({"a": ["x"]}), FEED)


def test_a_number_that_is_none_is_no_text_either() -> None:
    assert typed_text(pl.Series([1.5, float("nan"), float("inf"), None]), ()).to_list() == ["1.5", None, None, None]
