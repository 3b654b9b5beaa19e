"""The `replenish` command: groups of commands, and errors as one readable line."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.markup import escape

from replenish.cli import (
    bench,
    dead_letters,
    decisions,
    demo,
    doctor,
    features,
    feeds,
    follow,
    follow_kafka,
    forecast,
    ingest,
    maintain,
    publish,
    rebuild,
    run,
    seal,
    serve,
    settle,
    standby,
    status,
    twin,
)
from replenish.cli.deployment import default_root
from replenish.errors import ReplenishError
from replenish.stores.full_disk import refusing_when_full

app = typer.Typer(
    name="replenish",
    help="A supply chain's nervous system: events in, explained replenishment orders out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("demo")(demo.run_demo)
app.command("retailer")(demo.write_retailer)
app.command("dev")(run.serve_ui)
app.command("ingest")(ingest.ingest_files)
app.command("run")(run.run_one_origin)
app.command("seal")(seal.seal_log)
app.command("serve")(serve.serve_http)
app.command("settle")(settle.settle_waiting)
app.command("status")(status.show_status)
app.command("doctor")(doctor.call_doctor)
app.command("rebuild")(rebuild.rebuild_tables_from_log)
app.command("maintain")(maintain.maintain_tables)
app.command("bench")(bench.run_bench)
app.add_typer(forecast.group, name="forecast")
app.add_typer(dead_letters.group, name="dead-letters")
app.add_typer(decisions.group, name="decisions")
app.add_typer(feeds.group, name="feeds")
app.add_typer(features.group, name="features")
app.add_typer(standby.group, name="standby")
app.add_typer(twin.group, name="twin")
app.add_typer(follow.group, name="follow")
app.add_typer(publish.group, name="publish")
follow.group.command("kafka")(follow_kafka.follow_kafka)


def main() -> None:
    """The command: an expected error, or any of a full disk, is one line and exit code 2, all else a traceback."""
    try:
        with refusing_when_full("go on", default_root()):
            app()
    except ReplenishError as error:
        # Ids stand in square brackets, which rich would take for markup and leave out.
        line = f"[bold red]{type(error).__name__}[/]: {escape(str(error))}"
        Console(stderr=True).print(line, soft_wrap=True, highlight=False)
        sys.exit(2)
