"""Each cause is found where it is one, and nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import polars as pl
import pytest

from replenish.features.definitions.identity import feature_set_digest
from replenish.features.definitions.model import FeatureSet
from replenish.features.reconciliation.diagnosis import Reconciler
from tests.unit.features.reconciliation.served_world import (
    AS_OF,
    CUTOFF,
    OLDER,
    SET,
    ZONE,
    Answer,
    FakeHistory,
    served,
    silver_rows,
    usual_rows,
)

ROWS = silver_rows(usual_rows())
LAST = 40
RECORDED = {feature_set_digest(each): each for each in (OLDER, SET)}


def causes(
    vectors: list[Answer], rows: pl.DataFrame = ROWS, recorded: Mapping[str, FeatureSet] = RECORDED
) -> list[tuple[str | None, str]]:
    done = Reconciler(SET, recorded, FakeHistory(rows), ZONE, CUTOFF).reconcile(vectors)
    assert {value.outcome for value in done.values} <= {"match", "missing", "extra", "difference"}
    assert len(done.findings) == len(vectors)
    return [(finding.cause, finding.detail) for finding in done.findings]


def test_what_the_twin_serves_is_what_offline_says() -> None:
    instants = [AS_OF, AS_OF - timedelta(days=3), AS_OF + timedelta(hours=11)]
    vectors = [served(ROWS, sku, seq=LAST, as_of=as_of) for sku in ("A", "B", "nobody") for as_of in instants]
    done = Reconciler(SET, RECORDED, FakeHistory(ROWS), ZONE, CUTOFF).reconcile(vectors)
    assert {value.outcome for value in done.values} == {"match"}
    assert len(done.values) == len(vectors) * len(SET.features)


def test_data_that_came_behind_the_served_place_is_late() -> None:
    event = datetime(2025, 3, 18, 12, tzinfo=UTC)
    rows = silver_rows([*usual_rows(), (41, "A", event, event + timedelta(hours=1), 100)])
    assert causes([served(rows, "A", seq=LAST), served(rows, "A", seq=41)], rows) == [
        ("late_data", "known to the log only behind the served place"),
        (None, ""),
    ]


def test_an_older_recorded_version_is_other_code() -> None:
    assert causes([served(ROWS, "A", seq=LAST, feature_set=OLDER)]) == [("code", "definitions 1.0.0")]


def test_definitions_that_nobody_recorded_explain_nothing() -> None:
    done = Reconciler(SET, {}, FakeHistory(ROWS), ZONE, CUTOFF).reconcile(
        [served(ROWS, "A", seq=LAST, feature_set=OLDER)]
    )
    (finding,) = done.findings
    assert finding.cause == "unexplained"
    assert not finding.is_known_definition


def test_an_older_version_on_data_that_came_later_is_still_that_version() -> None:
    event = datetime(2025, 3, 18, 12, tzinfo=UTC)
    rows = silver_rows([*usual_rows(), (41, "A", event, event + timedelta(hours=1), 100)])
    assert causes([served(rows, "A", seq=LAST, feature_set=OLDER)], rows) == [("code", "definitions 1.0.0")]


def test_a_vector_of_yesterday_is_stale() -> None:
    ((cause, detail),) = causes([served(ROWS, "A", seq=LAST, stands_at=AS_OF - timedelta(days=1))])
    assert cause == "freshness"
    assert detail.startswith("stands at 2025-03-19")


def test_a_key_that_was_not_fed_to_the_place_it_names_is_stale() -> None:
    # The newest sale of A is at place 39.
    assert causes([served(ROWS, "A", seq=LAST, fed_through=38)])[0][0] == "freshness"


CLOCKS = {
    # Half past six in Berlin, half past five in UTC: its day has not begun.
    "zone UTC": (datetime(2025, 3, 20, 5, 30, tzinfo=UTC), {"zone": "UTC"}),
    "cut-off 12:00": (datetime(2025, 3, 20, 8, tzinfo=UTC), {"cutoff": time(12)}),
    "cut-off 00:00": (datetime(2025, 3, 20, 4, tzinfo=UTC), {"cutoff": time(0)}),
}


@pytest.mark.parametrize("detail", CLOCKS)
def test_another_clock_is_other_preprocessing(detail: str) -> None:
    as_of, clock = CLOCKS[detail]
    # Known a moment ago, so that no earlier instant has the same vector.
    event = datetime(2025, 3, 17, 20, tzinfo=UTC)
    rows = silver_rows([*usual_rows(), (41, "A", event, as_of - timedelta(minutes=5), 9)])
    vector = served(rows, "A", seq=41, as_of=as_of, **clock)  # type: ignore[arg-type]
    assert causes([vector], rows) == [("preprocessing", detail)]


TAMPERED = {
    "sales.units times 1000": {"units": pl.col("units") * 1000},
    "sales.revenue_cents over 100": {"amount_cents": pl.col("amount_cents") // 100},
    "line_nr in place of sales.units": {"units": pl.col("line_nr")},
    "sales.revenue_cents and sales.units exchanged": {"units": pl.col("amount_cents"), "amount_cents": pl.col("units")},
    "event time for knowledge time": {"knowledge_time": pl.col("event_time")},
    "event dates of Europe/Berlin": {"event_date": pl.col("event_time").dt.convert_time_zone(ZONE).dt.date()},
}


@pytest.mark.parametrize("detail", TAMPERED)
def test_other_rows_than_the_ledgers_are_other_preprocessing(detail: str) -> None:
    midnight = datetime(2025, 3, 19, 23, 30, tzinfo=UTC)
    rows = silver_rows(
        [*usual_rows(), (41, "A", midnight, AS_OF + timedelta(hours=1), 5), (42, "A", midnight, midnight, 4)]
    )
    vector = served(rows.with_columns(**TAMPERED[detail]), "A", seq=42)
    assert causes([vector], rows) == [("preprocessing", detail)]


def test_a_number_that_nothing_reproduces_is_unexplained() -> None:
    right = served(ROWS, "A", seq=LAST)
    wrong = replace(right, values={**right.values, "units_sum__7": int(right.values["units_sum__7"]) + 1})  # type: ignore[arg-type]
    assert [cause for cause, _ in causes([right, wrong])] == [None, "unexplained"]


def test_a_cause_has_to_explain_every_value() -> None:
    event = datetime(2025, 3, 18, 12, tzinfo=UTC)
    rows = silver_rows([*usual_rows(), (41, "A", event, event + timedelta(hours=1), 100)])
    late = served(rows, "A", seq=LAST)
    assert causes([replace(late, values={**late.values, "units_lag_1": 7777})], rows)[0][0] == "unexplained"


def test_missing_and_extra_values_are_told_apart() -> None:
    right = served(ROWS, "A", seq=LAST)
    values = {**right.values, "last_units": None, "strange": 3}
    del values["units_lag_1"]
    nobody = served(ROWS, "nobody", seq=LAST)
    known = replace(nobody, values={**nobody.values, "last_units": 1})
    done = Reconciler(SET, RECORDED, FakeHistory(ROWS), ZONE, CUTOFF).reconcile([replace(right, values=values), known])
    told = {(v.place, v.feature): v.outcome for v in done.values if v.outcome != "match"}
    assert told == {
        (0, "last_units"): "missing",
        (0, "units_lag_1"): "missing",
        (0, "strange"): "extra",
        (1, "last_units"): "extra",
    }
    assert {finding.cause for finding in done.findings} == {"unexplained"}


def test_an_integer_served_as_a_float_is_a_difference() -> None:
    right = served(ROWS, "A", seq=LAST)
    as_float = replace(right, values={**right.values, "units_sum__7": float(right.values["units_sum__7"])})  # type: ignore[arg-type]
    assert causes([as_float])[0][0] == "unexplained"


def test_a_search_in_vain_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replenish.features.reconciliation.diagnosis.MOST_SEARCHED", 2)
    right = served(ROWS, "A", seq=LAST)
    wrong = replace(right, values={**right.values, "units_lag_1": -5})
    found = causes([wrong] * 4)
    assert {cause for cause, _ in found} == {"unexplained"}
    assert [detail.startswith("not searched") for _, detail in found] == [False, False, True, True]
