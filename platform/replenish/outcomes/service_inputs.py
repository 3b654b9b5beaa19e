"""What the simulator needs from gold, as arrays: demand, deliveries, stock, lead times and costs of every series.

Rows of an array are dates, columns are series in the order of `ServiceSeries`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl

from replenish.bitemporal import live_versions
from replenish.stores.lake import DeltaLake

SERIES_KEY = ("sku_id", "location_id")
STOCK_LOOK_BACK_DAYS = 28
"""An older count says nothing about the shelf on the first day."""

_PRODUCT_COLUMNS: dict[str, type[pl.DataType]] = {
    "sku_id": pl.String,
    "supplier_id": pl.String,
    "pack_size_units": pl.Int64,
    "min_order_units": pl.Int64,
    "unit_cost_cents": pl.Int64,
    "unit_price_cents": pl.Int64,
}
_SUPPLIER_COLUMNS: dict[str, type[pl.DataType]] = {"supplier_id": pl.String, "review_period_days": pl.Int64}


@dataclass(frozen=True)
class ServiceSeries:
    """The series to simulate, sorted by key, with what their master data say; arrays have shape (n_series,)."""

    frame: pl.DataFrame
    """(sku_id, location_id), one row per series, plus supplier_id (nullable) and `series`, the row number."""
    pack_size: np.ndarray
    min_order: np.ndarray
    unit_cost_cents: np.ndarray
    unit_margin_cents: np.ndarray
    review_days: np.ndarray

    @property
    def n_series(self) -> int:
        """How many there are."""
        return self.frame.height


def read_series(lake: DeltaLake, keys: pl.DataFrame, as_of: datetime, default_review_days: int) -> ServiceSeries:
    """Master data of the series in `keys` (sku_id, location_id) as known at `as_of`; what is unknown costs nothing."""
    products = _latest(lake, "gold/dim_product", "sku_id", _PRODUCT_COLUMNS, as_of)
    suppliers = _latest(lake, "gold/dim_supplier", "supplier_id", _SUPPLIER_COLUMNS, as_of)
    frame = keys.sort(SERIES_KEY).join(products, on="sku_id", how="left", maintain_order="left")
    frame = frame.join(suppliers, on="supplier_id", how="left", maintain_order="left")
    cost, price = (frame[name].fill_null(0).to_numpy() for name in ("unit_cost_cents", "unit_price_cents"))
    return ServiceSeries(
        frame=frame.select(*SERIES_KEY, "supplier_id").with_row_index("series"),
        pack_size=frame["pack_size_units"].fill_null(1).to_numpy(),
        min_order=frame["min_order_units"].fill_null(0).to_numpy(),
        unit_cost_cents=cost,
        unit_margin_cents=np.where(cost > 0, np.maximum(price - cost, 0), 0),
        review_days=frame["review_period_days"].fill_null(default_review_days).to_numpy(),
    )


def units_by_day(rows: pl.DataFrame, series: ServiceSeries, dates: Sequence[date], column: str) -> np.ndarray:
    """Sums of `column` over (sku_id, location_id, event_date) rows, int64 (n_dates, n_series); others are left out."""
    out = np.zeros((len(dates), series.n_series), dtype=np.int64)
    calendar = pl.DataFrame({"event_date": list(dates)}, schema={"event_date": pl.Date}).with_row_index("day")
    found = rows.join(series.frame, on=SERIES_KEY).join(calendar, on="event_date")
    np.add.at(out, (found["day"].to_numpy(), found["series"].to_numpy()), found[column].to_numpy())
    return out


def empty_shelf_days(lake: DeltaLake, series: ServiceSeries, dates: Sequence[date], as_of: datetime) -> np.ndarray:
    """True where the last count of a day found nothing on the shelf, bool (n_dates, n_series)."""
    counts = _counts(lake, dates[0], dates[-1], as_of)
    last = counts.group_by(*SERIES_KEY, "event_date").agg(pl.col("on_hand_units").last())
    found = last.filter(pl.col("on_hand_units") <= 0).with_columns(is_empty=pl.lit(1))
    return units_by_day(found, series, dates, "is_empty") > 0


def stock_before(lake: DeltaLake, series: ServiceSeries, first_day: date, as_of: datetime) -> np.ndarray:
    """Units on the shelf at the last count before `first_day`, int64 (n_series,); -1 where there is no recent count."""
    counts = _counts(lake, first_day - timedelta(days=STOCK_LOOK_BACK_DAYS), first_day - timedelta(days=1), as_of)
    last = counts.group_by(SERIES_KEY).agg(pl.col("on_hand_units").last())
    found = series.frame.join(last, on=SERIES_KEY, how="left", maintain_order="left")
    return found["on_hand_units"].fill_null(-1).to_numpy()


def pipeline_units(supply: pl.DataFrame, series: ServiceSeries, dates: Sequence[date], zone: str) -> np.ndarray:
    """Units received in the window on orders placed before it, by day of receipt, int64 (n_dates, n_series)."""
    ordered = pl.col("ordered_at").dt.convert_time_zone(zone).dt.date()
    received = pl.col("received_at").dt.convert_time_zone(zone).dt.date()
    rows = supply.filter((pl.col("supply_event") == "received") & (ordered < dates[0])).with_columns(
        event_date=received
    )
    return np.maximum(units_by_day(rows, series, dates, "received_units"), 0)


def lead_time_counts(supply: pl.DataFrame) -> pl.DataFrame:
    """Receipts by lead time: (supplier_id, lead_time_days), sorted, with `n_lines`; faulty ones are left out."""
    usable = supply.filter((pl.col("supply_event") == "received") & (pl.col("lead_time_flag") == "ok"))
    counts = usable.group_by("supplier_id", "lead_time_days").agg(n_lines=pl.col("posting_sign").cast(pl.Int64).sum())
    return counts.filter(pl.col("n_lines") > 0).sort("supplier_id", "lead_time_days")


def lead_days_at(counts: pl.DataFrame, series: ServiceSeries, share: np.ndarray) -> np.ndarray:
    """Lead times [days] at the shares `share` (n_days, n_series) in [0, 1) of each series' supplier's distribution.

    A supplier without receipts takes the distribution of all suppliers. Equal shares give equal lead times whatever the
    order rule: common random numbers.
    """
    out = np.empty(share.shape, dtype=np.int64)
    for rows, lead in _lead_times_of_series(counts, series):
        index = np.minimum((share[:, rows] * len(lead)).astype(np.int64), len(lead) - 1)
        out[:, rows] = lead[index]
    return out


def lead_time_moments(counts: pl.DataFrame, series: ServiceSeries) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation [days] of the lead time of each series' supplier, each (n_series,)."""
    mean, deviation = np.empty(series.n_series), np.empty(series.n_series)
    for rows, lead in _lead_times_of_series(counts, series):
        mean[rows], deviation[rows] = lead.mean(), lead.std()
    return mean, deviation


def _lead_times_of_series(counts: pl.DataFrame, series: ServiceSeries) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per supplier: the series it delivers, and all its lead times in ascending order."""
    pooled = np.sort(np.repeat(counts["lead_time_days"].to_numpy(), counts["n_lines"].to_numpy()))
    parts = []
    for key, members in series.frame.partition_by("supplier_id", as_dict=True).items():
        own = counts.filter(pl.col("supplier_id") == key[0])
        lead = np.repeat(own["lead_time_days"].to_numpy(), own["n_lines"].to_numpy())
        parts.append((members["series"].to_numpy(), lead if len(lead) else pooled))
    return parts


def _counts(lake: DeltaLake, first: date, last: date, as_of: datetime) -> pl.DataFrame:
    """Live stock counts of some days, in order of time."""
    if not lake.has("gold/fct_stock"):
        return pl.DataFrame(
            schema={"sku_id": pl.String, "location_id": pl.String, "event_date": pl.Date, "on_hand_units": pl.Int64}
        )
    ledger = lake.read("gold/fct_stock", filters=[("event_date", ">=", first), ("event_date", "<=", last)])
    return live_versions(ledger, key=[*SERIES_KEY, "event_time"], as_of=as_of).sort("event_time", *SERIES_KEY)


def _latest(
    lake: DeltaLake, table: str, key: str, columns: dict[str, type[pl.DataType]], as_of: datetime
) -> pl.DataFrame:
    if not lake.has(table):
        return pl.DataFrame(schema=columns)
    return live_versions(lake.read(table), key=[key], as_of=as_of).select(*columns)
