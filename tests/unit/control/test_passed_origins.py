"""No origin is built before its cut-off: what arrives up to then belongs to it."""

from __future__ import annotations

from datetime import date, datetime, time
from pathlib import Path

import polars as pl
import pytest

from replenish.contracts.dataset import Dataset
from replenish.control.passed_origins import newest_origin_to_build, newest_passed_origin
from replenish.stores.lake import DeltaLake

SHOP = Dataset("shop", "Europe/Berlin", time(6), "demo", None, ())
NOON = datetime.fromisoformat("2025-06-02T12:00:00+02:00")


@pytest.mark.parametrize(
    ("now", "origin"),
    [
        ("2025-06-02T06:00:00+02:00", date(2025, 6, 2)),
        ("2025-06-02T05:59:59+02:00", date(2025, 6, 1)),
        ("2025-06-02T23:30:00+00:00", date(2025, 6, 2)),
        # The day on which the clocks go forward, an hour after midnight of UTC.
        ("2025-03-30T03:59:59+00:00", date(2025, 3, 29)),
        ("2025-03-30T04:00:00+00:00", date(2025, 3, 30)),
    ],
)
def test_an_origin_has_passed_with_its_cutoff(now: str, origin: date) -> None:
    assert newest_passed_origin(datetime.fromisoformat(now), "Europe/Berlin", time(6)) == origin


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    lake = DeltaLake(tmp_path)
    # Sales of this morning, taken in at noon: the next cut-off knows them.
    lake.overwrite("gold/fct_demand", pl.DataFrame({"knowledge_date": [date(2025, 6, 2), date(2025, 6, 3)]}))
    return lake


def test_tomorrows_origin_waits_for_its_cutoff(lake: DeltaLake) -> None:
    assert newest_origin_to_build(lake, SHOP, NOON) == date(2025, 6, 2)
    assert newest_origin_to_build(lake, SHOP, NOON, wanted=date(2025, 6, 3)) == date(2025, 6, 2)
    next_noon = datetime.fromisoformat("2025-06-03T12:00:00+02:00")
    assert newest_origin_to_build(lake, SHOP, next_noon) == date(2025, 6, 3)


def test_no_origin_without_news_and_none_without_demand(lake: DeltaLake) -> None:
    assert newest_origin_to_build(lake, SHOP, datetime.fromisoformat("2026-01-01T00:00:00+00:00")) == date(2025, 6, 3)
    lake.overwrite("gold/fct_demand", lake.read("gold/fct_demand").clear())
    assert newest_origin_to_build(lake, SHOP, NOON) is None
