"""Stock-out censoring: which days could not show their demand, as known at each origin.

A day is censored while the last stock count of that business date known says that nothing was left. Days without a
count are taken as in stock: nothing says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from replenish.bitemporal import KNOWN_FROM, knowledge_date_expr, state_log
from replenish.bitemporal_windows import Changes, IntArray, Window, known_window_sums
from replenish.contracts.profile import ForecastProfile
from replenish.features.demand_history import FeatureArrays
from replenish.features.series import SERIES_COLUMNS, BuildAxes, OriginBlock, changes_of

_DAY = ["series", "event_date"]


@dataclass(frozen=True)
class CensoredDemand:
    """Changes of the units sold on censored days and of the number of such days, by period."""

    units: Changes
    days: Changes


def censored_demand(axes: BuildAxes, numbered: pl.DataFrame, stock: pl.DataFrame | None) -> CensoredDemand | None:
    """What the stock ledger says about the numbered demand increments; None where there are no stock counts.

    Args:
        axes: Series and periods.
        numbered: Demand increments with `series` (see `BuildAxes.numbered`).
        stock: `fct_stock`, or None.
    """
    if stock is None:
        return None
    flags = _flag_changes(axes, stock)
    days = flags.select(_DAY).unique()
    sold = numbered.join(days, on=_DAY, how="semi").select(
        *_DAY, "knowledge_date", units="units", flag=pl.lit(0, dtype=pl.Int64)
    )
    together = pl.concat([sold, flags]).group_by(*_DAY, "knowledge_date").agg(pl.col("units", "flag").sum())
    states = together.sort(*_DAY, "knowledge_date").with_columns(pl.col("units", "flag").cum_sum().over(_DAY))
    censored = pl.col("units") * pl.col("flag")
    moved = states.with_columns(
        units=censored - censored.shift(1, fill_value=0).over(_DAY),
        flag=pl.col("flag") - pl.col("flag").shift(1, fill_value=0).over(_DAY),
        event=axes.event_period("event_date"),
        known=axes.known_period("knowledge_date"),
    )
    return CensoredDemand(
        units=changes_of(moved.select("series", "event", "known", delta="units")),
        days=changes_of(moved.select("series", "event", "known", delta="flag")),
    )


def _flag_changes(axes: BuildAxes, stock: pl.DataFrame) -> pl.DataFrame:
    """Changes of the 0/1 flag "nothing left at close": series, event_date, knowledge_date, units (0), flag."""
    empty_days = stock.filter(pl.col("on_hand_units") <= 0).select(*SERIES_COLUMNS, "event_date").unique()
    counts = axes.numbered(stock.join(empty_days, on=[*SERIES_COLUMNS, "event_date"], how="semi"))
    log = state_log(counts, key=_DAY, fact_key=[*_DAY, "event_time"], values=["on_hand_units"])
    is_empty = (pl.col("is_live") & (pl.col("on_hand_units") <= 0)).cast(pl.Int64)
    return log.select(
        *_DAY,
        knowledge_date_expr(KNOWN_FROM, axes.zone, axes.cutoff).alias("knowledge_date"),
        units=pl.lit(0, dtype=pl.Int64),
        flag=is_empty - is_empty.shift(1, fill_value=0).over(_DAY),
    )


def censoring_features(
    censored: CensoredDemand | None,
    profile: ForecastProfile,
    units_sums: dict[int, IntArray],
    age: IntArray,
    block: OriginBlock,
) -> FeatureArrays:
    """Units and days of each window outside known stock-outs, and their ratio, the uncensored mean per day.

    Args:
        censored: From `censored_demand`; None gives NaN everywhere.
        profile: Windows and period length.
        units_sums: Window sums of all units by window length, each (n_series, n_origins).
        age: Periods since the first sale, (n_series, n_origins); limits the days the mean divides by.
        block: Origins.
    """
    windows = [Window(1, w) for w in profile.windows]
    features: FeatureArrays = {}
    if censored is None:
        names = [f"{n}__{w}" for w in profile.windows for n in ("in_stock_units", "in_stock_days", "in_stock_mean")]
        return {name: np.full(age.shape, np.nan) for name in names}
    shape = {"n_series": age.shape[0], "first_origin": block.first_origin, "n_origins": block.n_origins}
    units = known_window_sums(censored.units, windows, **shape)
    days = known_window_sums(censored.days, windows, **shape)
    for w, censored_units, censored_days in zip(profile.windows, units, days, strict=True):
        in_stock_units = units_sums[w] - censored_units
        n_days = np.clip(age, 1, w) * profile.period_days - censored_days
        features[f"in_stock_units__{w}"] = in_stock_units
        features[f"in_stock_days__{w}"] = w * profile.period_days - censored_days
        features[f"in_stock_mean__{w}"] = np.divide(
            in_stock_units, n_days, out=np.full(age.shape, np.nan), where=n_days > 0
        )
    return features
