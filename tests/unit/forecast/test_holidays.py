from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replenish.errors import OutOfRange
from replenish.forecast.holidays import DAYS_BEFORE, US_HOLIDAYS, easter, holiday_columns, nth_weekday


def columns(*days: date) -> dict[str, np.ndarray]:
    return holiday_columns("us", pl.Series(days))


@pytest.mark.parametrize(
    "day", [date(1943, 4, 25), date(2000, 4, 23), date(2008, 3, 23), date(2016, 3, 27), date(2038, 4, 25)]
)
def test_easter_falls_on_its_known_dates(day):
    assert easter(day.year) == day


@given(st.integers(1900, 2100))
def test_holidays_of_a_year_ascend_so_that_a_code_is_a_place_in_the_year(year):
    days = [rule(year) for rule in US_HOLIDAYS]
    # Valentine's Day may follow Presidents' Day no more than by a day or so: only those two can be out of order.
    assert days[:2] + days[4:] == sorted(days[:2] + days[4:])
    assert all(day.year == year for day in days)


@given(st.integers(1990, 2100), st.integers(1, 12), st.integers(0, 6), st.integers(1, 4))
def test_the_nth_weekday_is_in_its_week_of_the_month(year, month, weekday, nth):
    day = nth_weekday(year, month, weekday, nth)
    assert (day.month, day.weekday(), (day.day - 1) // 7 + 1) == (month, weekday, nth)
    last = nth_weekday(year, month, weekday, -1)
    assert last.month == month
    assert (last + timedelta(days=7)).month != month


def test_a_holiday_is_near_in_the_week_before_it_and_on_the_day():
    thanksgiving = date(2015, 11, 26)
    found = columns(*(thanksgiving - timedelta(days=n) for n in range(DAYS_BEFORE + 2)))
    assert found["days_to_holiday"][:-1].tolist() == list(range(DAYS_BEFORE + 1))
    assert len(set(found["next_holiday"][:-1])) == 1
    assert np.isnan(found["days_to_holiday"][-1])


def test_days_after_a_holiday_know_it_across_the_year():
    found = columns(date(2016, 1, 2), date(2015, 12, 26), date(2015, 12, 29))
    assert found["last_holiday"][:2].tolist() == [0.0, len(US_HOLIDAYS) - 1.0]
    assert np.isnan(found["last_holiday"][2])


def test_an_unknown_calendar_is_refused():
    with pytest.raises(OutOfRange):
        holiday_columns("mars", pl.Series([date(2020, 1, 1)]))
