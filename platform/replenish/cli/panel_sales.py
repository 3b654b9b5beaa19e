"""Synthetic sales for the panel benchmark, intermittent as those of the M5 competition, from a seed."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl

FIRST_DAY, N_DAYS = date(2011, 1, 29), 1_941
"""Those of M5."""
SHARE_LATE, SHARE_CORRECTED, SHARE_RETRACTED = 0.05, 0.01, 0.01


def panel_sales(first: int, n_series: int, seed: int, *, is_late: bool) -> pl.DataFrame:
    """The daily sums of series `first .. first + n_series - 1`, in order of series: about two thirds are 0.

    Args:
        first: Number of the first series; a series' sales depend on the block that it is drawn in.
        n_series: How many.
        seed: Of all series.
        is_late: Whether 5 % of the rows become known up to ten days late, and up to thirty days later 1 % are corrected
            and 1 % retracted by further rows; otherwise each row is known the day after.

    Returns:
        `series`, `event_date`, `knowledge_date`, `units`, `lines`: increments, as gold has them.
    """
    chance = np.random.default_rng([seed, first])
    rate = chance.lognormal(-0.3, 1.1, (n_series, 1))
    is_selling = chance.random((n_series, N_DAYS)) < np.clip(rate / (rate + 1.7), 0.03, 0.95)
    units = np.where(is_selling, 1 + chance.poisson(rate, (n_series, N_DAYS)), 0).astype(np.int32).reshape(-1)
    series = np.repeat(np.arange(first, first + n_series, dtype=np.int32), N_DAYS)
    day = np.tile(np.arange(N_DAYS, dtype=np.int32) + (FIRST_DAY - date(1970, 1, 1)).days, n_series)
    known = day + 1
    columns = [series, day, known, units, np.ones(len(units), dtype=np.int32)]
    if is_late:
        known += np.where(chance.random(len(day)) < SHARE_LATE, chance.integers(1, 11, len(day)), 0).astype(np.int32)
        fate = chance.random(len(day))
        changed = np.flatnonzero(fate < SHARE_CORRECTED + SHARE_RETRACTED)
        is_retracted = fate[changed] < SHARE_RETRACTED
        again = known[changed] + chance.integers(1, 31, len(changed)).astype(np.int32)
        delta = np.where(is_retracted, -units[changed], 1).astype(np.int32)
        more = [series[changed], day[changed], again, delta, -is_retracted.astype(np.int32)]
        columns = [np.concatenate(both) for both in zip(columns, more, strict=True)]
        order = np.argsort(columns[0], kind="stable")
        columns = [column[order] for column in columns]
    names = ("series", "event_date", "knowledge_date", "units", "lines")
    frame = pl.DataFrame(dict(zip(names, columns, strict=True)))
    return frame.with_columns(pl.col("event_date", "knowledge_date").cast(pl.Date))
