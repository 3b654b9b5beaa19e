"""Drift episodes: when retraining is asked for, and that it is asked for once.

An episode opens at the first breach of a signal that may ask for retraining and closes after a quiet spell. Everything
follows from the scores alone, so any process that reads the same table asks for the same run, under the same key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from replenish.digests import json_digest

TRIGGER_SIGNALS = ("error",)
"""Inputs and predictions that move are shown and reported; retraining is worth its price once errors prove it."""

QUIET_DAYS = 10
"""So many days without a breach close an episode: a model that was retrained within days has calmed down by then."""

COOL_DOWN_DAYS = 14
"""A new request comes at the earliest so long after the last one; sooner there is hardly anything new to learn from."""


@dataclass(frozen=True)
class DriftEpisode:
    """One episode. `requested_on`: the day retraining is due, None while a cool-down holds."""

    episode_id: str
    opened_on: date
    last_breach_on: date
    requested_on: date | None
    subjects: tuple[str, ...]

    @property
    def run_key(self) -> str:
        """Idempotency key of the retraining run: one per episode."""
        return f"retrain-{self.episode_id}"


@dataclass(frozen=True)
class RetrainVerdict:
    """Whether retraining is due at an origin. `run_key` is the same for the whole episode."""

    is_due: bool
    episode_id: str | None
    run_key: str | None
    reason: str


def find_episodes(
    scores: pl.DataFrame,
    *,
    quiet_days: int = QUIET_DAYS,
    cool_down_days: int = COOL_DOWN_DAYS,
    signals: Sequence[str] = TRIGGER_SIGNALS,
) -> tuple[DriftEpisode, ...]:
    """All episodes in a history of scores, oldest first.

    Args:
        scores: Rows of `monitoring/drift`; read are `origin_date`, `signal`, `subject`, `is_breach`.
        quiet_days: Days without a breach after which an episode is over.
        cool_down_days: Least days between two requests.
        signals: Signals that open an episode.
    """
    breaches = scores.filter(pl.col("is_breach") & pl.col("signal").is_in(list(signals)))
    by_day = breaches.group_by("origin_date").agg(pl.col("subject").unique().sort()).sort("origin_date")
    episodes: list[DriftEpisode] = []
    last_request: date | None = None
    for day, subjects in by_day.iter_rows():
        current = episodes[-1] if episodes else None
        is_same = current is not None and (day - current.last_breach_on).days <= quiet_days
        opened = current.opened_on if current is not None and is_same else day
        names = current.subjects if current is not None and is_same else tuple(subjects)
        requested = current.requested_on if current is not None and is_same else None
        if requested is None and (last_request is None or day >= last_request + timedelta(days=cool_down_days)):
            requested = last_request = day
        identity = json_digest(["drift", opened.isoformat(), list(names)])[:16]
        episode = DriftEpisode(identity, opened, day, requested, names)
        episodes[-1 if is_same else len(episodes) :] = [episode]
    return tuple(episodes)


def judge_episode(
    scores: pl.DataFrame,
    origin: date | None = None,
    *,
    last_request: str | None = None,
    quiet_days: int = QUIET_DAYS,
    cool_down_days: int = COOL_DOWN_DAYS,
    signals: Sequence[str] = TRIGGER_SIGNALS,
) -> RetrainVerdict:
    """Whether retraining is due at an origin, as the scores up to it say.

    It stays due, under one key, until the episode is over: a process that was down on the first day still asks, and
    one that asks every day starts one run.

    Args:
        scores: Rows of `monitoring/drift`.
        origin: Scores after it are not looked at; None = the newest origin in `scores`.
        last_request: Episode that was asked for already, where the caller remembers it: it is not due again.
        quiet_days: See `find_episodes`; so are `cool_down_days` and `signals`.
    """
    newest = origin or scores.get_column("origin_date").max()
    if not isinstance(newest, date):
        return RetrainVerdict(False, None, None, "no drift scores yet")
    known = scores.filter(pl.col("origin_date") <= newest)
    episodes = find_episodes(known, quiet_days=quiet_days, cool_down_days=cool_down_days, signals=signals)
    if not episodes or (newest - episodes[-1].last_breach_on).days > quiet_days:
        return RetrainVerdict(False, None, None, "no drift episode is open")
    episode = episodes[-1]
    what = f"episode {episode.episode_id} is open since {episode.opened_on} ({', '.join(episode.subjects)})"
    if episode.requested_on is None:
        return RetrainVerdict(False, episode.episode_id, episode.run_key, f"{what}; the cool-down holds")
    if last_request in (episode.episode_id, episode.run_key):
        return RetrainVerdict(False, episode.episode_id, episode.run_key, f"{what}; retraining was asked for")
    return RetrainVerdict(True, episode.episode_id, episode.run_key, what)
