"""What each aggregation makes of an empty window, of nulls and of ties, case by case, as the catalogue says it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import polars as pl
import pytest

from replenish.features.definitions.aggregation_words import AGGREGATION_WORDS
from replenish.features.definitions.model import (
    AGGREGATIONS,
    FeatureDefinition,
    FeatureSet,
    FeatureSource,
    SourceColumn,
)
from replenish.features.offline.evaluator import evaluate

CUTOFF = datetime(2025, 3, 10, 6, tzinfo=UTC)
"""That of 10 March 2025, in UTC; the window of a week is 3 to 9 March."""
SOURCE = FeatureSource(
    "sales", "gold/fct_sales", "sales", ("sku_id", "fact_id"), (SourceColumn("units", "units", "u"),)
)
Fact = tuple[int, int | None]
"""Day of March 2025, at whose midnight it happened, and units; known an hour later."""

NOTHING: list[Fact] = []
BEFORE: list[Fact] = [(1, 5)]
NULL: list[Fact] = [(8, None)]
ZERO: list[Fact] = [(8, 0)]
OFFSET: list[Fact] = [(8, 4), (8, -4)]
SOLD: list[Fact] = [(5, 6), (8, 2), (8, None)]
TIED: list[Fact] = [(5, 3), (8, 3)]
CALENDAR, OBSERVED, SINCE = (
    {"denominator": name, "window_days": 7} for name in ("calendar", "observed", "since_first")
)
WEEK = {"window_days": 7}

CASES: list[tuple[str, dict[str, object], list[Fact], object]] = [
    *(("sum", WEEK, facts, value) for facts, value in ((NOTHING, 0), (BEFORE, 0), (NULL, 0), (SOLD, 8))),
    *(("count", WEEK, facts, value) for facts, value in ((NOTHING, 0), (BEFORE, 0), (NULL, 0), (ZERO, 1), (SOLD, 2))),
    ("count", WEEK | {"value": None}, SOLD, 3),
    *(("count_nonzero", WEEK, facts, value) for facts, value in ((NOTHING, 0), (NULL, 0), (ZERO, 0), (SOLD, 2))),
    ("count_nonzero", WEEK, OFFSET, 0),
    *(("mean", CALENDAR, facts, value) for facts, value in ((NOTHING, 0.0), (NULL, 0.0), (SOLD, 8 / 7))),
    *(("mean", OBSERVED, facts, value) for facts, value in ((NOTHING, None), (NULL, None), (ZERO, 0.0), (SOLD, 4.0))),
    *(("mean", SINCE, facts, value) for facts, value in ((NOTHING, None), (ZERO, None), (SOLD, 8 / 5))),
    ("mean", SINCE, BEFORE, 0.0),
    ("mean", SINCE | {"offset_days": 7}, SOLD, None),
    *(("std", CALENDAR, facts, value) for facts, value in ((NOTHING, 0.0), (TIED, (7 * 18 - 36) ** 0.5 / 7))),
    *(("std", OBSERVED, facts, value) for facts, value in ((NOTHING, None), (NULL, None), (SOLD, 2.0), (TIED, 0.0))),
    *(("std", SINCE, facts, value) for facts, value in ((NOTHING, None), (SOLD, (5 * 40 - 64) ** 0.5 / 5))),
    *(("min", WEEK, facts, value) for facts, value in ((NOTHING, None), (NULL, None), (ZERO, 0), (SOLD, 2), (TIED, 3))),
    *(("max", WEEK, facts, value) for facts, value in ((BEFORE, None), (NULL, None), (ZERO, 0), (SOLD, 6), (TIED, 3))),
    # Facts that cancel out leave a day observed: its total is 0.
    ("max", WEEK, OFFSET, 0),
    *(("lag", {"lag_days": 2}, facts, value) for facts, value in ((NOTHING, 0), (NULL, 0), (SOLD, 2))),
    *(
        ("lag", {"lag_days": 2, "denominator": "observed"}, facts, value)
        for facts, value in ((NOTHING, None), (NULL, None), (ZERO, 0), (OFFSET, 0), (SOLD, 2))
    ),
    *(("days_since", {}, facts, value) for facts, value in ((NOTHING, None), (NULL, None), (ZERO, None), (SOLD, 2))),
    *(("days_since_first", {}, facts, value) for facts, value in ((NOTHING, None), (ZERO, None), (SOLD, 5), (TIED, 5))),
    # Day t itself is no day since.
    ("days_since", {}, [(10, 9)], None),
    # A null is the newest word; of equal clocks the greater fact id wins.
    *(("last", {}, facts, value) for facts, value in ((NOTHING, None), (BEFORE, 5), (SOLD, None), (OFFSET, -4))),
    # Sold on the first at midnight, asked nine days and six hours later.
    *(("last", {"time_to_live_days": days}, BEFORE, value) for days, value in ((9, None), (10, 5))),
]


def feature(aggregation: str, fields: dict[str, object]) -> FeatureDefinition:
    given = {"source": "sales", "value": "units", **fields}
    return FeatureDefinition("asked", aggregation, unit="", description="", **given)  # type: ignore[arg-type]


def answer(features: tuple[FeatureDefinition, ...], facts: list[Fact], as_of: datetime = CUTOFF) -> object:
    """The last feature's value."""
    rows = [
        {
            "sku_id": "A",
            "fact_id": f"{nr}",
            "event_time": datetime(2025, 3, day, tzinfo=UTC),
            "event_date": date(2025, 3, day),
            "knowledge_time": datetime(2025, 3, day, 1, tzinfo=UTC),
            "posting_kind": "version",
            "posting_sign": 1,
            "version_nr": 1,
            "units": units,
        }
        for nr, (day, units) in enumerate(facts)
    ]
    instant = pl.Datetime("us", "UTC")
    types = {"sku_id": pl.String(), "fact_id": pl.String(), "event_time": instant, "event_date": pl.Date()}
    types |= {"knowledge_time": instant, "posting_kind": pl.String(), "posting_sign": pl.Int32()}
    ledger = pl.DataFrame(rows, schema=types | {"version_nr": pl.Int32(), "units": pl.Int64()})
    asked = FeatureSet("test", "1.0.0", "", "", "instant", ("sku_id",), (SOURCE,), features)
    spine = pl.DataFrame({"sku_id": ["A"], "as_of": [as_of]}, schema={"sku_id": pl.String(), "as_of": instant})
    return evaluate(asked, spine, {"sales": ledger}, "UTC", time(6))[features[-1].name].item()


@pytest.mark.parametrize(
    ("aggregation", "fields", "facts", "expected"),
    CASES,
    ids=[f"{case[0]} {'-'.join(map(str, case[1].values()))} {case[2]}" for case in CASES],
)
def test_a_case_has_its_value(aggregation: str, fields: dict[str, object], facts: list[Fact], expected: object) -> None:
    found = answer((feature(aggregation, fields),), facts)
    assert found == pytest.approx(expected, rel=1e-12) if isinstance(expected, float) else found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("over", "under", "expected"), [(6, 3, 2.0), (0, 3, 0.0), (6, 0, None), (None, 3, None), (6, None, None)]
)
def test_a_ratio_is_null_where_a_part_is_null_or_it_divides_by_0(
    over: int | None, under: int | None, expected: float | None
) -> None:
    parts = [replace(feature("max", {"window_days": 1, "offset_days": n}), name=f"part_{n}") for n in (0, 1)]
    ratio = FeatureDefinition("asked", "ratio", "", "", numerator="part_0", denominator_feature="part_1")
    facts: list[Fact] = [(day, units) for day, units in ((9, over), (8, under)) if units is not None]
    assert answer((*parts, ratio), facts) == expected


def test_a_value_exactly_as_old_as_it_may_be_is_still_given() -> None:
    lives = feature("last", {"time_to_live_days": 2})
    end = datetime(2025, 3, 3, tzinfo=UTC)
    assert answer((lives,), BEFORE, end) == 5
    assert answer((lives,), BEFORE, end + timedelta(microseconds=1)) is None


def test_every_aggregation_of_the_catalogue_has_its_cases() -> None:
    assert (
        {case[0] for case in CASES} | {"ratio"} == set(AGGREGATIONS) == {word.aggregation for word in AGGREGATION_WORDS}
    )
