"""Demand as a dense matrix, as known at one origin: what baselines, targets and scores are computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

SERIES_KEY = ("sku_id", "location_id")


@dataclass(frozen=True)
class DemandPanel:
    """Units by series and period, everything known at the origin `known_at` and nothing of that day or later.

    `keys` holds `sku_id, location_id`, one row per series, sorted; `units` and `is_censored` have the shape
    (n_series, n_periods). A period is `period_days` long; the last one ends the day before `known_at`.
    """

    keys: pl.DataFrame
    known_at: date
    period_days: int
    units: npt.NDArray[np.int64]
    is_censored: npt.NDArray[np.bool_]
    """A stock-out fell into the period: its sales are a lower bound of its demand."""
    lost_milli: npt.NDArray[np.int64] | None = None
    """Estimated demand beyond the sales of censored periods [thousandths of a unit]; None where nobody estimated it."""

    @property
    def n_periods(self) -> int:
        """Number of periods, the oldest one being the first with demand of any series."""
        return int(self.units.shape[1])

    def period_of(self, day: date) -> int:
        """Column of the period that starts on `day`; `n_periods` is the period that starts at the origin."""
        return self.n_periods - (self.known_at - day).days // self.period_days

    def first_sale(self) -> npt.NDArray[np.int64]:
        """Column of each series' first period with demand; `n_periods` where there is none. Shape (n_series,)."""
        sold = self.units > 0
        return np.where(sold.any(axis=1), sold.argmax(axis=1), self.n_periods).astype(np.int64)

    def before(self, origin: date) -> npt.NDArray[np.float64]:
        """Units of the periods before an earlier origin, shape (n_series, periods), with today's knowledge."""
        return self.units[:, : max(self.period_of(origin), 0)].astype(np.float64)

    def actuals(self, origin: date, n_steps: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Units and censoring of steps 1..n_steps after an origin; NaN where a period is not complete at `known_at`."""
        first = self.period_of(origin)
        units = np.full((self.units.shape[0], n_steps), np.nan)
        censored = np.zeros(units.shape, dtype=np.bool_)
        n_known = min(n_steps, self.n_periods - first)
        if n_known > 0:
            units[:, :n_known] = self.units[:, first : first + n_known]
            censored[:, :n_known] = self.is_censored[:, first : first + n_known]
        return units, censored


def build_panel(
    increments: pl.DataFrame,
    stock: pl.DataFrame | None,
    keys: pl.DataFrame,
    *,
    known_at: date,
    period_days: int,
    lost_sales: pl.DataFrame | None = None,
) -> DemandPanel:
    """The panel of the given series as known at an origin.

    Args:
        increments: gold `fct_demand`: `sku_id, location_id, event_date, knowledge_date, units`.
        stock: gold `fct_stock` (`event_date, knowledge_date, on_hand_units, posting_sign, event_time, version_nr`), or
            None where the data set counts no stock: then nothing is censored.
        keys: The series, `sku_id, location_id`.
        known_at: The origin: rows with a later `knowledge_date`, or of that day or later, are not seen.
        period_days: 1 for days, 7 for weeks.
        lost_sales: `features/lost_sales`: increments of `lost_milli` by `event_date` and `knowledge_date`.
    """
    keys = keys.select(SERIES_KEY).unique().sort(SERIES_KEY)
    placed = keys.with_row_index("row")
    known = _known_rows(increments, placed, known_at, period_days)
    n_periods = int(known["back"].max() or 0)  # type: ignore[arg-type]
    units = _totals(known, "units", (keys.height, n_periods))
    censored = np.zeros(units.shape, dtype=np.bool_)
    if stock is not None:
        empty = _sold_out_days(stock, known_at).join(placed, on=SERIES_KEY, how="inner")
        empty = empty.with_columns(_periods_back(known_at, period_days)).filter(pl.col("back") <= n_periods)
        censored[empty["row"].to_numpy(), n_periods - empty["back"].to_numpy()] = True
    lost = None
    if lost_sales is not None:
        beyond = _known_rows(lost_sales, placed, known_at, period_days).filter(pl.col("back") <= n_periods)
        lost = _totals(beyond, "lost_milli", units.shape)
    return DemandPanel(keys, known_at, period_days, np.maximum(units, 0), censored, lost)


def period_starts(origin: date, steps: Sequence[int], period_days: int) -> list[date]:
    """First day of the period each step speaks of: step 1 starts at the origin."""
    return [origin + timedelta(days=(step - 1) * period_days) for step in steps]


def _known_rows(increments: pl.DataFrame, placed: pl.DataFrame, known_at: date, period_days: int) -> pl.DataFrame:
    """Increments that the origin sees, with `row` of their series and `back`, how many periods before it they lie."""
    known = increments.filter((pl.col("knowledge_date") <= known_at) & (pl.col("event_date") < known_at))
    return known.join(placed, on=SERIES_KEY, how="inner").with_columns(_periods_back(known_at, period_days))


def _totals(known: pl.DataFrame, column: str, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
    totals = np.zeros(shape, dtype=np.int64)
    np.add.at(totals, (known["row"].to_numpy(), shape[1] - known["back"].to_numpy()), known[column].to_numpy())
    return totals


def _periods_back(known_at: date, period_days: int) -> pl.Expr:
    days = (pl.lit(known_at) - pl.col("event_date")).dt.total_days()
    return ((days - 1) // period_days + 1).alias("back")


def _sold_out_days(stock: pl.DataFrame, known_at: date) -> pl.DataFrame:
    """Days that closed without stock, by the last count of the day as known at the origin."""
    order = ["event_time", "version_nr"]
    live = (
        stock.filter((pl.col("knowledge_date") <= known_at) & (pl.col("event_date") < known_at))
        .group_by(*SERIES_KEY, "event_date", *order, "on_hand_units")
        .agg(pl.col("posting_sign").cast(pl.Int64).sum().alias("live"))
        .filter(pl.col("live") > 0)
    )
    last = live.sort(*SERIES_KEY, "event_date", *order).group_by(*SERIES_KEY, "event_date", maintain_order=True).last()
    return last.filter(pl.col("on_hand_units") <= 0).select(*SERIES_KEY, "event_date")
