"""`replenish run` and `replenish dev`: one origin through the whole graph, and the UI to look at it."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from replenish.bitemporal import knowledge_date_expr
from replenish.cli.dagster_process import materialize, serve
from replenish.cli.deployment import Deployment, default_root, now_utc, open_deployment, prepare_deployment, root_for
from replenish.cli.doctor import check_before_start
from replenish.cli.tables import open_console
from replenish.contracts.model import TIMESTAMP
from replenish.control.passed_origins import newest_passed_origin
from replenish.errors import ContractError
from replenish.stores.journal_entry import PART_BEARING
from replenish.stores.layout import RootLayout

STEPS_OF_THE_GRAPH = 40
"""For the progress bar only: steps of `--select '*'`; a wrong figure shows a wrong bar and nothing else."""


def run_with_progress(layout: RootLayout, *, select: str, origin: date | None, console: Console) -> Path:
    """Materialize `select` for `origin`, showing each finished step. Returns the log file."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
        task = progress.add_task("starting Dagster", total=STEPS_OF_THE_GRAPH if select == "*" else None)

        def show(step: str) -> None:
            progress.update(task, advance=1, description=step)
            if not console.is_terminal:
                console.print(f"  done: {step}")

        return materialize(layout, select=select, origin=origin, on_step=show)


def choose_origin(deployment: Deployment, asked: date | None, console: Console) -> date:
    """The origin to run: the one asked for, else the data set's, else the first that sees all data and has passed.

    Raises:
        ContractError: Nothing was accepted, so there is no origin to choose; or the cut-off of the one asked for lies
            ahead.
    """
    dataset = deployment.dataset
    passed = newest_passed_origin(now_utc(), dataset.zone, dataset.cutoff)
    if chosen := asked or dataset.origin:
        if chosen > passed:
            cutoff = f"{dataset.cutoff:%H:%M} {dataset.zone}"
            raise ContractError(f"the cut-off of origin {chosen} ({cutoff}) lies ahead; the newest to run is {passed}")
        return chosen
    run_with_progress(deployment.layout, select="event_log", origin=None, console=console)
    records = deployment.journal.records(type=PART_BEARING)
    newest = [str(record.data["knowledge_time_max"]) for record in records if record.data.get("knowledge_time_max")]
    if not newest:
        raise ContractError("no row was accepted, so there is no origin to run: `replenish status` says why")
    known = pl.Series("known", [max(map(datetime.fromisoformat, newest))], TIMESTAMP).to_frame()
    sees_all: date = known.select(knowledge_date_expr("known", dataset.zone, dataset.cutoff)).item()
    if sees_all > passed:
        console.print(
            f"what became known after {dataset.cutoff:%H:%M} is seen by the origin {sees_all}, not by that of {passed}"
        )
    return min(sees_all, passed)


def run_one_origin(
    origin: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Origin date; default: the data set's.")
    ] = None,
    select: Annotated[str, typer.Option(help="Dagster asset selection.")] = "*",
    data: Annotated[Path | None, typer.Option(help="Set up a root for this folder or file first.")] = None,
    feed: Annotated[Path | None, typer.Option(help="Feed file, where none lies beside the data.")] = None,
    assume: Annotated[Path | None, typer.Option(help="Assumed inputs (YAML); marked on every row they touch.")] = None,
) -> None:
    """Run the loop for one origin: events, tables, forecast, decisions. Twice equals once."""
    console = open_console()
    root = root_for(data, feed)
    if data is not None:
        prepare_deployment(root, data, feed=feed, assume=assume)
    deployment = open_deployment(root)
    check_before_start(deployment)
    day = choose_origin(deployment, origin.date() if origin else None, console)
    log = run_with_progress(deployment.layout, select=select, origin=day, console=console)
    console.print(
        f"origin {day} is done. Details: {log}. Next: `replenish decisions list`, `make dev`.", soft_wrap=True
    )


def serve_ui(
    data: Annotated[Path | None, typer.Option(help="Serve the root of this data set.")] = None,
    feed: Annotated[Path | None, typer.Option(help="Feed file, where none lies beside the data.")] = None,
    assume: Annotated[Path | None, typer.Option(help="Assumed inputs, when the root is set up by this call.")] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 3000,
) -> None:
    """Serve the Dagster UI and its daemon (sensors, schedules, freshness) on 127.0.0.1."""
    root = root_for(data, feed) if data else default_root()
    if data is not None:
        prepare_deployment(root, data, feed=feed, assume=assume)
    layout = open_deployment(root).layout
    open_console().print(f"Dagster on http://127.0.0.1:{port} for {layout.root} (Ctrl-C stops it)", soft_wrap=True)
    raise typer.Exit(serve(layout, port=port))
