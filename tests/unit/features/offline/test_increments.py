"""Increments: what they are refused for is truly not in them, and what is wrong with them is said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, time

import polars as pl
import pytest

from replenish.errors import OutOfRange
from replenish.features.definitions.increments import increment_mistakes
from replenish.features.definitions.model import FeatureDefinition, FeatureSet, FeatureSource, RowFilter, SourceColumn
from replenish.features.offline.evaluator import evaluate
from tests.unit.features.definitions.small_set import contracts

BERLIN, SIX = "Europe/Berlin", time(6)
ENTITY = ("sku_id", "location_id")
CUTOFF = datetime(2025, 3, 10, 5, tzinfo=UTC)
"""That of 10 March 2025."""
COLUMNS = (SourceColumn("units", "units", "units"), SourceColumn("cents", "revenue_cents", "cents"))
SOURCE = FeatureSource("sales", "gold/fct_demand", "sales", ("location_id", "event_time", "sale_id"), COLUMNS)
Sale = tuple[int, int, int, int | None]
"""Hour of the sale on 8 March, hour on 9 March at which it is known, units, cents."""


def set_of(*features: FeatureDefinition, clock: str = "daily", grain: str = "increments") -> FeatureSet:
    lines = "lines" if grain == "increments" else None
    source = replace(SOURCE, grain=grain, lines=lines)  # type: ignore[arg-type]
    return FeatureSet("test", "1.0.0", "", "", clock, ENTITY, (source,), features)  # type: ignore[arg-type]


def feature(aggregation: str, **fields: object) -> FeatureDefinition:
    fields = {"source": "sales", "value": "units", **fields}
    return FeatureDefinition(name="asked", aggregation=aggregation, unit="", description="", **fields)  # type: ignore[arg-type]


def ledger_of(sales: Iterable[Sale]) -> pl.DataFrame:
    rows = [
        {
            "sku_id": "A",
            "location_id": "L",
            "sale_id": f"{nr}",
            "event_time": datetime(2025, 3, 8, sold, tzinfo=UTC),
            "event_date": date(2025, 3, 8),
            "knowledge_time": datetime(2025, 3, 9, known, tzinfo=UTC),
            "knowledge_date": date(2025, 3, 9 if known <= 5 else 10),
            "posting_kind": "version",
            "posting_sign": 1,
            "version_nr": 1,
            "units": units,
            "cents": cents,
        }
        for nr, (sold, known, units, cents) in enumerate(sales)
    ]
    return pl.DataFrame(rows, schema_overrides={"cents": pl.Int64(), **dict.fromkeys(CLOCKS, pl.Datetime("us", "UTC"))})


CLOCKS = ("event_time", "knowledge_time")


def increments_of(ledger: pl.DataFrame) -> pl.DataFrame:
    """All are versions, so that sums are plain."""
    keys = [*ENTITY, "event_date", "knowledge_date"]
    return ledger.group_by(keys).agg(pl.col("units", "cents").sum(), lines=pl.len().cast(pl.Int64)).sort(keys)


WEEK = {"window_days": 7}
NULL_OR_ZERO = ([(9, 3, 1, 5), (10, 3, 1, 0)], [(9, 3, 1, 5), (10, 3, 1, None)])
ZERO_DAY = ([(9, 3, 1, 0)], [(9, 3, 1, None)])
OTHER_SPLIT = ([(9, 3, 1, 5), (10, 3, 3, 5)], [(9, 3, 2, 5), (10, 3, 2, 5)])
UNANSWERABLE = [
    ("daily", feature("last"), OTHER_SPLIT, "aggregation"),
    ("daily", feature("sum", where=RowFilter("units", 2), **WEEK), OTHER_SPLIT, "where"),
    ("daily", feature("lag", lag_days=2, where=RowFilter("units", 2)), OTHER_SPLIT, "where"),
    ("instant", feature("sum", **WEEK), ([(9, 8, 1, 5)], [(9, 20, 1, 5)]), "grain"),
    ("daily", feature("count", value="cents", **WEEK), NULL_OR_ZERO, "aggregation"),
    ("daily", feature("min", value="cents", **WEEK), ZERO_DAY, "aggregation"),
    ("daily", feature("max", value="cents", **WEEK), ZERO_DAY, "aggregation"),
    ("daily", feature("mean", value="cents", denominator="observed", **WEEK), ZERO_DAY, "denominator"),
    ("daily", feature("std", value="cents", denominator="observed", **WEEK), ZERO_DAY, "denominator"),
    ("daily", feature("lag", value="cents", denominator="observed", lag_days=2), ZERO_DAY, "denominator"),
]


@pytest.mark.parametrize(
    ("clock", "asked", "sales", "field"),
    UNANSWERABLE,
    ids=[f"{clock} {f.aggregation} {field}" for clock, f, _, field in UNANSWERABLE],
)
def test_what_is_refused_differs_between_ledgers_of_equal_increments(
    clock: str, asked: FeatureDefinition, sales: tuple[list[Sale], list[Sale]], field: str
) -> None:
    one, other = (ledger_of(each) for each in sales)
    assert increments_of(one).equals(increments_of(other))
    of_postings = set_of(asked, clock=clock, grain="postings")
    as_of = CUTOFF.replace(day=9, hour=12) if clock == "instant" else CUTOFF
    spine = pl.DataFrame({"sku_id": ["A"], "location_id": ["L"], "as_of": [as_of]})
    answers = [evaluate(of_postings, spine, {"sales": ledger}, BERLIN, SIX)["asked"].item() for ledger in (one, other)]
    assert answers[0] != answers[1]
    mistakes = list(increment_mistakes(set_of(asked, clock=clock), contracts()))
    assert [mistake.place.rpartition(".")[2] for mistake in mistakes] == [field]
    assert not list(increment_mistakes(of_postings, contracts()))


ANSWERABLE = [
    feature("sum", value="cents", **WEEK),
    feature("count_nonzero", value="cents", **WEEK),
    feature("mean", value="cents", denominator="calendar", **WEEK),
    feature("std", value="cents", denominator="since_first", **WEEK),
    feature("lag", value="cents", lag_days=2, denominator="calendar"),
    feature("days_since", value="cents"),
    feature("days_since_first", value="cents"),
    feature("count", value=None, **WEEK),
    feature("count", **WEEK),
    feature("min", **WEEK),
    feature("max", **WEEK),
    feature("mean", denominator="observed", **WEEK),
    feature("std", denominator="observed", **WEEK),
    feature("lag", lag_days=2, denominator="observed"),
]


@pytest.mark.parametrize("asked", ANSWERABLE, ids=lambda f: f"{f.aggregation} {f.value} {f.denominator}")
def test_all_else_is_answered_and_equal(asked: FeatureDefinition) -> None:
    assert not list(increment_mistakes(set_of(asked), contracts()))
    days = [datetime(2025, 3, day, 5, tzinfo=UTC) for day in range(8, 20)]
    spine = pl.DataFrame({"sku_id": ["A"], "location_id": ["L"]}).join(pl.DataFrame({"as_of": days}), how="cross")
    for sales in (*NULL_OR_ZERO, *ZERO_DAY, *OTHER_SPLIT, [(9, 5, 0, None), (10, 6, 4, 7)]):
        ledger = ledger_of(sales)
        of_postings = evaluate(set_of(asked, grain="postings"), spine, {"sales": ledger}, BERLIN, SIX)
        assert evaluate(set_of(asked), spine, {"sales": increments_of(ledger)}, BERLIN, SIX).equals(of_postings)


def test_increments_that_cannot_be_read_are_refused_with_their_names() -> None:
    spine = pl.DataFrame({"sku_id": ["A"], "location_id": ["L"], "as_of": [CUTOFF]})
    sound = increments_of(ledger_of([(9, 3, 1, 5)]))
    total = set_of(feature("sum", **WEEK), replace(feature("count", **WEEK), name="n"))

    def refused(match: str, frame: pl.DataFrame = sound, features: FeatureSet = total) -> None:
        for ledger in (frame, frame.lazy()):
            with pytest.raises(OutOfRange, match=match):
                evaluate(features, spine, {"sales": ledger}, BERLIN, SIX)

    assert evaluate(total, spine, {"sales": sound}, BERLIN, SIX).row(0)[3:] == (1, 1)
    refused("ledger lacks columns.*lines", sound.drop("lines"))
    refused("ledger lacks columns.*knowledge_date", ledger_of([(9, 3, 1, 5)]).drop("knowledge_date"))
    refused("ledger lacks columns.*posting_kind", sound, replace(total, sources=(SOURCE,)))
    refused("knowledge date and count facts in integers.*Datetime", sound.cast({"knowledge_date": pl.Datetime("us")}))
    refused("knowledge date and count facts in integers.*Float64", sound.cast({"lines": pl.Float64}))
    refused("only integers are summed.*units", sound.cast({"units": pl.Float64}))
    refused("without a count of facts.*sales.*lines.*rows=1", sound.with_columns(lines=pl.lit(None, pl.Int64)))
    for column in ("event_date", "knowledge_date"):
        nulled = sound.with_columns(pl.lit(None, pl.Date).alias(column))
        refused(rf"rows without a clock.*sales.*\['{column}'\].*'A', 'L'", nulled)
    refused("daily sets only.*sales", features=replace(total, clock="instant"))
    refused("no single facts.*asked", features=set_of(feature("last")))
    refused("no single facts.*asked", features=set_of(feature("sum", where=RowFilter("units", 1), **WEEK)))


def test_increments_beyond_the_calendar_of_the_questions_count_as_before_or_never() -> None:
    old, far = date(1980, 1, 1), date(2999, 1, 1)
    frame = increments_of(ledger_of([(9, 3, 1, 5)]))
    frame = pl.concat([frame.with_columns(knowledge_date=day, units=units) for day, units in ((old, 10), (far, 100))])
    spine = pl.DataFrame({"sku_id": ["A"], "location_id": ["L"], "as_of": [CUTOFF]})
    found = evaluate(set_of(feature("sum", **WEEK)), spine, {"sales": frame}, BERLIN, SIX)
    assert found["asked"].item() == 10
