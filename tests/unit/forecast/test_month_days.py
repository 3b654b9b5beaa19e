from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from replenish.forecast.month_days import MIN_DAYS, month_days_of_panel
from replenish.forecast.panel import DemandPanel

KNOWN_AT = date(2016, 1, 1)
N_DAYS = 1200
DAYS = [KNOWN_AT - timedelta(days=N_DAYS - n) for n in range(N_DAYS)]


def panel(units: np.ndarray) -> DemandPanel:
    keys = pl.DataFrame({"sku_id": ["A"], "location_id": ["S"]})
    shaped = units.reshape(1, -1)
    return DemandPanel(keys, KNOWN_AT, 1, shaped, np.zeros(shaped.shape, dtype=np.bool_))


def index_at(units: np.ndarray, origin: date) -> np.ndarray:
    row = pl.DataFrame({"sku_id": ["A"], "location_id": ["S"], "origin_date": [origin]})
    return month_days_of_panel(panel(units), row)[0]


def payday_units() -> np.ndarray:
    weekdays = np.array([100 + 20 * day.weekday() for day in DAYS])
    return np.where(np.array([day.day for day in DAYS]) == 1, weekdays * 3 // 2, weekdays).astype(np.int64)


def test_a_payday_shows_and_other_days_are_usual():
    found = index_at(payday_units(), KNOWN_AT)
    assert found[0] == pytest.approx(1.5, abs=0.03)
    # The days a whole number of weeks from a payday have it among their neighbours.
    assert found[1:] == pytest.approx(np.ones(30), abs=0.08)


def test_what_happens_after_an_origin_does_not_change_its_index():
    units, origin = payday_units(), KNOWN_AT - timedelta(days=200)
    later = units.copy()
    later[-200:] = 7
    assert (index_at(later, origin) == index_at(units, origin)).all()


def test_a_series_younger_than_two_years_has_no_index():
    units = payday_units()
    units[: N_DAYS - MIN_DAYS + 1] = 0
    assert np.isnan(index_at(units, KNOWN_AT)).all()


def test_one_absurd_day_leaves_the_index_as_it_was():
    units = payday_units()
    spoilt = units.copy()
    spoilt[600] = 90_000
    assert index_at(spoilt, KNOWN_AT) == pytest.approx(index_at(units, KNOWN_AT), abs=0.02)
