"""Planned prices read ahead, for days of the target: what the forecast reads, against plain loops over all postings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from replenish.forecast.planned_prices import planned_prices
from tests.oracle.frames import ENTITY, ledger_frame, ledger_rows, price_frame
from tests.oracle.histories import Entity, History, Seeded, Setting, draw_history, draw_setting, ledger_of
from tests.oracle.known_at import Posting, cutoff_instant

SEEDS = range(40)
N_HISTORIES = 12
STEPS = (1, 2, 3, 5, 9)
Plan = dict[str, Any]
Reader = Callable[[pl.DataFrame, pl.DataFrame, Sequence[int], int], tuple[np.ndarray, np.ndarray]]


def planned_at(postings: Sequence[Posting], key: Entity, as_of: datetime, day: date) -> Plan | None:
    """What the newest price that begins on a day or before it says, among those that stand at an instant."""
    visible = [p for p in postings if p["key"] == key and p["knowledge_time"] <= as_of]
    taken_back = {(p["fact"], p["version_nr"]) for p in visible if p["posting_kind"] == "reversal"}
    stands = [
        p
        for p in visible
        if p["posting_kind"] == "version" and (p["fact"], p["version_nr"]) not in taken_back and p["event_date"] <= day
    ]
    newest = max(stands, key=lambda p: (p["event_date"], p["event_time"]), default=None)
    return None if newest is None else dict(newest["values"])


def drawn(seed: int) -> tuple[Setting, list[History]]:
    """Histories of prices: entity and event time are the fact key."""
    chooser = Seeded(seed)
    setting = replace(draw_setting(chooser), shape="timed")
    return setting, [draw_history(chooser, setting, number) for number in range(N_HISTORIES)]


def wrong_plans(seed: int, reader: Reader) -> tuple[int, list[object]]:
    """How many values a reader was asked for, and those on which it and the loops differ."""
    setting, histories = drawn(seed)
    ledger = ledger_frame([row for history in histories for row in ledger_rows(history, setting)])
    days = range(-1, setting.n_days + 6, max(1, setting.n_days // 8))
    origins = [setting.first_day + timedelta(days=day) for day in days]
    keys = [(ledger_of(history), key) for history in histories for key in sorted({key for key, _ in history.spine})]
    asked = [(postings, key, origin) for postings, key in keys for origin in origins]
    rows = pl.DataFrame([(*key, day) for _, key, day in asked], schema=[*ENTITY, "origin_date"], orient="row")
    period_days = 7 if seed % 3 == 0 else 1
    prices, promotions = reader(price_frame(ledger), rows, STEPS, period_days)
    wrong: list[object] = []
    for row, (postings, key, origin) in enumerate(asked):
        as_of = cutoff_instant(origin, setting.zone, setting.cutoff)
        for place, step in enumerate(STEPS):
            plan = planned_at(postings, key, as_of, origin + timedelta(days=(step - 1) * period_days))
            expected = (plan["cents"], plan["is_promotion"]) if plan else (None, None)
            found = (prices[row, place], promotions[row, place])
            if not all(np.isnan(f) if e is None else f == float(e) for f, e in zip(found, expected, strict=True)):
                wrong.append((key, origin, step, expected, found))
    return rows.height * len(STEPS) * 2, wrong


def test_planned_prices_are_those_known_at_the_origin() -> None:
    n_values = 0
    for seed in SEEDS:
        n_asked, wrong = wrong_plans(seed, planned_prices)
        assert not wrong, (seed, wrong[:3])
        n_values += n_asked
    assert n_values > 50_000


def known_whenever(prices: pl.DataFrame, rows: pl.DataFrame, steps: Sequence[int], period: int) -> Any:
    """The leak: plans that become known only after the origin count too."""
    return planned_prices(prices.with_columns(knowledge_date=pl.lit(date(1990, 1, 1))), rows, steps, period)


def never_withdrawn(prices: pl.DataFrame, rows: pl.DataFrame, steps: Sequence[int], period: int) -> Any:
    """Plans stay once they are known."""
    return planned_prices(prices.filter(pl.col("posting_kind") != "reversal"), rows, steps, period)


def of_the_origin(prices: pl.DataFrame, rows: pl.DataFrame, steps: Sequence[int], period: int) -> Any:
    """Every step has the price of the first."""
    return planned_prices(prices, rows, [1] * len(steps), period)


def known_by_event_date(prices: pl.DataFrame, rows: pl.DataFrame, steps: Sequence[int], period: int) -> Any:
    """A price is known on the day from which it holds."""
    return planned_prices(prices.with_columns(knowledge_date="event_date"), rows, steps, period)


def a_day_early(prices: pl.DataFrame, rows: pl.DataFrame, steps: Sequence[int], period: int) -> Any:
    """What becomes known by the next cut-off is known already."""
    return planned_prices(prices.with_columns(pl.col("knowledge_date").dt.offset_by("-1d")), rows, steps, period)


FAULTS = (known_whenever, never_withdrawn, of_the_origin, known_by_event_date, a_day_early)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_faulty_reader_of_plans_is_seen(fault: Reader) -> None:
    assert any(wrong_plans(seed, fault)[1] for seed in SEEDS), fault.__doc__
