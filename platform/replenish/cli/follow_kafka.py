"""`replenish follow kafka`: take the messages of topics until told to stop, or until their end with `--once`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from replenish.cli.deployment import Deployment, default_root, now_utc, open_deployment
from replenish.cli.doctor_visit import require_sound_journal
from replenish.cli.tables import open_console
from replenish.contracts.doors import KafkaSettings, check_door_feeds, read_doors
from replenish.contracts.versions import live_contract_versions
from replenish.errors import ContractError, StoreError
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.kafka.follower import KafkaFollower, consumer_settings
from replenish.ingest.kafka.follower_metrics import write_follower_metrics
from replenish.stores.group_commit import GroupCommit
from replenish.stores.locks import hold

METRICS_SECONDS = 5.0
JOIN_SECONDS = 60.0
"""How long `--once` waits for the group to give it a partition."""


def follow_kafka(
    name: Annotated[str, typer.Argument(help="Name of the door in doors.yaml.")],
    once: Annotated[bool, typer.Option(help="Stop at the end of every partition.")] = False,
    root: Annotated[Path | None, typer.Option(help="Root of the deployment.")] = None,
) -> None:
    """Take messages from Kafka: judged by the contracts, offsets committed only once they are durable."""
    deployment = open_deployment(root or default_root())
    doors = read_doors(deployment.layout.doors_file)
    settings = next((door for door in doors.kafka if door.name == name), None)
    if settings is None:
        known = ", ".join(door.name for door in doors.kafka) or "none"
        raise ContractError(f"doors.yaml has no kafka door {name!r}; known: {known}")
    options = consumer_settings(settings, os.environ)
    require_sound_journal(deployment.layout)
    stopped = _stop_on_signals()
    with hold(deployment.layout.locks / f"door-{name}.lock", f"follow the Kafka door {name}"):
        journal = deployment.journal
        group = GroupCommit(journal, now_utc)
        try:
            door = EventDoor(deployment.dataset, deployment.contracts, group, now_utc, live_contract_versions())
            check_door_feeds(doors, frozenset(door.feeds))
            follower = KafkaFollower(settings, options, door, group, stopped.wait)
            try:
                _follow(follower, settings, deployment, stopped, once=once)
            finally:
                follower.close()
        finally:
            group.close()
            journal.close()


def _follow(
    follower: KafkaFollower, settings: KafkaSettings, deployment: Deployment, stopped: threading.Event, *, once: bool
) -> None:
    console = open_console()
    console.print(f"following {', '.join(settings.topics)} on {settings.brokers}", highlight=False, soft_wrap=True)
    sys.stdout.flush()
    path = deployment.layout.metrics / f"kafka-{settings.name}.prom"
    if once:
        follower.check_brokers()
    began = written = time.monotonic()
    while not stopped.is_set():
        follower.step()
        if time.monotonic() - written > METRICS_SECONDS:
            written = time.monotonic()
            write_follower_metrics(settings.name, follower.seen, path)
        if once and follower.is_caught_up():
            break
        if once and follower.seen.offered == 0 and time.monotonic() - began > JOIN_SECONDS:
            raise StoreError("the group gave us no partition: does another consumer hold them?", group=settings.group)
    write_follower_metrics(settings.name, follower.seen, path)
    _report(console, follower)


def _report(console: Console, follower: KafkaFollower) -> None:
    seen = follower.seen
    words = f"offered {seen.offered}, accepted {seen.accepted}, dead {seen.dead}, duplicate {seen.duplicate}"
    console.print(f"{words}, behind by {sum(seen.lag.values())}", highlight=False)


def _stop_on_signals() -> threading.Event:
    """Set when the process is asked to end: the batch under way is finished first."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    return stopped
