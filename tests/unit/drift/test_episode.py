"""Episodes: one request each, none during a cool-down, the same answer from whoever asks."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from replenish.drift.episode import COOL_DOWN_DAYS, QUIET_DAYS, find_episodes, judge_episode

FIRST = date(2025, 1, 1)


def scores(breach_days: list[int], n_days: int = 120, signal: str = "error", subject: str = "C1") -> pl.DataFrame:
    rows = [(FIRST + timedelta(days=n), signal, subject, n in set(breach_days)) for n in range(n_days)]
    return pl.DataFrame(rows, schema=["origin_date", "signal", "subject", "is_breach"], orient="row")


def day(n: int) -> date:
    return FIRST + timedelta(days=n)


def test_no_breach_asks_for_nothing() -> None:
    verdict = judge_episode(scores([]))
    assert (verdict.is_due, verdict.run_key) == (False, None)


def test_no_scores_at_all_ask_for_nothing() -> None:
    assert not judge_episode(scores([], n_days=0)).is_due


def test_a_breach_asks_at_once_and_under_one_key_for_the_whole_episode() -> None:
    table = scores([40, 41, 43])
    keys = {judge_episode(table, day(n)).run_key for n in range(40, 50)}
    assert len(keys) == 1 and judge_episode(table, day(40)).is_due
    assert not judge_episode(table, day(39)).is_due


def test_an_episode_that_was_asked_for_is_not_asked_for_again() -> None:
    table = scores([40, 41])
    verdict = judge_episode(table, day(41))
    assert not judge_episode(table, day(41), last_request=verdict.episode_id).is_due


def test_an_episode_closes_after_a_quiet_spell() -> None:
    table = scores([40])
    assert judge_episode(table, day(40 + QUIET_DAYS)).is_due
    assert not judge_episode(table, day(41 + QUIET_DAYS)).is_due


def test_a_second_category_in_the_same_days_joins_the_episode() -> None:
    table = pl.concat([scores([40, 41]), scores([42, 43], subject="C2")])
    assert len(find_episodes(table)) == 1


def test_a_new_episode_within_the_cool_down_waits() -> None:
    second = 40 + QUIET_DAYS + 1
    assert second < 40 + COOL_DOWN_DAYS
    table = scores([40, second])
    episodes = find_episodes(table)
    assert [episode.requested_on for episode in episodes] == [day(40), None]
    assert not judge_episode(table, day(second)).is_due
    still_breached = scores([40, second, 40 + COOL_DOWN_DAYS])
    assert find_episodes(still_breached)[1].requested_on == day(40 + COOL_DOWN_DAYS)


def test_inputs_and_predictions_alone_ask_for_nothing() -> None:
    for signal in ("input", "prediction"):
        assert not judge_episode(scores([40], signal=signal), day(40)).is_due


@given(st.lists(st.integers(0, 119), max_size=40, unique=True))
def test_requests_keep_the_cool_down_and_no_episode_has_two(days: list[int]) -> None:
    episodes = find_episodes(scores(days))
    asked = [episode.requested_on for episode in episodes if episode.requested_on is not None]
    assert all((b - a).days >= COOL_DOWN_DAYS for a, b in pairwise(asked))
    assert len({episode.run_key for episode in episodes}) == len(episodes)
    assert bool(asked) == bool(days)


@given(st.lists(st.integers(0, 119), max_size=30, unique=True), st.integers(0, 119))
def test_what_was_asked_for_does_not_change_as_later_scores_arrive(days: list[int], cut: int) -> None:
    early = {e.run_key: e.requested_on for e in find_episodes(scores([d for d in days if d <= cut]))}
    late = {e.run_key: e.requested_on for e in find_episodes(scores(days))}
    assert all(late[key] == asked for key, asked in early.items() if asked is not None)
