"""`replenish ingest`: offer files to the contract gate and print what became of every row."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from replenish.cli.deployment import default_root, now_utc, open_deployment, prepare_deployment, root_for
from replenish.cli.doctor import check_before_start
from replenish.cli.tables import feed_counts_table, file_table, open_console
from replenish.ingest.door import ingest_folder
from replenish.ingest.settle import settle_events


def ingest_files(
    data: Annotated[
        Path | None, typer.Argument(help="Folder or file to offer; default: the root's drop folder.")
    ] = None,
    feed: Annotated[Path | None, typer.Option(help="Feed file, where none lies beside the data.")] = None,
) -> None:
    """Take files through the contract gate, then settle single events: accepted, dead with a reason, or known."""
    console = open_console()
    root = default_root()
    if data is not None:
        root = root_for(data, feed)
        prepare_deployment(root, data, feed=feed, assume=None)
    deployment = open_deployment(root)
    check_before_start(deployment)
    journal, layout = deployment.journal, deployment.layout
    dataset, contracts = deployment.dataset, deployment.contracts
    with console.status("reading files") as shown:
        report = ingest_folder(
            layout.drop,
            dataset,
            contracts,
            journal,
            layout,
            now=now_utc(),
            progress=lambda name: shown.update(f"reading {name}"),
        )
        shown.update("settling single events")
        settled = settle_events(dataset, contracts, journal, layout, now=now_utc(), versions=deployment.versions)
    console.print(file_table(report.files + settled.batches))
    console.print(feed_counts_table(journal))
    if settled.waiting:
        names = escape(", ".join(settled.waiting))
        console.print(f"[yellow]events of feeds that are no longer declared wait[/]: {names}", soft_wrap=True)
    if report.unmatched:
        console.print(f"[yellow]no feed reads these files[/]: {escape(', '.join(report.unmatched))}", soft_wrap=True)
    if report.unsettled:
        names = escape(", ".join(report.unsettled))
        console.print(f"[yellow]changed while they were read, left for the next time[/]: {names}", soft_wrap=True)
