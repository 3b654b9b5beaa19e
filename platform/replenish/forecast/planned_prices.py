"""The price and promotion planned for each target day, as known at the origin that forecasts it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from replenish.forecast.panel import SERIES_KEY

FACT = (*SERIES_KEY, "event_time")


def planned_prices(
    prices: pl.DataFrame | None, rows: pl.DataFrame, steps: Sequence[int], period_days: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Planned price [cents] and promotion flag (0 or 1) of each row and step; NaN where nothing was planned.

    Args:
        prices: gold `fct_price` ledger, or None where the data set has no prices.
        rows: `sku_id, location_id, origin_date`; the result keeps their order.
        steps: Steps ahead; step 1 is the period that starts at the origin.
        period_days: Length of a period [days]; a period takes the price valid on its first day.

    Returns:
        Two arrays of shape (n_rows, n_steps).
    """
    shape = (rows.height, len(steps))
    if prices is None or prices.is_empty() or rows.is_empty():
        return np.full(shape, np.nan), np.full(shape, np.nan)
    wanted = rows.select(*SERIES_KEY, "origin_date").with_row_index("row")
    offsets = pl.DataFrame({"step_nr": range(len(steps)), "days": [(s - 1) * period_days for s in steps]})
    offsets = offsets.with_columns(pl.duration(days="days").alias("ahead")).drop("days")
    parts = []
    for (origin,), group in wanted.group_by("origin_date", maintain_order=True):
        live = _plan_known_at(prices.filter(pl.col("knowledge_date") <= origin))
        asked = group.join(offsets, how="cross").with_columns(event_date=pl.col("origin_date") + pl.col("ahead"))
        parts.append(
            asked.sort("event_date").join_asof(
                live, on="event_date", by=list(SERIES_KEY), strategy="backward", check_sortedness=False
            )
        )
    found = pl.concat(parts).sort("row", "step_nr")
    price = found["unit_price_cents"].cast(pl.Float64).fill_null(float("nan")).to_numpy().reshape(shape)
    promotion = found["is_promotion"].cast(pl.Float64).fill_null(float("nan")).to_numpy().reshape(shape)
    return price, promotion


def _plan_known_at(known: pl.DataFrame) -> pl.DataFrame:
    """One live price per series and day it starts on, sorted by day."""
    reversed_ = known.filter(pl.col("posting_kind") == "reversal").select(*FACT, "version_nr")
    live = known.filter(pl.col("posting_kind") == "version").join(reversed_, on=[*FACT, "version_nr"], how="anti")
    return (
        live.sort(*FACT)
        .unique([*SERIES_KEY, "event_date"], keep="last", maintain_order=True)
        .sort("event_date", *SERIES_KEY)
        .select(*SERIES_KEY, "event_date", "unit_price_cents", "is_promotion")
    )
