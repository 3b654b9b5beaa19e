"""The feature query in DuckDB against the oracle and the offline evaluator; what Spark is told is checked as text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time

import polars as pl
import pytest
import sqlglot
from hypothesis import given, settings
from sqlglot import exp

from replenish.bitemporal import origin_instant
from replenish.errors import BrokenPromise
from replenish.features.cluster import day_windows, latest_values
from replenish.features.cluster.calendar_tables import calendar_tables
from replenish.features.cluster.duckdb_engine import evaluate_in_duckdb
from replenish.features.cluster.feature_query import feature_query
from replenish.features.definitions.model import FeatureDefinition, FeatureSet, RowFilter
from replenish.features.definitions.reader import read_feature_sets
from tests.oracle.compare import batch_of, compare, first_mismatch, judged, question_of
from tests.oracle.evaluators import SOURCE, feature_set_of
from tests.oracle.histories import History, Seeded, Setting, cases, draw_features, draw_history
from tests.oracle.increments import asked_of_increments, increments_of, set_of_increments
from tests.oracle.known_at import Feature
from tests.oracle.range_join import Question

SEEDS = range(100, 106)


def in_duckdb(question: Question) -> pl.DataFrame:
    feature_set = feature_set_of(question)
    return evaluate_in_duckdb(feature_set, question.spine, {SOURCE: question.ledger}, question.zone, question.cutoff)


def in_duckdb_of_increments(question: Question) -> pl.DataFrame:
    ledgers = {SOURCE: increments_of(question.ledger, question.kinds)}
    return evaluate_in_duckdb(set_of_increments(question), question.spine, ledgers, question.zone, question.cutoff)


def test_the_query_says_what_the_oracle_says() -> None:
    done = compare(in_duckdb, [batch_of(seed) for seed in SEEDS])
    assert done.mismatch is None, f"{done.n_wrong} of {done.n_values} values differ\n{done.mismatch}"


def test_the_query_over_increments_says_what_the_oracle_says_of_their_postings() -> None:
    done = compare(in_duckdb_of_increments, [asked_of_increments(batch_of(seed)) for seed in SEEDS[:4]])
    assert done.mismatch is None, f"{done.n_wrong} of {done.n_values} values differ\n{done.mismatch}"


@settings(max_examples=10, deadline=None)
@given(case=cases())
def test_the_query_agrees_on_histories_that_shrink(case: tuple[Setting, tuple[Feature, ...], History]) -> None:
    setting, features, history = case
    found = first_mismatch(in_duckdb, judged(0, setting, features, [history]))
    assert found is None, str(found)


def test_the_query_survives_a_date_that_never_was() -> None:
    chooser = Seeded(1)
    setting = Setting("Pacific/Apia", "Pacific/Apia", time(6), date(2011, 12, 30), "named", 10)
    histories = [draw_history(chooser, setting, number) for number in range(40)]
    found = first_mismatch(in_duckdb, judged(1, setting, draw_features(chooser), histories))
    assert found is None, str(found)


def test_empty_ledgers_and_spines_give_empty_answers() -> None:
    batch = batch_of(SEEDS[0])
    silent = [replace(history, statements=(), cancellations=()) for history in batch.histories]
    assert first_mismatch(in_duckdb, judged(0, batch.setting, batch.features, silent)) is None
    question = question_of(batch)
    answer = in_duckdb(replace(question, spine=question.spine.head(0)))
    assert answer.schema == in_duckdb(question).schema
    assert answer.height == 0


def test_rows_of_the_spine_may_repeat_and_keep_their_other_columns() -> None:
    question = question_of(batch_of(SEEDS[1]))
    twice = pl.concat([question.spine, question.spine.reverse()]).with_row_index("mark")
    answer = in_duckdb(replace(question, spine=twice))
    assert answer["mark"].to_list() == list(range(twice.height))
    once = in_duckdb(question)
    assert answer.head(once.height).drop("mark").equals(once)


# Faults that the comparison has to see: the query with one rule broken.


def _ends_ignored() -> tuple[object, str, object]:
    return day_windows, "is_null", lambda term: exp.true()


def _future_facts_count() -> tuple[object, str, object]:
    return latest_values, "later_of", lambda event, known: known


def _window_one_day_late() -> tuple[object, str, object]:
    honest = day_windows.feature_window
    return day_windows, "feature_window", lambda f: replace_window(honest(f), 1)


def replace_window(window: object, days: int) -> object:
    return type(window)(window.first + days, window.last + days)  # type: ignore[attr-defined,call-arg]


@pytest.mark.parametrize("fault", [_ends_ignored, _future_facts_count, _window_one_day_late])
def test_a_broken_rule_is_seen(
    fault: Callable[[], tuple[object, str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*fault())
    assert compare(in_duckdb, [batch_of(seed) for seed in SEEDS[:2]]).n_wrong > 0


# What Spark is told.


def query_of(feature_set: FeatureSet) -> exp.Select:
    instant = int(datetime(2025, 3, 1, tzinfo=UTC).timestamp()) * 1_000_000
    return feature_query(feature_set, calendar_tables(instant, instant + 1, "Europe/Berlin", time(6)))


@pytest.mark.parametrize("feature_set", read_feature_sets().values(), ids=lambda s: s.name)
def test_the_platforms_sets_are_written_for_both_engines(feature_set: FeatureSet) -> None:
    query = query_of(feature_set)
    for dialect in ("duckdb", "spark"):
        again = sqlglot.parse_one(query.sql(dialect), read=dialect)
        assert [column.alias_or_name for column in again.selects][1:] == list(feature_set.feature_names)


def test_names_and_texts_cannot_leave_their_place() -> None:
    question = question_of(batch_of(SEEDS[0]))
    asked = feature_set_of(question)
    evil = "web'); DROP TABLE x; --\\"
    features = (
        FeatureDefinition(
            'a"b`c', "count", "units", "", source=SOURCE, window_days=7, where=RowFilter("channel", evil)
        ),
    )
    asked = replace(asked, features=features)
    ledger = question.ledger.with_columns(channel=pl.lit(evil))
    found = evaluate_in_duckdb(asked, question.spine, {SOURCE: ledger}, question.zone, question.cutoff)
    assert found['a"b`c'].sum() > 0
    spark = sqlglot.parse_one(query_of(asked).sql("spark"), read="spark")
    assert evil in {literal.this for literal in spark.find_all(exp.Literal)}
    assert not list(spark.find_all(exp.Drop))


def test_columns_may_be_called_like_what_the_query_computes() -> None:
    question = question_of(batch_of(SEEDS[2]))
    asked, straight = feature_set_of(question), in_duckdb(question)
    names = {"sku_id": "block", "location_id": "origin_day", "fact_id": "active"}
    (source,) = asked.sources
    key = tuple(names.get(name, name) for name in source.fact_key)
    renamed = replace(
        asked,
        entity=tuple(names[name] for name in asked.entity),
        sources=(replace(source, fact_key=key),),
    )
    ledger = question.ledger.rename(names).with_columns(known_us=pl.lit(1), event_day=pl.lit(1))
    spine = question.spine.rename(names, strict=False).with_columns(query_us=pl.lit(1))
    found = evaluate_in_duckdb(renamed, spine, {SOURCE: ledger}, question.zone, question.cutoff)
    assert found.select(asked.feature_names).equals(straight.select(asked.feature_names))


def test_squares_that_leave_64_bits_stay_exact() -> None:
    chooser = Seeded(7)
    setting = Setting("UTC", "UTC", time(6), date(2025, 2, 10), "named", 10)
    histories = [draw_history(chooser, setting, number) for number in range(30)]
    features = tuple(
        Feature(f"std_{n}_{denominator}", "std", "cents", n, denominator=denominator)
        for n in (3, 28)
        for denominator in ("calendar", "observed", "since_first")
    )
    huge = [
        replace(
            h,
            statements=tuple(replace(s, values=s.values | {"cents": 2**50 + nr}) for nr, s in enumerate(h.statements)),
        )
        for h in histories
    ]
    found = first_mismatch(in_duckdb, judged(7, setting, features, huge))
    assert found is None, str(found)


# The calendar.


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "America/New_York"])
def test_the_spans_part_time_and_are_found_by_their_utc_day(zone: str) -> None:
    oldest, newest = (int(datetime(2011, month, 20, tzinfo=UTC).timestamp()) * 1_000_000 for month in (2, 12))
    tables = calendar_tables(oldest, newest, zone, time(2, 30))
    spans = tables.spans.unique("origin_day").sort("starts_us")
    assert spans["starts_us"][1:].equals(spans["ends_us"][:-1], check_names=False)
    assert spans["starts_us"].min() <= oldest and spans["ends_us"].max() > newest  # type: ignore[operator]
    for instant in range(oldest, newest, 7 * 3_600_000_000 + 1):
        found = tables.spans.filter(
            pl.col("utc_day") == instant // 86_400_000_000,
            pl.col("starts_us") <= instant,
            pl.col("ends_us") > instant,
        )
        assert found.height == 1
        day = date.fromordinal(date(1970, 1, 1).toordinal() + found["origin_day"][0])
        assert origin_instant(day, zone, time(2, 30)).timestamp() * 1_000_000 <= instant


def test_a_statistic_that_nobody_knows_is_our_mistake() -> None:
    with pytest.raises(BrokenPromise):
        day_windows._aggregated(day_windows.WindowStatistic("median", day_windows.Window(1, 7)))
