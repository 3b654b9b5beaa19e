"""The rows of `outcomes/service` and their summary, made of simulated trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from replenish.outcomes.service_cost import CostRates, CycleCount, count_cycles, stock_costs
from replenish.outcomes.simulate import StockTrajectory

_SUMS = ("demand_units", "sales_units", "lost_units", "holding_cost_cents", "shortage_cost_cents", "order_cost_cents")


@dataclass(frozen=True)
class MethodService:
    """One method's rows: (sku_id, location_id, event_date), one row per series and day, sorted, and its cycles."""

    method: str
    rows: pl.DataFrame
    cycles: CycleCount


def service_rows(
    method: str,
    series: pl.DataFrame,
    dates: Sequence[date],
    trajectory: StockTrajectory,
    rates: CostRates,
    is_warm_up: np.ndarray,
    is_estimated: np.ndarray,
) -> MethodService:
    """Rows of one simulated method; `series` holds sku_id and location_id in the order of the arrays' columns.

    `is_warm_up` (n_days,) marks the first days, which the summary leaves out.
    """
    costs = stock_costs(trajectory, rates)
    columns = {
        "demand_units": trajectory.demand,
        "sales_units": trajectory.sales,
        "lost_units": trajectory.lost,
        "on_hand_units": trajectory.on_hand,
        "on_order_units": trajectory.on_order,
        "ordered_units": trajectory.ordered,
        "holding_cost_cents": costs.holding,
        "shortage_cost_cents": costs.shortage,
        "order_cost_cents": costs.order,
        "is_demand_estimated": is_estimated,
        "is_warm_up": np.repeat(is_warm_up, series.height).reshape(is_estimated.shape),
    }
    n_series = series.height
    calendar = pl.Series("event_date", list(dates), dtype=pl.Date)
    rows = pl.DataFrame(
        {
            "sku_id": np.tile(series["sku_id"].to_numpy(), len(dates)),
            "location_id": np.tile(series["location_id"].to_numpy(), len(dates)),
            "event_date": calendar[np.repeat(np.arange(len(dates)), n_series)],
            "method": pl.Series([method], dtype=pl.String).new_from_index(0, len(dates) * n_series),
            **{name: values.ravel() for name, values in columns.items()},
        },
        schema_overrides={"sku_id": pl.String, "location_id": pl.String},
    )
    return MethodService(
        method, rows.sort("sku_id", "location_id", "event_date"), count_cycles(trajectory, int(is_warm_up.sum()))
    )


def service_summary(parts: Sequence[MethodService]) -> pl.DataFrame:
    """One row per method over the days after warm-up: fill rate, stock-outs, mean stock, costs; ratios last."""
    return pl.concat([_summary_row(part) for part in parts])


def _summary_row(part: MethodService) -> pl.DataFrame:
    rows, cycles = part.rows.filter(~pl.col("is_warm_up")), part.cycles
    total = rows.select(
        pl.lit(part.method).alias("method"),
        pl.struct("sku_id", "location_id").n_unique().cast(pl.Int64).alias("n_series"),
        pl.col("event_date").n_unique().cast(pl.Int64).alias("n_days"),
        *[pl.col(name).sum() for name in _SUMS],
        (pl.col("lost_units") > 0).sum().cast(pl.Int64).alias("stock_out_days"),
        pl.col("on_hand_units").sum().alias("on_hand_unit_days"),
    )
    return total.select(
        "method",
        "n_series",
        "n_days",
        fill_rate=_share(pl.col("sales_units"), pl.col("demand_units")),
        stock_out_days="stock_out_days",
        n_cycles=pl.lit(cycles.n_cycles, dtype=pl.Int64),
        cycle_service_level=_share(pl.lit(cycles.n_cycles - cycles.n_stock_out_cycles), pl.lit(cycles.n_cycles)),
        mean_on_hand_units=pl.col("on_hand_unit_days") / pl.col("n_days"),
        demand_units="demand_units",
        lost_units="lost_units",
        holding_cost_cents="holding_cost_cents",
        shortage_cost_cents="shortage_cost_cents",
        order_cost_cents="order_cost_cents",
        total_cost_cents=pl.col("holding_cost_cents") + pl.col("shortage_cost_cents") + pl.col("order_cost_cents"),
    )


def _share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """A ratio that is null where there is nothing to take a share of."""
    return pl.when(whole > 0).then(part / whole)
