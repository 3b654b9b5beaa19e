"""`replenish feeds`: check a feed file against the contracts and a sample of its data, before anything is ingested."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.console import Console

from replenish.cli.deployment import now_utc
from replenish.cli.tables import file_table, frame_table, open_console
from replenish.contracts.dataset_reader import find_dataset, read_dataset
from replenish.contracts.reader import CONTRACT_FOLDER, read_contracts
from replenish.contracts.versions import check_evolution, record_version
from replenish.ingest.door import ingest_folder
from replenish.stores.journal import Journal
from replenish.stores.layout import RootLayout

group = typer.Typer(help="Feed files: how a source maps to the contracts.", no_args_is_help=True)


@group.command("check")
def check_feed(
    data: Annotated[
        Path | None, typer.Argument(help="Folder or file with the data; or the feed file alone; or nothing.")
    ] = None,
    feed: Annotated[Path | None, typer.Option(help="Feed file, where none lies beside the data.")] = None,
    contracts: Annotated[Path, typer.Option(help="Folder of the contracts.")] = CONTRACT_FOLDER,
) -> None:
    """Hold the contracts against their recorded versions, read the feed file strictly, then take the data through the
    gate in a scratch folder that is thrown away.
    """
    console = open_console()
    _check_contracts(contracts, console)
    if data is None:
        return
    known = read_contracts(contracts)
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
        report = ingest_folder(data, dataset, known, Journal(layout.journal), layout, now=now_utc())
    console.print(file_table(report.files))
    if any(verdict.status == "dead" for verdict in report.files):
        raise typer.Exit(1)


@group.command("record")
def record_contracts(
    streams: Annotated[list[str] | None, typer.Argument(help="Streams; default: all.")] = None,
    contracts: Annotated[Path, typer.Option(help="Folder of the contracts.")] = CONTRACT_FOLDER,
) -> None:
    """Keep the newest version of each contract as one that senders were told of; it is never altered from then on."""
    console = open_console()
    for stream in streams or read_contracts(contracts):
        path = record_version(stream, contracts)
        console.print(f"{stream}: {'is recorded' if path is None else f'recorded as {path.name}'}", highlight=False)


def _check_contracts(folder: Path, console: Console) -> None:
    findings = check_evolution(folder, today=now_utc().date())
    if findings:
        rows = [("refused" if f.is_refused else "note", f.stream, f.field or "", f.text) for f in findings]
        schema = ["verdict", "stream", "field", "what"]
        console.print(
            frame_table("Contracts against their recorded versions", pl.DataFrame(rows, schema, orient="row"))
        )
    if any(finding.is_refused for finding in findings):
        raise typer.Exit(1)
    console.print(
        f"[green]ok[/] {len(read_contracts(folder))} contracts follow their recorded versions", soft_wrap=True
    )
