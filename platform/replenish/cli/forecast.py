"""`replenish forecast`: look at forecasts, and run the long backtest."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from replenish.cli.deployment import default_root, open_deployment
from replenish.cli.tables import frame_table, open_console
from replenish.contracts.profile import read_profile
from replenish.errors import NotApplicable
from replenish.units import MILLI

group = typer.Typer(help="Forecasts and backtests.", no_args_is_help=True)
TABLE = "forecasts/demand"


@group.command("show")
def show_forecast(
    sku: Annotated[
        str | None, typer.Option(help="Stock-keeping unit; default: the one with most forecast demand.")
    ] = None,
    location: Annotated[str | None, typer.Option(help="Location.")] = None,
    origin: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Origin; default: the newest.")] = None,
    root: Annotated[Path | None, typer.Option(help="Root of the deployment.")] = None,
) -> None:
    """Mean and quantiles of one series, step by step, with the model that made them."""
    lake = open_deployment(root or default_root()).lake
    if not lake.has(TABLE):
        raise NotApplicable("no forecast yet: run `replenish run`")
    frame = lake.read(TABLE)
    day: date = origin.date() if origin else frame["origin_date"].max()  # type: ignore[assignment]
    frame = frame.filter(pl.col("origin_date") == day)
    if sku is not None:
        frame = frame.filter(pl.col("sku_id") == sku)
    if location is not None:
        frame = frame.filter(pl.col("location_id") == location)
    if frame.is_empty():
        raise NotApplicable("no forecast for this series and origin", sku_id=sku, location_id=location, origin=day)
    first = (
        frame.group_by("sku_id", "location_id")
        .agg(pl.col("mean_milli").sum())
        .sort(["mean_milli", "sku_id", "location_id"], descending=[True, False, False])
    )
    series = frame.join(first.head(1).select("sku_id", "location_id"), on=["sku_id", "location_id"]).sort("step")
    shown = series.select(
        "step",
        "target_date",
        *((pl.col(c) / MILLI).round(2).alias(c.removesuffix("_milli")) for c in series.columns if c.endswith("_milli")),
    )
    row = series.row(0, named=True)
    title = f"{row['sku_id']} at {row['location_id']}, origin {day}, {row['mode']} {str(row['model_digest'])[:12]}"
    open_console().print(frame_table(title, shown))


@group.command("backtest")
def backtest(
    profile: Annotated[str, typer.Option(help="Forecast profile.")] = "full",
    origin: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last origin; default: the data set's.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Root of the deployment.")] = None,
) -> None:
    """Rolling-origin backtest with another profile, beside seasonal naive and moving average; printed, not stored.

    The profile's features are brought up to date first: no run has built those of a profile that none forecasts with.
    """
    # Here and not above: LightGBM takes seconds to import, and every other command would pay for it.
    from replenish.cli.stages import update_demand_features
    from replenish.forecast.backtest import OUR_METHOD, backtest_profile

    deployment = open_deployment(root or default_root())
    console = open_console()
    day = origin.date() if origin else deployment.dataset.origin
    chosen = read_profile(profile)
    with console.status("features"):
        update_demand_features(deployment.lake, deployment.dataset, chosen, through=day)
    with console.status("backtest"):
        summary = backtest_profile(deployment.lake, deployment.dataset, chosen, day)
    by_method = summary.pivot(on="method", index=["steps", "metric"], values="value", sort_columns=True)
    ours = summary.filter(pl.col("method") == OUR_METHOD).select("steps", "metric", "ratio_to_seasonal_naive")
    shown = by_method.join(ours, on=["steps", "metric"], how="left", maintain_order="left")
    console.print(frame_table(f"Backtest, profile {profile}", shown, most=shown.height))
