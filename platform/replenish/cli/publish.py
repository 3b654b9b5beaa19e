"""`replenish publish`: carry executed orders to the bus that doors.yaml names."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from replenish.cli.deployment import default_root, open_deployment
from replenish.cli.tables import open_console
from replenish.contracts.doors import read_doors
from replenish.errors import NotApplicable
from replenish.stores.bus import DecisionBus
from replenish.stores.locks import hold

group = typer.Typer(help="Carry what was decided to the outside.", no_args_is_help=True)
PAUSE_SECONDS = 5.0


@group.command("decisions")
def publish_decisions(
    once: Annotated[bool, typer.Option(help="Send what waits, then stop.")] = False,
    root: Annotated[Path | None, typer.Option(help="Root of the deployment.")] = None,
) -> None:
    """Send every order of the outbox to the topic of `bus:`; an order that was taken is not sent again."""
    deployment = open_deployment(root or default_root())
    settings = read_doors(deployment.layout.doors_file).bus
    if settings is None:
        raise NotApplicable("doors.yaml names no bus: add `bus: {brokers: ..., topic: ...}`")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    console = open_console()
    with hold(deployment.layout.locks / "bus.lock", "publish decisions"):
        bus = DecisionBus(settings, deployment.layout)
        while True:
            report = bus.publish()
            if report.sent or report.failed:
                why = f"; {report.fault}" if report.fault else ""
                console.print(f"sent {report.sent}, failed {report.failed}{why}", highlight=False, soft_wrap=True)
            if once:
                raise typer.Exit(1 if report.failed else 0)
            if stopped.wait(PAUSE_SECONDS):
                return
