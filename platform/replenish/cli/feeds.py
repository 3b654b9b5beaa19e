"""`replenish feeds`: check a feed file against the contracts and a sample of its data, before anything is ingested."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from replenish.cli.deployment import now_utc
from replenish.cli.tables import file_table, open_console
from replenish.contracts.dataset_reader import find_dataset, read_dataset
from replenish.contracts.reader import read_contracts
from replenish.ingest.door import ingest_folder
from replenish.stores.journal import Journal
from replenish.stores.layout import RootLayout

group = typer.Typer(help="Feed files: how a source maps to the contracts.", no_args_is_help=True)


@group.command("check")
def check_feed(
    data: Annotated[Path, typer.Argument(help="Folder or file with the data; or the feed file alone.")],
    feed: Annotated[Path | None, typer.Option(help="Feed file, where none lies beside the data.")] = None,
) -> None:
    """Read the feed file strictly, then take the data through the gate in a scratch folder that is thrown away."""
    console = open_console()
    contracts = read_contracts()
    is_feed_file = data.is_file() and data.suffix in {".yaml", ".yml"}
    source = data if is_feed_file else find_dataset(data, feed)
    dataset = read_dataset(source)
    streams = ", ".join(sorted({f.stream for f in dataset.feeds}))
    console.print(
        f"[green]ok[/] {source.name}: data set {dataset.dataset_id}, {len(dataset.feeds)} feeds, streams {streams}"
    )
    if is_feed_file:
        return
    with tempfile.TemporaryDirectory() as scratch, console.status("dry run"):
        layout = RootLayout(Path(scratch))
        report = ingest_folder(data, dataset, contracts, Journal(layout.journal), layout, now=now_utc())
    console.print(file_table(report.files))
    if any(verdict.status == "dead" for verdict in report.files):
        raise typer.Exit(1)
