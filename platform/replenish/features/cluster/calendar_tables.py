"""Cut-off instants as tables: computed here once, so that no engine's own time-zone rules are trusted.

Every engine carries its own edition of the time-zone database and its own rule for wall times that a clock change skips
or repeats. Two tables with a few thousand rows say the same to all.
"""

from __future__ import annotations

from datetime import time
from typing import NamedTuple

import numpy as np
import polars as pl

from replenish.features.offline.query_axis import DAY_US, CutoffCalendar

ORIGIN_SPANS = "cutoff_spans"
"""Table: `utc_day`, `origin_day`, `starts_us`, `ends_us`; `origin_day` is t for the instants of [starts_us, ends_us).
A span stands once for every UTC day that it touches, so that it is found by equality."""

CUTOFF_DAYS = "cutoff_days"
"""Table: `origin_day`, `starts_us`: the cut-off instant of every day between `first_day` and `last_day`."""


class CalendarTables(NamedTuple):
    """The two tables and what they cover; days are days since 1970-01-01, instants microseconds UTC."""

    spans: pl.DataFrame
    days: pl.DataFrame
    first_day: int
    """Its cut-off is not after `oldest`."""
    last_day: int
    """Its cut-off is after `newest`."""
    oldest: int
    newest: int


def calendar_tables(oldest: int, newest: int, zone: str, cutoff: time) -> CalendarTables:
    """The tables for instants `oldest .. newest` [us].

    Of days whose cut-offs fall on one instant (a date that never was) the newest counts, as everywhere.
    """
    calendar = CutoffCalendar.around(oldest, newest, zone, cutoff)
    starts = calendar.instants
    day = np.arange(calendar.first_day, calendar.first_day + len(starts), dtype=np.int64)
    spans = pl.DataFrame({"origin_day": day[:-1], "starts_us": starts[:-1], "ends_us": starts[1:]})
    spans = spans.filter(pl.col("starts_us") < pl.col("ends_us"))
    touched = pl.int_ranges(pl.col("starts_us") // DAY_US, (pl.col("ends_us") - 1) // DAY_US + 1)
    spans = spans.with_columns(utc_day=touched).explode("utc_day")
    return CalendarTables(
        spans.select("utc_day", "origin_day", "starts_us", "ends_us"),
        pl.DataFrame({"origin_day": day, "starts_us": starts}),
        first_day=int(day[0]),
        last_day=int(day[-1]),
        oldest=oldest,
        newest=newest,
    )
