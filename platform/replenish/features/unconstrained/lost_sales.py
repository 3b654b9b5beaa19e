"""Lost sales: what is estimated beyond the sales of sold-out days, as increments known at an origin.

Unconstrained demand is what was sold and what was lost. Both tables are increments by knowledge date, so one rule reads
them: sum what is known at an origin. A day is in the table because it is censored; how much of a sum is an estimate is
never hidden in it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, time, timedelta

import numpy as np
import polars as pl

from replenish.bitemporal_windows import IntArray
from replenish.contracts.dataset import Dataset
from replenish.contracts.profile import PERIOD_ANCHOR
from replenish.control.present_streams import has_stream
from replenish.errors import NotApplicable, StoreError
from replenish.features.censoring import censored_demand
from replenish.features.series import DEMAND_TABLE, SERIES_COLUMNS, BuildAxes, demand_changes, series_of
from replenish.features.unconstrained.known_days import KnownDays, Revision
from replenish.features.unconstrained.lost_windows import LOST_SALES_TABLE, WATERMARK
from replenish.stores.lake import DeltaLake, TableCommit, accept_all

_DEMAND_COLUMNS = (*SERIES_COLUMNS, "event_date", "knowledge_date", "units")
_EPOCH = date(1970, 1, 1)


def update_lost_sales(
    lake: DeltaLake,
    dataset: Dataset,
    audit: Callable[[pl.DataFrame], None] = accept_all,
    *,
    through: date | None = None,
) -> TableCommit:
    """Append what the origins since the last update see otherwise than those before them; rows there never change.

    Args:
        lake: Reads gold, writes `features/lost_sales`.
        dataset: Zone, cut-off and which streams there are.
        audit: Called on the rows before their commit.
        through: Newest origin; None = the newest knowledge date of demand.

    Raises:
        NotApplicable: Nobody counts stock, or no demand is known: then nothing says that a day was sold out.
        StoreError: The table holds rows of another estimator.
        AuditFailed: From `audit`; nothing is written.
    """
    if not (has_stream(dataset, "stock_counts", lake) and lake.has("gold/fct_stock")):
        raise NotApplicable("not_applicable: no stock counts say which days sold out", dataset=dataset.dataset_id)
    demand = lake.read(DEMAND_TABLE, columns=list(_DEMAND_COLUMNS))
    if demand.is_empty():
        raise NotApplicable("not_applicable: no demand is known", dataset=dataset.dataset_id)
    held = lake.read(LOST_SALES_TABLE) if lake.has(LOST_SALES_TABLE) else None
    done = None if held is None else lake.app_version(LOST_SALES_TABLE, WATERMARK)
    if held is not None and done is None:
        raise StoreError("made by another estimator; drop the table, and it is built anew", table=LOST_SALES_TABLE)
    first = demand.select(pl.col("knowledge_date").min()).item() if done is None else date.fromordinal(done + 1)
    last = through or demand.select(pl.col("knowledge_date").max()).item()
    if last < first:
        if held is None:
            raise NotApplicable("not_applicable: no demand was known then", dataset=dataset.dataset_id, through=last)
        return lake.state(LOST_SALES_TABLE)
    rows = lost_sales_increments(
        demand, lake.read("gold/fct_stock"), first, last, zone=dataset.zone, cutoff=dataset.cutoff, held=held
    )
    audit(rows)
    return lake.append(LOST_SALES_TABLE, rows, app=(WATERMARK, last.toordinal()))


def lost_sales_increments(
    demand: pl.DataFrame,
    stock: pl.DataFrame,
    first: date,
    last: date,
    *,
    zone: str,
    cutoff: time,
    held: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """What the origins `first` .. `last` see otherwise than the ones before them; rows known later have no influence.

    Args:
        demand: `gold/fct_demand`: series, `event_date`, `knowledge_date`, `units`.
        stock: `gold/fct_stock`.
        first: Oldest origin; without `held` it sees all of the history at once.
        last: Newest origin.
        zone: IANA zone of the deployment.
        cutoff: Cut-off of an origin, in `zone`.
        held: Rows of the origins before `first`.

    Returns:
        (sku_id, location_id, event_date, knowledge_date), sorted, with the increments `lost_milli` [thousandths of a
        unit] and `censored_days`. The days of an origin lie before it.
    """
    axes = BuildAxes(series_of(demand), 1, zone, cutoff)
    numbered = axes.numbered(demand)
    censored = censored_demand(axes, numbered, stock)
    oldest = demand.select(pl.col("event_date").min()).item()
    if censored is None or not isinstance(oldest, date):
        return _frame(axes, [])
    begin, end = _day_number(oldest), _day_number(last)
    # Nothing was sold before the first sale, so a day that sold out before it says nothing.
    sold_out = censored.days.where(censored.days.event >= begin)
    days = KnownDays(demand_changes(axes, numbered, "units"), sold_out, axes.n_series, begin, end)
    if held is not None:
        days.resume(_day_number(first) - 1, _revision(axes, known_lost_sales(held, first - timedelta(days=1))))
    origins = range(max(_day_number(first), begin), end + 1)
    return _frame(axes, [(origin, days.advance(origin)) for origin in origins])


def known_lost_sales(rows: pl.DataFrame, origin: date) -> pl.DataFrame:
    """Lost sales as an origin knows them: (sku_id, location_id, event_date), `lost_milli`, `censored_days` (1)."""
    known = rows.filter(pl.col("knowledge_date") <= origin)
    sums = known.group_by(*SERIES_COLUMNS, "event_date").agg(pl.col("lost_milli", "censored_days").sum())
    return sums.filter((pl.col("lost_milli") != 0) | (pl.col("censored_days") != 0)).sort(*SERIES_COLUMNS, "event_date")


def _revision(axes: BuildAxes, known: pl.DataFrame) -> Revision:
    rows = axes.numbered(known).with_columns(day=axes.event_period("event_date"))
    return Revision(*(rows[name].to_numpy() for name in ("series", "day", "lost_milli", "censored_days")))


def _frame(axes: BuildAxes, revisions: list[tuple[int, Revision]]) -> pl.DataFrame:
    frames = [
        axes.series[revision.series].with_columns(
            _dates(revision.day).alias("event_date"),
            _dates(np.full(revision.day.size, origin, dtype=np.int64)).alias("knowledge_date"),
            pl.Series("lost_milli", revision.lost_milli),
            pl.Series("censored_days", revision.censored),
        )
        for origin, revision in revisions
        if revision.day.size
    ]
    nothing = axes.series.clear().with_columns(
        *(pl.lit(None, pl.Date).alias(name) for name in ("event_date", "knowledge_date")),
        *(pl.lit(None, pl.Int64).alias(name) for name in ("lost_milli", "censored_days")),
    )
    return pl.concat([nothing, *frames]).sort(*SERIES_COLUMNS, "event_date", "knowledge_date")


def _day_number(day: date) -> int:
    return (day - PERIOD_ANCHOR).days


def _dates(numbers: IntArray) -> pl.Series:
    return pl.Series(numbers + (PERIOD_ANCHOR - _EPOCH).days, dtype=pl.Int32).cast(pl.Date)
