"""Pictures in asset metadata: PNG inside markdown, so that they show wherever Dagster shows metadata.

matplotlib is imported when a picture is drawn, never when definitions load.
"""

import base64
import io
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import dagster as dg
import polars as pl

from replenish.stores.lake import DeltaLake
from replenish.units import MILLI

N_SHOWN = 4
"""Series shown: the largest ones; more would be too small to read."""
INK = "#30475e"
ACCENT = "#f05454"
"""Two colours that stay apart in print and for most colour-blind readers."""
N_DAYS_BACK = 56
"""History drawn before a forecast: two of its horizons."""
N_BARS = 15


def draw(
    n_columns: int, n_rows: int, paint: Callable[[list[Any]], None], size: tuple[float, float] | None = None
) -> dg.MetadataValue:
    """A grid of axes painted by `paint`, as markdown with an embedded PNG; `size` in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size or (4.2 * n_columns, 2.6 * n_rows), dpi=80, layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    paint([axis for row in axes for axis in row])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})")


def no_plot(reason: str) -> dg.MetadataValue:
    """What stands in the place of a picture that cannot be drawn."""
    return dg.MetadataValue.md(f"*no picture: {reason}*")


def forecast_fan(lake: DeltaLake, origin: date) -> dg.MetadataValue:
    """Demand up to an origin, then mean and quantile band of its forecast, for the largest series."""
    forecast = lake.read("forecasts/demand", filters=[("origin_date", "==", origin)])
    if forecast.is_empty():
        return no_plot("no forecast of this origin")
    total = pl.col("mean_milli").sum().alias("total")
    largest = forecast.group_by("sku_id", "location_id").agg(total).sort("total", "sku_id", descending=[True, False])
    days = pl.date_range(origin - timedelta(days=N_DAYS_BACK), origin, closed="left", eager=True).alias("event_date")
    demand = lake.scan("gold/fct_demand").filter(
        (pl.col("knowledge_date") <= origin) & (pl.col("event_date") >= days[0])
    )
    daily = demand.group_by("sku_id", "location_id", "event_date").agg(pl.col("units").sum()).collect()
    quantiles = sorted(name for name in forecast.columns if name.startswith("q") and name.endswith("_milli"))

    def paint(axes: list[Any]) -> None:
        for axis, (sku, place) in zip(axes, largest.select("sku_id", "location_id").iter_rows(), strict=False):
            is_series = (pl.col("sku_id") == sku) & (pl.col("location_id") == place)
            ahead = forecast.filter(is_series).sort("target_date")
            past = days.to_frame().join(daily.filter(is_series), on="event_date", how="left", maintain_order="left")
            # A day without a row is a day without a sale, not one to draw a line across.
            axis.plot(past["event_date"], past["units"].fill_null(0), color=INK, linewidth=1, label="demand")
            axis.plot(ahead["target_date"], ahead["mean_milli"] / MILLI, color=ACCENT, label="mean")
            if len(quantiles) > 1:
                low, high = ahead[quantiles[0]] / MILLI, ahead[quantiles[-1]] / MILLI
                axis.fill_between(ahead["target_date"], low, high, color=ACCENT, alpha=0.25, label="quantiles")
            _title(axis, f"{sku} at {place} [units]")
        axes[0].legend(fontsize=7)

    return draw(2, 2, paint)


def backtest_plot(backtest: pl.DataFrame) -> dg.MetadataValue:
    """WAPE by step, one line per method; lower is better."""
    known = backtest.filter(pl.col("actual_units").is_not_null() & ~pl.col("is_censored"))
    if known.is_empty():
        return no_plot("no actual demand to compare with")
    error = (pl.col("actual_units") * MILLI - pl.col("mean_milli")).abs().sum() / (pl.col("actual_units").sum() * MILLI)
    by_step = known.group_by("method", "step").agg(error.alias("wape")).sort("method", "step")

    def paint(axes: list[Any]) -> None:
        for (method,), line in by_step.group_by("method", maintain_order=True):
            axes[0].plot(line["step"], line["wape"], marker="o", markersize=3, label=str(method))
        axes[0].legend(fontsize=8)
        axes[0].set_xlabel("step")
        _title(axes[0], "WAPE by step (lower is better)")

    return draw(1, 1, paint, size=(7.0, 3.6))


def psi_bars(scores: pl.DataFrame, origin: date) -> dg.MetadataValue:
    """The highest stability indices of one origin, breaches in colour, beside their threshold."""
    shown = scores.filter((pl.col("origin_date") == origin) & (pl.col("statistic") == "psi"))
    if shown.is_empty():
        return no_plot("no stability index for this origin")
    worst = shown.sort("score", "subject", descending=[True, False]).head(N_BARS).reverse()

    def paint(axes: list[Any]) -> None:
        colours = [ACCENT if is_breach else INK for is_breach in worst["is_breach"]]
        labels = [f"{signal}: {subject}" for signal, subject in worst.select("signal", "subject").iter_rows()]
        axes[0].barh(labels, worst["score"].to_list(), color=colours)
        axes[0].axvline(float(worst["threshold"][0]), color=ACCENT, linestyle="--", linewidth=1)
        _title(axes[0], "PSI, and the threshold")

    return draw(1, 1, paint, size=(7.0, 4.2))


def late_data_bars(rows: pl.DataFrame, effects: pl.DataFrame) -> dg.MetadataValue:
    """Late rows by days late, one bar part per stream, beside the values that they would have changed most often."""
    late = rows.filter(pl.col("days_late") > 0).group_by("stream", "days_late").agg(pl.col("n_rows").sum())
    if late.is_empty():
        return no_plot("nothing came late")
    share = (pl.col("n_changed").sum() / pl.col("n_compared").sum()).alias("share")
    shares = effects.group_by("effect", "subject").agg(share).filter(pl.col("share") > 0)
    most = shares.sort("share", "subject", descending=[True, False]).head(N_BARS).reverse()

    def paint(axes: list[Any]) -> None:
        below: dict[int, int] = {}
        for (stream,), part in late.sort("stream", "days_late").group_by("stream", maintain_order=True):
            days, counts = part["days_late"].to_list(), part["n_rows"].to_list()
            axes[0].bar(days, counts, bottom=[below.get(day, 0) for day in days], label=str(stream))
            below |= {day: below.get(day, 0) + n for day, n in zip(days, counts, strict=True)}
        axes[0].legend(fontsize=7)
        _title(axes[0], "late rows by days late")
        labels = [f"{effect}: {subject}" for effect, subject in most.select("effect", "subject").iter_rows()]
        axes[1].barh(labels, most["share"].to_list(), color=INK)
        _title(axes[1], "share of values it would have changed")

    return draw(2, 1, paint, size=(10.0, 4.2))


def stock_trajectory(lake: DeltaLake, decisions: pl.DataFrame) -> dg.MetadataValue:
    """Counted stock of the largest orders' items, and the level each is ordered up to."""
    lines = decisions.filter(pl.col("order_units") > 0).sort("order_units", "sku_id", descending=[True, False])
    if lines.is_empty() or not lake.has("gold/fct_stock"):
        return no_plot("no order, or no stock counts")
    origin = lines["origin_date"][0]
    counts = lake.scan("gold/fct_stock").filter(
        (pl.col("knowledge_date") <= origin) & (pl.col("event_date") >= origin - timedelta(days=N_DAYS_BACK))
    )
    live = pl.col("on_hand_units").last().alias("units")
    by_day = counts.sort("event_time", "knowledge_time", "posting_sign").group_by("sku_id", "location_id", "event_date")
    daily = by_day.agg(live).collect()

    def paint(axes: list[Any]) -> None:
        columns = ["sku_id", "location_id", "base_stock_level_units", "order_units"]
        for axis, (sku, place, level, order) in zip(axes, lines.select(columns).iter_rows(), strict=False):
            is_item = (pl.col("sku_id") == sku) & (pl.col("location_id") == place)
            past = daily.filter(is_item).sort("event_date")
            axis.step(past["event_date"], past["units"], where="post", color=INK, linewidth=1)
            axis.axhline(level, color=ACCENT, linestyle="--", linewidth=1)
            _title(axis, f"{sku} at {place}: order {order}, up to {level}")

    return draw(2, 2, paint)


def _title(axis: Any, text: str) -> None:
    axis.set_title(text, fontsize=9)
    axis.tick_params(labelsize=7)
    for label in axis.get_xticklabels():
        label.set_rotation(20)
