"""One process of the HTTP door: journal, event door, application and server put together, until it is told to stop."""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from replenish.cli.allocator import keep_freed_memory
from replenish.cli.deployment import Deployment, now_utc
from replenish.contracts.doors import HttpSettings, HttpSourceSettings, check_door_feeds, read_doors
from replenish.contracts.versions import live_contract_versions
from replenish.errors import ContractError
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.http.app import HttpDoorOptions, build_app
from replenish.ingest.http.credentials import HttpSource
from replenish.ingest.http.limits import HttpLimits
from replenish.ingest.http.server import DoorServer, door_server
from replenish.ingest.http.siblings import Siblings
from replenish.stores.group_commit import GroupCommit

SHORTEST_SECRET = 16
"""Characters of a token or webhook secret; a shorter one can be guessed."""


def run_door(
    deployment: Deployment,
    listener: socket.socket,
    limits: HttpLimits,
    on_ready: Callable[[DoorServer], None],
    metrics_folder: Path | None = None,
    sockets: Sequence[Path] = (),
) -> int:
    """Serve HTTP on a listening socket until told to stop, and close the journal; the exit code.

    Args:
        deployment: Whose journal is written; its doors.yaml and the environment say who may write.
        listener: A bound, listening socket.
        limits: Bounds of this process.
        on_ready: Called with the server right before it takes the first connection.
        metrics_folder: Where the counters of all processes of the door are, if there are several.
        sockets: Where they help one another: this one's place first.
    """
    journal = deployment.journal
    group = GroupCommit(journal, now_utc)
    try:
        doors = read_doors(deployment.layout.doors_file)
        door = EventDoor(deployment.dataset, deployment.contracts, group, now_utc, live_contract_versions())
        check_door_feeds(doors, frozenset(door.feeds))
        servers: list[DoorServer] = []
        siblings = Siblings(door, sockets[0], sockets[1:]) if sockets else None
        options = HttpDoorOptions(sources_of(doors.http), limits, lambda: servers[0].fail(), metrics_folder, siblings)
        app = build_app(door, group, deployment.contracts, options, now_utc)
        tls = doors.http.tls
        servers.append(
            door_server(app, limits, tls.certificate, tls.key) if tls is not None else door_server(app, limits)
        )
        servers[0].on_startup = None if siblings is None else siblings.listen
        _collect_seldom()
        keep_freed_memory()
        on_ready(servers[0])
        servers[0].run([listener])
    finally:
        # Libraries look for what they left behind when the process ends.
        gc.unfreeze()
        group.close()
        journal.close()
    if group.failure is not None:
        print(f"stopped: {group.failure}", file=sys.stderr)
    return servers[0].exit_code


def sources_of(http: HttpSettings) -> tuple[HttpSource, ...]:
    """The sources of doors.yaml with the secrets that their variables hold.

    Raises:
        ContractError: A variable is not set, or its secret is too short.
    """
    return tuple(_with_secrets(source) for source in http.sources)


def _collect_seldom() -> None:
    """Leave what is loaded by now out of garbage collections, and collect less often.

    A request of a thousand events makes some ten thousand short-lived objects and no cycles; by default that is a
    collection every few hundred of them, some over all libraries, in the middle of an answer.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _with_secrets(source: HttpSourceSettings) -> HttpSource:
    """The source with the secrets that its variables hold."""
    token = None if source.token_variable is None else _secret(source.token_variable)
    secrets = tuple(_secret(name) for name in source.webhook_secret_variables)
    return HttpSource(source.source, frozenset(source.feeds), token, secrets)


def _secret(variable: str) -> str:
    value = os.environ.get(variable, "")
    if len(value) < SHORTEST_SECRET:
        raise ContractError(
            f"doors.yaml: the environment variable {variable} must hold a secret of at least {SHORTEST_SECRET} "
            "characters; it is not set or too short",
            variable=variable,
        )
    return value
