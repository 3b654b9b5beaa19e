"""Holidays by rule, for profiles that declare a calendar: which one is near a target day, and how near.

The calendar contract knows no holidays, and the rules of these have not changed in the years forecast here; what is
computed from them is known at every origin.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl

from replenish.errors import OutOfRange

FloatArray = npt.NDArray[np.float64]

DAYS_BEFORE, DAYS_AFTER = 7, 3
"""A holiday is shopped for in the week before it and has passed three days after it."""

EASTER_REACH = (-15, 30)
"""Days from Easter at which it is counted: from Lent's shopping to the weeks after."""

MONDAY, THURSDAY, SUNDAY = 0, 3, 6


def easter(year: int) -> date:
    """Easter Sunday of the Gregorian calendar.

    Source: Meeus, Astronomical Algorithms, 2nd edition, chapter 8 (the anonymous algorithm of Nature, 1876).

    >>> easter(2016)
    datetime.date(2016, 3, 27)
    """
    century, of_century = divmod(year, 100)
    golden = year % 19
    moon = (19 * golden + century - century // 4 - (century - (century + 8) // 25 + 1) // 3 + 15) % 30
    sunday = (32 + 2 * (century % 4) + 2 * (of_century // 4) - moon - of_century % 4) % 7
    month, day = divmod(moon + sunday - 7 * ((golden + 11 * moon + 22 * sunday) // 451) + 114, 31)
    return date(year, month, day + 1)


def nth_weekday(year: int, month: int, weekday: int, nth: int) -> date:
    """The nth such weekday of a month (Monday is 0), counted from its end where nth is negative.

    >>> nth_weekday(2016, 5, MONDAY, -1)
    datetime.date(2016, 5, 30)
    """
    if nth > 0:
        first = date(year, month, 1)
        return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (nth - 1))
    last = date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - weekday) % 7 - 7 * (nth + 1))


US_HOLIDAYS: tuple[Callable[[int], date], ...] = (
    lambda year: date(year, 1, 1),
    lambda year: nth_weekday(year, 1, MONDAY, 3),  # Martin Luther King Day
    lambda year: date(year, 2, 14),  # Valentine's Day
    lambda year: nth_weekday(year, 2, MONDAY, 3),  # Presidents' Day
    easter,
    lambda year: nth_weekday(year, 5, SUNDAY, 2),  # Mother's Day
    lambda year: nth_weekday(year, 5, MONDAY, -1),  # Memorial Day
    lambda year: nth_weekday(year, 6, SUNDAY, 3),  # Father's Day
    lambda year: date(year, 7, 4),
    lambda year: nth_weekday(year, 9, MONDAY, 1),  # Labor Day
    lambda year: date(year, 10, 31),  # Halloween
    lambda year: nth_weekday(year, 11, THURSDAY, 4),  # Thanksgiving
    lambda year: date(year, 12, 25),
)
"""In the order of the year; a holiday's place here is its code. Source: 5 U.S.C. 6103, and custom for the others."""

CALENDARS = {"us": US_HOLIDAYS}


def holiday_columns(calendar: str, days: pl.Series) -> dict[str, FloatArray]:
    """Numbers about the holidays around each day; NaN where none is near.

    Returns:
        `days_to_holiday` and `next_holiday` (its code) within `DAYS_BEFORE`, `days_since_holiday` and `last_holiday`
        within `DAYS_AFTER`, and `days_since_easter` within `EASTER_REACH` (negative before it).

    Raises:
        OutOfRange: No such calendar.
    """
    if calendar not in CALENDARS:
        raise OutOfRange("no such holiday calendar", name=calendar, known=sorted(CALENDARS))
    rows = {day: _near(calendar, day) for day in days.unique().to_list()}
    table = np.array([rows[day] for day in days.to_list()], dtype=np.float64).reshape(-1, 5)
    names = ("days_to_holiday", "next_holiday", "days_since_holiday", "last_holiday", "days_since_easter")
    return {name: table[:, place] for place, name in enumerate(names)}


def _near(calendar: str, day: date) -> tuple[float, float, float, float, float]:
    missing = float("nan")
    holidays = [found for year in (day.year - 1, day.year, day.year + 1) for found in _of_year(calendar, year)]
    to_next, code_next = min(((found - day).days, code) for found, code in holidays if found >= day)
    since, code_last = min(((day - found).days, code) for found, code in holidays if found < day)
    since_easter = (day - easter(day.year)).days
    first, last = EASTER_REACH
    return (
        *((float(to_next), float(code_next)) if to_next <= DAYS_BEFORE else (missing, missing)),
        *((float(since), float(code_last)) if since <= DAYS_AFTER else (missing, missing)),
        float(since_easter) if first <= since_easter <= last else missing,
    )


@lru_cache(maxsize=64)
def _of_year(calendar: str, year: int) -> tuple[tuple[date, int], ...]:
    return tuple((rule(year), code) for code, rule in enumerate(CALENDARS[calendar]))
