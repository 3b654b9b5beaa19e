"""`replenish demo`: the whole loop once, and a page that says what happened and where to look next."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.console import Console

from replenish.cli.deployment import CHECKOUT, Deployment, default_root, open_deployment, prepare_deployment, root_for
from replenish.cli.overviews import (
    backtest_overview,
    cancellation_overview,
    hierarchy_overview,
    lead_time_overview,
    service_overview,
    supply_flags,
)
from replenish.cli.run import choose_origin, run_with_progress
from replenish.cli.tables import decision_table, feed_counts_table, frame_table, open_console
from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.dataset_writer import write_dataset
from replenish.contracts.reader import PLATFORM_FOLDER
from replenish.errors import NotApplicable, TableMissing
from replenish.outcomes.retailer import build_world
from replenish.outcomes.retailer_files import write_world
from replenish.outcomes.retailer_plan import RetailerPlan
from replenish.stores.layout import RootLayout

LARGEST_ORDERS = 10
OVERVIEWS: tuple[tuple[str, str, Callable[[pl.DataFrame], pl.DataFrame]], ...] = (
    ("monitoring/cancellations", "Cancelled lines taken in, and whether they found their sale", cancellation_overview),
    ("gold/fct_supply", "Received order lines by lead-time flag", supply_flags),
    ("features/lead_time", "Lead times by supplier [days]", lead_time_overview),
    ("forecasts/backtest_summary", "Backtest, all steps; ratios to seasonal naive", backtest_overview),
    ("forecasts/hierarchy_scores", "WRMSSE by level of the hierarchy (0: mean of the levels)", hierarchy_overview),
    ("outcomes/service_summary", "Simulated service and cost, beside (s,S) on seasonal naive", service_overview),
)


def lay_out_retailer(root: Path, plan: RetailerPlan) -> RootLayout:
    """A root with the built-in retailer's drop files and its feed file."""
    layout = RootLayout(root)
    layout.drop.mkdir(parents=True, exist_ok=True)
    write_world(layout.drop, build_world(plan))
    dataset = read_dataset(PLATFORM_FOLDER / "feeds" / "retailer.yaml")
    # The feed file's own origin is that of a world of the usual length.
    origin = plan.first_date + timedelta(days=plan.n_days)
    write_dataset(replace(dataset, origin=origin), layout.dataset_file)
    return layout


def write_retailer(
    root: Annotated[Path, typer.Argument(help="Root to lay out.")],
    skus: Annotated[int, typer.Option(help="Stock-keeping units.")] = 50,
    locations: Annotated[int, typer.Option(help="Locations.")] = 3,
    days: Annotated[int, typer.Option(help="Days of history.")] = 400,
    seed: Annotated[int, typer.Option(help="Seed of the world.")] = 7,
) -> None:
    """Write the built-in retailer's drop files into a root, without running anything."""
    plan = RetailerPlan(seed=seed, n_skus=skus, n_locations=locations, n_days=days)
    layout = lay_out_retailer(root, plan)
    open_console().print(f"{len(list(layout.drop.iterdir()))} files in {layout.drop}", soft_wrap=True)


def run_demo(
    data: Annotated[Path | None, typer.Option(help="Your folder or file; default: the built-in retailer.")] = None,
    feed: Annotated[Path | None, typer.Option(help="Feed file, where none lies beside the data.")] = None,
    assume: Annotated[Path | None, typer.Option(help="Assumed inputs (YAML); marked on every row they touch.")] = None,
    origin: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Origin date; default: the data set's.")
    ] = None,
) -> None:
    """Run the whole loop, events in, orders out, and print what happened."""
    console = open_console()
    root = root_for(data, feed)
    if data is None:
        console.print("writing the built-in retailer's drop files")
        lay_out_retailer(root, RetailerPlan(seed=7))
    else:
        prepare_deployment(root, data, feed=feed, assume=assume)
    deployment = open_deployment(root)
    day = choose_origin(deployment, origin.date() if origin else None, console)
    run_with_progress(deployment.layout, select="*", origin=day, console=console)
    score_by_level(deployment, day)
    print_summary(deployment, day, data, console)


def score_by_level(deployment: Deployment, origin: date) -> None:
    """Score an origin's forecasts by level of the hierarchy, where the data set has weights and actuals."""
    # Here and not above: the forecast rooms take a second to import, and every other command would pay for it.
    from replenish.forecast.hierarchy_score import score_hierarchy

    with suppress(NotApplicable, TableMissing):
        score_hierarchy(deployment.lake, deployment.dataset, deployment.layout.drop, origin)


def print_summary(deployment: Deployment, origin: date, data: Path | None, console: Console) -> None:
    """The page at the end of a demo: rows, accuracy, orders, money, and where to look next."""
    console.print(feed_counts_table(deployment.journal))
    lake = deployment.lake
    for table, title, overview in OVERVIEWS:
        if lake.has(table):
            console.print(frame_table(title, overview(lake.read(table))))
        else:
            console.print(f"{title}: not_applicable for this data set\n")
    if lake.has("decisions/replenishment"):
        decisions = lake.read("decisions/replenishment").filter(pl.col("origin_date") == origin)
        console.print(
            frame_table(f"Verdicts, origin {origin}", decisions["verdict"].value_counts(sort=True).sort("verdict"))
        )
        orders = decisions.filter(pl.col("order_units") > 0)
        largest = orders.sort(
            ["order_cost_cents", "sku_id", "location_id"], descending=[True, False, False], nulls_last=True
        )
        console.print(decision_table(f"The {LARGEST_ORDERS} largest orders", largest.head(LARGEST_ORDERS)))
    _print_where_next(deployment, data, console)


def _print_where_next(deployment: Deployment, data: Path | None, console: Console) -> None:
    root = deployment.layout.root
    shown = root.relative_to(CHECKOUT) if root.is_relative_to(CHECKOUT) else root
    suffix = f" DATA={data}" if data else ""
    flag = "" if root == default_root() else f"REPLENISH_ROOT={shown} "
    console.print("[bold]Where to look next[/]")
    for command, what in (
        (f"make dev{suffix}", "Dagster UI: lineage, plots, checks, the drift report"),
        (f"{flag}.venv/bin/replenish decisions list", "all order lines; `decisions show <id>` says why"),
        (f"{flag}.venv/bin/replenish forecast show", "one forecast, step by step"),
        (f"{flag}.venv/bin/replenish status", "feeds, freshness, dead letters with reasons"),
        (f"ls {shown}/outbox", "the orders that were executed"),
    ):
        console.print(f"  {command:<52} {what}", highlight=False, soft_wrap=True)
