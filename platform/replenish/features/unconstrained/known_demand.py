"""Unconstrained demand as known at an origin: days, windows for features, and rows for targets; always with the flag.

A day counts as sold out while the last stock count of that date known at the origin says that nothing was left. Days
without a count are taken as in stock. A shelf that was empty at noon and full at close is not seen as empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta

import numpy as np
import polars as pl

from replenish.bitemporal import live_versions, origin_instant
from replenish.bitemporal_windows import IntArray
from replenish.errors import OutOfRange
from replenish.features.series import SERIES_COLUMNS
from replenish.features.unconstrained.product_limit import REFERENCE_DAYS, BoolArray, unconstrained_milli
from replenish.units import MILLI

_KEY = list(SERIES_COLUMNS)


@dataclass(frozen=True, eq=False)
class UnconstrainedDays:
    """Days before an origin, as known at it; arrays of shape (n_series, n_days), the last column the day before."""

    series: pl.DataFrame
    """`sku_id, location_id`, one row a series, sorted."""
    origin: date
    units: IntArray
    """Sold, negative totals as 0."""
    milli: IntArray
    """Demand [thousandths of a unit]: sales, or more on sold-out days."""
    is_censored: BoolArray
    """The day closed without stock, so `milli` is an estimate."""

    @property
    def first_day(self) -> date:
        """Date of the first column."""
        return self.origin - timedelta(days=self.units.shape[1])


def unconstrained_days(
    demand: pl.DataFrame,
    stock: pl.DataFrame | None,
    series: pl.DataFrame,
    origin: date,
    n_days: int,
    *,
    zone: str,
    cutoff: time,
) -> UnconstrainedDays:
    """Demand of the `n_days` days before an origin; rows known later have no influence.

    Args:
        demand: `gold/fct_demand`: series, `event_date`, `knowledge_date`, `units`.
        stock: `gold/fct_stock`, or None where nobody counts: then no day is censored.
        series: `sku_id, location_id` of the series wanted.
        origin: Origin date.
        n_days: At least 1.
        zone: IANA zone of the deployment.
        cutoff: Cut-off of an origin, in `zone`.

    Raises:
        OutOfRange: `n_days` is less than 1.
    """
    if n_days < 1:
        raise OutOfRange("a window has at least one day", n_days=n_days)
    wanted = series.select(_KEY).unique().sort(_KEY)
    placed = wanted.with_row_index("_row")
    width = n_days + REFERENCE_DAYS
    first = origin - timedelta(days=width)
    known = demand.filter((pl.col("knowledge_date") <= origin) & (pl.col("event_date") < origin))
    known = known.join(placed, on=_KEY, how="inner").with_columns(_day=(pl.col("event_date") - first).dt.total_days())
    units = np.zeros((wanted.height, width), dtype=np.int64)
    inside = known.filter(pl.col("_day") >= 0)
    np.add.at(units, (inside["_row"].to_numpy(), inside["_day"].to_numpy()), inside["units"].to_numpy())
    units = np.maximum(units, 0)
    censored = np.zeros(units.shape, dtype=np.bool_)
    if stock is not None:
        empty = _sold_out_days(stock, origin, first, zone, cutoff).join(placed, on=_KEY, how="inner")
        censored[empty["_row"].to_numpy(), (empty["event_date"] - first).dt.total_days().to_numpy()] = True
    begun = np.arange(width) >= _first_days(known, wanted.height, width)[:, None]
    milli = unconstrained_milli(units, censored & begun, begun, first.weekday())
    kept = slice(REFERENCE_DAYS, None)
    return UnconstrainedDays(wanted, origin, units[:, kept], milli[:, kept], censored[:, kept])


def unconstrained_features(days: Iterable[UnconstrainedDays], windows: Sequence[int]) -> pl.DataFrame:
    """Windows of unconstrained demand at origins, each with the share of it that is an estimate.

    Args:
        days: One per origin, each at least as long as the longest window.
        windows: Lengths [days].

    Returns:
        (sku_id, location_id, origin_date) with, per window: `unconstrained_milli_sum__<w>`, `censored_days__<w>` and
        `estimated_milli_sum__<w>`, the part of the sum that nobody sold.
    """
    frames = []
    for each in days:
        columns = []
        for window in windows:
            if window > each.units.shape[1]:
                raise OutOfRange("a window is longer than the days given", window=window, n_days=each.units.shape[1])
            last = slice(each.units.shape[1] - window, None)
            total, sold = each.milli[:, last].sum(axis=1), each.units[:, last].sum(axis=1) * MILLI
            columns += [
                pl.Series(f"unconstrained_milli_sum__{window}", total),
                pl.Series(f"censored_days__{window}", each.is_censored[:, last].sum(axis=1).astype(np.int64)),
                pl.Series(f"estimated_milli_sum__{window}", total - sold),
            ]
        frames.append(each.series.with_columns(pl.lit(each.origin).alias("origin_date"), *columns))
    return pl.concat(frames).sort(*_KEY, "origin_date")


def unconstrained_targets(days: UnconstrainedDays) -> pl.DataFrame:
    """Days as rows for targets, (sku_id, location_id, event_date): `units`, `unconstrained_milli`, `is_censored`."""
    n_series, n_days = days.units.shape
    dates = pl.date_range(days.first_day, days.origin, closed="left", eager=True)
    long = days.series[np.repeat(np.arange(n_series), n_days)]
    return long.with_columns(
        dates[np.tile(np.arange(n_days), n_series)].alias("event_date"),
        pl.Series("units", days.units.ravel()),
        pl.Series("unconstrained_milli", days.milli.ravel()),
        pl.Series("is_censored", days.is_censored.ravel()),
    )


def _sold_out_days(stock: pl.DataFrame, origin: date, first: date, zone: str, cutoff: time) -> pl.DataFrame:
    """(series, event_date) whose last count known at the origin found nothing."""
    recent = stock.filter(pl.col("event_date").is_between(first, origin, closed="left"))
    live = live_versions(recent, key=[*_KEY, "event_time"], as_of=origin_instant(origin, zone, cutoff))
    last = live.sort(*_KEY, "event_date", "event_time").group_by(*_KEY, "event_date", maintain_order=True).last()
    return last.filter(pl.col("on_hand_units") <= 0).select(*_KEY, "event_date")


def _first_days(known: pl.DataFrame, n_series: int, width: int) -> IntArray:
    """Column of each series' first day with units; `width` where there is none, 0 where it lies before."""
    daily = known.group_by("_row", "_day").agg(pl.col("units").sum()).filter(pl.col("units") > 0)
    first = daily.group_by("_row").agg(pl.col("_day").min())
    found = np.full(n_series, width, dtype=np.int64)
    found[first["_row"].to_numpy()] = np.maximum(first["_day"].to_numpy(), 0)
    return found
