"""Synthetic postings and spine rows for the as-of benchmark, from a seed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

FIRST_DAY = 20_089
"""1 January 2025, in days since 1970."""
N_DAYS = 365
SHARE_LATE, SHARE_CORRECTED, SHARE_MOVED, SHARE_RETRACTED = 0.20, 0.03, 0.01, 0.01

_HOUR_US, _DAY_US = 3_600_000_000, 86_400_000_000
_TIMESTAMP = pl.Datetime("us", "UTC")

_Ints = npt.NDArray[np.int64]


def known_time_postings(n_events: int, n_keys: int, seed: int, share_late: float = SHARE_LATE) -> pl.DataFrame:
    """A ledger in order of knowledge: `entity`, `fact_id`, clocks, posting columns, `units`.

    Of `n_events` facts a share, usually 20 %, are known up to ten days late, the others within the hour; 3 % are
    corrected, 1 % move to another event time and 1 % are retracted, up to twenty days after they were known. Each such
    change adds postings.
    """
    chance = np.random.default_rng(seed)
    fact = np.arange(n_events, dtype=np.int64)
    entity = chance.integers(0, n_keys, n_events)
    event = FIRST_DAY * _DAY_US + chance.integers(0, N_DAYS * _DAY_US, n_events)
    is_late = chance.random(n_events) < share_late
    known = event + np.where(
        is_late, chance.integers(_HOUR_US, 10 * _DAY_US, n_events), chance.integers(0, _HOUR_US, n_events)
    )
    units = chance.integers(0, 50, n_events)
    changed = known + chance.integers(_DAY_US, 20 * _DAY_US, n_events)
    moved = event + chance.integers(-3 * _DAY_US, 3 * _DAY_US, n_events)
    fate = chance.random(n_events)
    bounds = np.cumsum([SHARE_CORRECTED, SHARE_MOVED, SHARE_RETRACTED])
    corrected, mover = fate < bounds[0], (fate >= bounds[0]) & (fate < bounds[1])
    ended = fate < bounds[2]
    parts = [
        _postings(1, 1, fact, entity, event, known, units),
        _postings(-1, 1, *(column[ended] for column in (fact, entity, event, changed, units))),
        _postings(1, 2, *(column[corrected] for column in (fact, entity, event, changed, units + 1))),
        _postings(1, 2, *(column[mover] for column in (fact, entity, moved, changed, units))),
    ]
    return pl.concat(parts).sort("knowledge_time")


def _postings(
    sign: int, version_nr: int, fact: _Ints, entity: _Ints, event: _Ints, known: _Ints, units: _Ints
) -> pl.DataFrame:
    frame = pl.DataFrame(
        {"entity": entity, "fact_id": fact, "event_time": event, "knowledge_time": known, "units": units}
    )
    return frame.with_columns(
        pl.col("event_time", "knowledge_time").cast(_TIMESTAMP),
        event_date=pl.col("event_time").cast(_TIMESTAMP).dt.date(),
        posting_sign=pl.lit(sign, pl.Int32),
        posting_kind=pl.lit("version" if sign > 0 else "reversal"),
        version_nr=pl.lit(version_nr, pl.Int32),
    )


def known_time_spine(n_rows: int, n_keys: int, seed: int) -> pl.DataFrame:
    """Rows (`row_nr`, `entity`, `as_of`) at any instants after the first thirty days, in random order."""
    chance = np.random.default_rng(seed + 1)
    first = (FIRST_DAY + 30) * _DAY_US
    as_of = chance.integers(first, (FIRST_DAY + N_DAYS) * _DAY_US, n_rows)
    frame = pl.DataFrame({"row_nr": np.arange(n_rows), "entity": chance.integers(0, n_keys, n_rows), "as_of": as_of})
    return frame.with_columns(pl.col("as_of").cast(_TIMESTAMP))
