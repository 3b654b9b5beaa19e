"""The oracle itself: every aggregation by hand, days on which clocks change, and its second form beside the first."""

from __future__ import annotations

import ast
import sys
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings

from replenish.bitemporal import origin_instant
from tests.oracle.compare import is_same
from tests.oracle.histories import (
    SHAPES,
    History,
    Seeded,
    Setting,
    cases,
    draw_history,
    draw_setting,
    ledger_of,
    postings_of,
)
from tests.oracle.known_at import AGGREGATIONS, FACT_KINDS, Feature, cutoff_instant, known_values, origin_date
from tests.oracle.true_at import true_values

SIX = time(6)
KEY = ("s", "l")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def posting(
    day: int, known: str, units: int | None, fact: str = "f", version_nr: int = 1, sign: int = 1, channel: str = "web"
) -> dict[str, Any]:
    """A posting of an event at noon UTC of a day in May 2025."""
    event_time = datetime(2025, 5, day, 12, tzinfo=UTC)
    return {
        "key": KEY,
        "fact": (*KEY, fact),
        "event_date": event_time.date(),
        "event_time": event_time,
        "knowledge_time": at(known),
        "posting_sign": sign,
        "posting_kind": "version" if sign > 0 else "reversal",
        "version_nr": version_nr,
        "values": {"units": units, "channel": channel},
    }


# One week of May, seen on the 10th at 06:00 UTC: totals 3rd 4, 5th 5 + 1 = 6, 6th nothing said, 7th 2 - 2 = 0, 8th -3.
WEEK = [
    posting(3, "2025-05-03T13:00", 4, "a"),
    posting(5, "2025-05-05T13:00", 5, "b"),
    posting(5, "2025-05-09T06:00", 1, "c", channel="shop"),
    posting(6, "2025-05-06T13:00", None, "d"),
    posting(7, "2025-05-07T13:00", 2, "e"),
    posting(7, "2025-05-07T14:00", -2, "f"),
    posting(8, "2025-05-08T13:00", 9, "g"),
    posting(8, "2025-05-09T13:00", 9, "g", 1, -1),
    posting(8, "2025-05-09T13:00", -3, "g", 2),
    # Sold on the 4th, told on the 5th, taken back on the 6th.
    posting(4, "2025-05-05T08:00", 7, "h"),
    posting(4, "2025-05-06T08:00", 7, "h", 1, -1),
    # Planned for the 12th, and a fact of the 9th that arrives after the cut-off.
    posting(12, "2025-05-02T08:00", 50, "i"),
    posting(9, "2025-05-10T06:00:00.000001", 8, "j"),
]
BY_HAND: tuple[tuple[str, dict[str, Any], Any], ...] = (
    ("sum", {"window_days": 7}, 7),
    ("sum", {"window_days": 2}, -3),
    ("sum", {"window_days": 3, "offset_days": 3}, 6),
    ("sum", {"window_days": 7, "where": ("channel", "shop")}, 1),
    ("sum", {"window_days": 7, "offset_days": 30}, 0),
    ("count", {"window_days": 7}, 6),
    ("count", {"window_days": 7, "value": None}, 7),
    ("count", {"window_days": 1}, 0),
    ("count_nonzero", {"window_days": 7}, 3),
    ("count_nonzero", {"window_days": 7, "offset_days": 40}, 0),
    ("mean", {"window_days": 7}, 1.0),
    ("mean", {"window_days": 7, "denominator": "observed"}, 1.75),
    ("mean", {"window_days": 28, "denominator": "since_first"}, 1.0),
    ("mean", {"window_days": 4, "denominator": "since_first"}, -0.75),
    ("mean", {"window_days": 28, "offset_days": 4, "denominator": "since_first"}, 10 / 3),
    ("mean", {"window_days": 7, "offset_days": 7, "denominator": "since_first"}, None),
    ("mean", {"window_days": 1, "denominator": "observed"}, None),
    ("mean", {"window_days": 1}, 0.0),
    ("std", {"window_days": 7}, (7 * 61 - 49) ** 0.5 / 7),
    ("std", {"window_days": 7, "denominator": "observed"}, (4 * 61 - 49) ** 0.5 / 4),
    ("std", {"window_days": 28, "denominator": "since_first"}, (7 * 61 - 49) ** 0.5 / 7),
    ("std", {"window_days": 1, "denominator": "observed"}, None),
    ("std", {"window_days": 1}, 0.0),
    ("min", {"window_days": 7}, -3),
    ("max", {"window_days": 7}, 6),
    ("max", {"window_days": 3}, 0),
    ("min", {"window_days": 1}, None),
    ("max", {"window_days": 1, "offset_days": 3}, None),
    ("lag", {"lag_days": 5}, 6),
    ("lag", {"lag_days": 4}, 0),
    ("lag", {"lag_days": 4, "denominator": "observed"}, None),
    ("lag", {"lag_days": 3, "denominator": "observed"}, 0),
    ("lag", {"lag_days": 6}, 0),
    ("days_since", {}, 2),
    ("days_since", {"where": ("channel", "shop")}, 5),
    ("days_since", {"where": ("channel", "none")}, None),
    ("days_since_first", {}, 7),
    ("days_since_first", {"where": ("channel", "shop")}, 5),
    ("days_since_first", {"where": ("channel", "none")}, None),
    ("last", {}, -3),
    ("last", {"time_to_live_days": 1}, None),
    ("last", {"time_to_live_days": 2}, -3),
    ("last", {"where": ("channel", "shop")}, 1),
)


@pytest.mark.parametrize(("aggregation", "how", "expected"), BY_HAND, ids=str)
def test_a_week_reckoned_by_hand(aggregation: str, how: dict[str, Any], expected: Any) -> None:
    feature = Feature("f", aggregation, **{"value": "units", **how})
    found = known_values([feature], WEEK, KEY, at("2025-05-10T06:00"), "UTC", SIX)["f"]
    assert is_same(found, expected), found


def test_every_aggregation_has_an_example_by_hand() -> None:
    assert {name for name, _, _ in BY_HAND} | {"ratio"} == set(AGGREGATIONS)


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [
        ({"window_days": 7}, {"window_days": 2}, 7 / -3),
        ({"window_days": 7}, {"window_days": 1}, None),
        ({"window_days": 1}, {"window_days": 7}, 0.0),
    ],
)
def test_a_ratio_is_null_over_zero(above: dict[str, Any], below: dict[str, Any], expected: float | None) -> None:
    features = [
        Feature("r", "ratio", numerator="a", denominator_feature="b"),
        Feature("a", "sum", "units", **above),
        Feature("b", "sum", "units", **below),
    ]
    assert known_values(features, WEEK, KEY, at("2025-05-10T06:00"), "UTC", SIX)["r"] == expected


def test_what_is_known_grows_and_shrinks_with_the_instant() -> None:
    sums = Feature("f", "sum", "units", window_days=28)
    seen = {
        "2025-05-05T07:59:59.999999": 4,  # The origin is the 5th: the 3rd is in, the 4th unknown.
        "2025-05-05T08:00": 11,
        "2025-05-06T08:00": 9,  # The 5th (b) is in, the 4th is taken back.
        "2025-05-09T05:59:59.999999": 9,
        "2025-05-09T06:00": 19,  # The cut-off brings the 8th (9), knowledge of the same instant the shop's 1.
        "2025-05-09T13:00": 7,
        "2025-05-13T05:59": 15,
        "2025-05-13T06:00": 65,
    }
    found = {text: known_values([sums], WEEK, KEY, at(text), "UTC", SIX)["f"] for text in seen}
    assert found == seen


def test_a_cancellation_takes_units_back_and_leaves_the_fact() -> None:
    cancelled = {**posting(5, "2025-05-06T00:00", 4, "b", sign=-1), "posting_kind": "cancellation"}
    ledger = [posting(5, "2025-05-05T13:00", 5, "b"), cancelled]
    features = [Feature("sum", "sum", "units", 7), Feature("n", "count", "units", 7), Feature("last", "last", "units")]

    def known(as_of: str, *kinds: str) -> list[Any]:
        return list(
            known_values(features, ledger, KEY, at(as_of), "UTC", SIX, ("version", "reversal", *kinds)).values()
        )

    assert known("2025-05-07T06:00", "cancellation") == [1, 1, 5]
    assert known("2025-05-07T06:00") == [5, 1, 5]
    assert known("2025-05-05T23:00", "cancellation") == [0, 0, 5]


def test_a_return_on_a_day_without_a_sale_makes_it_observed() -> None:
    returned = {**posting(6, "2025-05-06T13:00", 3, "r", sign=-1), "posting_kind": "return"}
    ledger = [posting(5, "2025-05-05T13:00", 5, "b"), returned]
    features = [
        Feature("mean", "mean", "units", 7, denominator="observed"),
        Feature("std", "std", "units", 7, denominator="observed"),
        Feature("min", "min", "units", 7),
        Feature("lag", "lag", "units", lag_days=4, denominator="observed"),
        Feature("n", "count", "units", 7),
    ]
    known = known_values(features, ledger, KEY, at("2025-05-10T06:00"), "UTC", SIX, (*FACT_KINDS, "return"))
    assert known == {"mean": 1.0, "std": 4.0, "min": -3, "lag": -3, "n": 1}
    without = known_values(features, ledger, KEY, at("2025-05-10T06:00"), "UTC", SIX)
    assert without == {"mean": 5.0, "std": 0.0, "min": 5, "lag": None, "n": 1}


def test_the_last_value_prefers_event_time_then_knowledge_then_the_fact() -> None:
    def value_of(*postings: dict[str, Any]) -> Any:
        return known_values([Feature("f", "last", "units")], postings, KEY, at("2025-05-10T06:00"), "UTC", SIX)["f"]

    assert value_of(posting(2, "2025-05-05T00:00", 1, "a"), posting(3, "2025-05-04T00:00", 2, "b")) == 2
    assert value_of(posting(2, "2025-05-05T00:00", 1, "a"), posting(2, "2025-05-04T00:00", 2, "b")) == 1
    assert value_of(posting(2, "2025-05-05T00:00", 1, "b"), posting(2, "2025-05-05T00:00", 2, "a")) == 1
    assert value_of(posting(2, "2025-05-05T00:00", 1, "a"), posting(3, "2025-05-04T00:00", None, "b")) is None
    assert value_of(posting(2, "2025-05-05T00:00", 1, "a"), posting(11, "2025-05-05T00:00", 2, "b")) == 1


@pytest.mark.parametrize(
    ("zone", "day", "cutoff", "instant"),
    [
        ("Europe/Berlin", date(2025, 3, 29), time(6), "2025-03-29T05:00"),
        ("Europe/Berlin", date(2025, 3, 30), time(6), "2025-03-30T04:00"),
        ("Europe/Berlin", date(2025, 3, 30), time(0), "2025-03-29T23:00"),
        ("Europe/Berlin", date(2025, 3, 30), time(2, 30), "2025-03-30T01:30"),  # Skipped: 03:30 summer time.
        ("Europe/Berlin", date(2025, 10, 26), time(2, 30), "2025-10-26T00:30"),  # Twice: the first.
        ("Europe/Berlin", date(2025, 10, 26), time(3), "2025-10-26T02:00"),
        ("America/New_York", date(2025, 3, 9), time(2), "2025-03-09T07:00"),
        ("America/New_York", date(2025, 3, 9), time(6), "2025-03-09T10:00"),
        ("America/New_York", date(2025, 11, 2), time(1, 59), "2025-11-02T05:59"),
        ("America/New_York", date(2025, 11, 2), time(0), "2025-11-02T04:00"),
        ("Asia/Tokyo", date(2025, 3, 30), time(0), "2025-03-29T15:00"),
        ("Asia/Kolkata", date(2025, 3, 30), time(5, 30), "2025-03-30T00:00"),
        ("Australia/Lord_Howe", date(2025, 10, 5), time(2, 15), "2025-10-04T15:45"),
        ("Australia/Lord_Howe", date(2025, 4, 6), time(1, 45), "2025-04-05T14:45"),
        ("Africa/Cairo", date(2025, 4, 25), time(0), "2025-04-24T22:00"),
    ],
)
def test_a_cutoff_on_a_day_of_changing_clocks(zone: str, day: date, cutoff: time, instant: str) -> None:
    assert cutoff_instant(day, zone, cutoff) == at(instant)
    assert origin_date(at(instant), zone, cutoff) == day
    assert origin_date(at(instant) - timedelta(microseconds=1), zone, cutoff) == day - timedelta(days=1)


def test_a_cutoff_is_the_platforms_in_every_zone() -> None:
    cutoffs = [time(0), time(0, 30), time(1, 30), time(2), time(2, 30), time(6), time(23, 45)]
    zones = sorted(name for name in available_timezones() if "/" in name and not name.startswith(("Etc", "right")))
    for zone in zones[::7]:
        for day in _changing_days(zone):
            for cutoff in cutoffs:
                assert cutoff_instant(day, zone, cutoff) == origin_instant(day, zone, cutoff), (zone, day, cutoff)


def _changing_days(zone: str) -> list[date]:
    noons = [datetime(2025, 1, 1, 12, tzinfo=UTC) + timedelta(days=n) for n in range(366)]
    offsets = [noon.astimezone(ZoneInfo(zone)).utcoffset() for noon in noons]
    found = [noons[0].date()]
    for n in range(1, len(noons)):
        if offsets[n] != offsets[n - 1]:
            found += [noons[n].date() + timedelta(days=days) for days in (-1, 0, 1)]
    return found


def _assert_both_agree(setting: Setting, features: tuple[Feature, ...], history: History) -> None:
    postings, zone, cutoff = ledger_of(history), setting.zone, setting.cutoff
    for key, as_of in history.spine:
        part = key[: setting.n_entity]
        first = known_values(features, postings, part, as_of, zone, cutoff, setting.kinds)
        second = true_values(features, history, part, as_of, zone, cutoff, setting.kinds)
        wrong = {name: (first[name], second[name]) for name in first if not is_same(first[name], second[name])}
        assert not wrong, wrong


@settings(max_examples=60, deadline=None)
@given(cases())
def test_postings_and_statements_tell_the_same(case: tuple[Setting, tuple[Feature, ...], History]) -> None:
    _assert_both_agree(*case)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_history_put_off_by_a_day_gives_the_values_of_a_day_later(shape: str) -> None:
    # In a zone without clock changes nothing depends on the date itself.
    chooser = Seeded(7)
    setting = Setting("Asia/Tokyo", "Asia/Tokyo", SIX, date(2025, 5, 5), shape, 10)
    features = [
        Feature("sum", "sum", "units", 7),
        Feature("mean", "mean", "units", 3, 1, denominator="since_first"),
        Feature("max", "max", "cents", 7),
        Feature("last", "last", "units", time_to_live_days=3),
    ]
    day = timedelta(days=1)
    for _ in range(40):
        history = draw_history(chooser, setting)
        before = postings_of(history.statements)
        after = [
            {**p, **{name: p[name] + day for name in ("event_date", "event_time", "knowledge_time")}} for p in before
        ]
        for key, as_of in history.spine:
            assert known_values(features, before, key, as_of, setting.zone, SIX) == known_values(
                features, after, key, as_of + day, setting.zone, SIX
            )


def test_nothing_that_becomes_known_later_changes_a_value() -> None:
    for seed in range(60):
        chooser = Seeded(seed)
        setting = draw_setting(chooser)
        features = [
            Feature("sum", "sum", "units", 28),
            Feature("min", "min", "units", 7),
            Feature("l", "last", "cents"),
        ]
        history = draw_history(chooser, setting)
        for key, as_of in history.spine:
            known = [s for s in history.statements if s.knowledge_time <= as_of]
            answers = [
                known_values(features, postings_of(told), key, as_of, setting.zone, setting.cutoff)
                for told in (known, history.statements)
            ]
            assert answers[0] == answers[1]


@pytest.mark.parametrize("name", ["known_at", "true_at"])
def test_the_oracle_shares_nothing_with_what_it_judges(name: str) -> None:
    tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
    imported = {
        module
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in ([a.name for a in node.names] if isinstance(node, ast.Import) else [str(node.module)])
    }
    own = {"tests.oracle.known_at", "tests.oracle.histories"}
    assert {module.split(".")[0] for module in imported - own} <= sys.stdlib_module_names
