"""Forecasts against first-look actuals: what each period's demand was said to be, and what was known when it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replenish.contracts.profile import ForecastProfile
from replenish.drift.error_score import HISTORY_PERIODS, WINDOW_PERIODS, without_empty_shelves
from replenish.stores.lake import DeltaLake

SERIES = ("sku_id", "location_id")
FORECAST_SCHEMA: dict[str, pl.DataType] = {
    "sku_id": pl.String(),
    "location_id": pl.String(),
    "origin_date": pl.Date(),
    "target_date": pl.Date(),
    "mean_milli": pl.Int64(),
}
N_PERIODS = HISTORY_PERIODS + 2 * WINDOW_PERIODS


@dataclass(frozen=True)
class CategoryErrors:
    """Actuals and forecasts [units] of one category, shape (n_series, n_periods); the last period ends at the origin.

    A forecast is NaN where none was made before its period began.
    """

    category_id: str
    actual: NDArray[np.float64]
    forecast: NDArray[np.float64]


def first_look_actuals(fct_demand: pl.DataFrame, periods: pl.DataFrame, period_days: int) -> pl.DataFrame:
    """Demand of each period as it was known at its end: like is compared with like, however late records come.

    Args:
        fct_demand: `(sku_id, location_id, event_date, knowledge_date, units)`, increments.
        periods: `target_date`, the first date of each period wanted.
        period_days: Length of a period; the next origin lies at its end.

    Returns:
        `sku_id`, `location_id`, `target_date`, `units`; periods without a sale have no row.
    """
    starts = periods.select("target_date").unique().sort("target_date")
    rows = fct_demand.sort("event_date").join_asof(
        starts, left_on="event_date", right_on="target_date", strategy="backward", coalesce=False
    )
    end = pl.col("target_date") + pl.duration(days=period_days)
    seen = rows.filter((pl.col("event_date") < end) & (pl.col("knowledge_date") <= end))
    return seen.group_by(*SERIES, "target_date").agg(pl.col("units").sum())


def sold_out_periods(fct_stock: pl.DataFrame, periods: pl.DataFrame, period_days: int) -> pl.DataFrame:
    """Periods in which a count, known at their end, found the shelf empty: `sku_id`, `location_id`, `target_date`.

    Args:
        fct_stock: `(sku_id, location_id, event_date, knowledge_date, on_hand_units, posting_sign)`.
        periods: `target_date`, the first date of each period wanted.
        period_days: Length of a period.
    """
    starts = periods.select("target_date").unique().sort("target_date")
    empty = fct_stock.filter(pl.col("on_hand_units") <= 0)
    rows = empty.sort("event_date").join_asof(
        starts, left_on="event_date", right_on="target_date", strategy="backward", coalesce=False
    )
    end = pl.col("target_date") + pl.duration(days=period_days)
    seen = rows.filter((pl.col("event_date") < end) & (pl.col("knowledge_date") <= end))
    # A count that was taken back by then found nothing: its reversal cancels it.
    counts = seen.group_by(*SERIES, "target_date").agg(pl.col("posting_sign").cast(pl.Int64).sum().alias("n_counts"))
    return counts.filter(pl.col("n_counts") > 0).select(*SERIES, "target_date")


def freshest_forecasts(forecasts: pl.DataFrame) -> pl.DataFrame:
    """The newest forecast of each series and period; of two from one origin the first row given.

    Args:
        forecasts: Columns of `FORECAST_SCHEMA`; every row was made at or before its period began.
    """
    ordered = forecasts.sort("origin_date", descending=True, maintain_order=True)
    return ordered.unique(subset=[*SERIES, "target_date"], keep="first", maintain_order=True)


def category_errors(
    actuals: pl.DataFrame,
    forecasts: pl.DataFrame,
    categories: pl.DataFrame,
    target_dates: list[date],
    sold_out: pl.DataFrame | None = None,
) -> tuple[CategoryErrors, ...]:
    """Matrices per category, by category id; series and periods sorted.

    Args:
        actuals: From `first_look_actuals`.
        forecasts: From `freshest_forecasts`.
        categories: `sku_id`, `category_id`; a series without a category counts under `all`.
        target_dates: First dates of the periods, ascending.
        sold_out: From `sold_out_periods`; in these the forecast stands in for what could not be sold.
    """
    empty = pl.DataFrame(schema={"sku_id": pl.String(), "location_id": pl.String(), "target_date": pl.Date()})
    marked = (empty if sold_out is None else sold_out).with_columns(pl.lit(True).alias("is_sold_out"))
    wanted = forecasts.filter(pl.col("target_date").is_in(target_dates))
    joined = wanted.join(actuals, on=[*SERIES, "target_date"], how="left").join(categories, on="sku_id", how="left")
    joined = joined.join(marked, on=[*SERIES, "target_date"], how="left").with_columns(
        pl.col("units").fill_null(0), pl.col("category_id").fill_null("all"), pl.col("is_sold_out").fill_null(False)
    )
    places = {day: place for place, day in enumerate(target_dates)}
    found = []
    for (category,), group in sorted(joined.group_by(["category_id"]), key=lambda item: str(item[0][0])):
        series = group.select(SERIES).unique().sort(SERIES).with_row_index("row")
        cells = group.join(series, on=list(SERIES))
        rows = cells["row"].to_numpy()
        columns = np.array([places[day] for day in cells["target_date"].to_list()])
        actual = np.zeros((series.height, len(target_dates)))
        forecast = np.full(actual.shape, np.nan)
        actual[rows, columns] = cells["units"].to_numpy()
        forecast[rows, columns] = cells["mean_milli"].to_numpy() / 1000
        is_sold_out = np.zeros(actual.shape, dtype=bool)
        is_sold_out[rows, columns] = cells["is_sold_out"].to_numpy()
        found.append(CategoryErrors(str(category), without_empty_shelves(actual, forecast, is_sold_out), forecast))
    return tuple(found)


def read_category_errors(lake: DeltaLake, profile: ForecastProfile, origin: date) -> tuple[CategoryErrors, ...]:
    """Errors of the last periods before an origin: forecasts made in operation, and backtests where there are none."""
    anchor = profile.origin_at_or_before(origin)
    days = [anchor - timedelta(days=n * profile.period_days) for n in range(N_PERIODS, 0, -1)]
    forecasts = freshest_forecasts(pl.concat([_operational(lake, days), _backtested(lake, days)]))
    demand = lake.read(
        "gold/fct_demand",
        columns=[*SERIES, "event_date", "knowledge_date", "units"],
        filters=[("event_date", ">=", days[0]), ("event_date", "<", anchor), ("knowledge_date", "<=", anchor)],
    )
    periods = pl.DataFrame({"target_date": days})
    actuals = first_look_actuals(demand, periods, profile.period_days)
    sold_out = None
    if lake.has("gold/fct_stock"):
        columns = [*SERIES, "event_date", "knowledge_date", "on_hand_units", "posting_sign"]
        counted = [("event_date", ">=", days[0]), ("event_date", "<", anchor), ("knowledge_date", "<=", anchor)]
        stock = lake.read("gold/fct_stock", columns=columns, filters=counted)
        sold_out = sold_out_periods(stock, periods, profile.period_days)
    return category_errors(actuals, forecasts, _categories(lake), days, sold_out)


def _operational(lake: DeltaLake, days: list[date]) -> pl.DataFrame:
    if not lake.has("forecasts/demand"):
        return pl.DataFrame(schema=FORECAST_SCHEMA)
    rows = lake.read("forecasts/demand", columns=list(FORECAST_SCHEMA), filters=[("target_date", "in", days)])
    return _typed(rows)


def _backtested(lake: DeltaLake, days: list[date]) -> pl.DataFrame:
    if not lake.has("forecasts/backtest"):
        return pl.DataFrame(schema=FORECAST_SCHEMA)
    wanted = [("target_date", "in", days), ("method", "==", "lightgbm")]
    return _typed(lake.read("forecasts/backtest", columns=list(FORECAST_SCHEMA), filters=wanted))


def _typed(rows: pl.DataFrame) -> pl.DataFrame:
    made_in_time = rows.filter(pl.col("origin_date") <= pl.col("target_date"))
    return made_in_time.select(pl.col(name).cast(dtype) for name, dtype in FORECAST_SCHEMA.items()).sort(
        *SERIES, "target_date", "origin_date"
    )


def _categories(lake: DeltaLake) -> pl.DataFrame:
    if not lake.has("gold/dim_product"):
        return pl.DataFrame(schema={"sku_id": pl.String(), "category_id": pl.String()})
    versions = lake.read("gold/dim_product", columns=["sku_id", "category_id", "knowledge_time", "version_nr"])
    # Category names change how scores are grouped, never what is compared, so the newest name is good enough.
    newest = versions.sort("sku_id", "knowledge_time", "version_nr").unique("sku_id", keep="last", maintain_order=True)
    return newest.select("sku_id", "category_id")
