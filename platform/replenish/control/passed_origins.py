"""Which origins may be built: those whose cut-off has passed. An origin's rows never change, so none is built early."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from replenish.bitemporal import origin_instant
from replenish.contracts.dataset import Dataset
from replenish.stores.lake import DeltaLake


def newest_passed_origin(now: datetime, zone: str, cutoff: time) -> date:
    """The newest origin date whose cut-off is not after an instant.

    >>> newest_passed_origin(datetime.fromisoformat("2025-02-04T05:59:00+01:00"), "Europe/Berlin", time(6))
    datetime.date(2025, 2, 3)
    """
    day = now.astimezone(ZoneInfo(zone)).date()
    while origin_instant(day, zone, cutoff) > now:
        day -= timedelta(days=1)
    return day


def newest_origin_to_build(lake: DeltaLake, dataset: Dataset, now: datetime, wanted: date | None = None) -> date | None:
    """The origin that unpartitioned feature tables are built up to; None where no demand is known.

    What arrives after a cut-off is known at the next one. That one waits until it has passed: what comes up to then
    belongs to it too.

    Args:
        lake: Holds `gold/fct_demand`.
        dataset: Zone and cut-off.
        now: The present instant, with an offset.
        wanted: The origin of the run; None = the newest that knows anything new.
    """
    if wanted is None:
        known = lake.scan("gold/fct_demand").select(pl.col("knowledge_date").max()).collect().item()
        if not isinstance(known, date):
            return None
        wanted = known
    return min(wanted, newest_passed_origin(now, dataset.zone, dataset.cutoff))
