"""`replenish serve`: the HTTP door of one deployment, in one process, until it is told to stop."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from typing import Annotated

import typer

from replenish.cli.deployment import Deployment, default_root, now_utc, open_deployment
from replenish.cli.doctor_visit import require_sound_journal
from replenish.contracts.doors import HttpSettings, HttpSourceSettings, check_door_feeds, read_doors
from replenish.contracts.versions import live_contract_versions
from replenish.errors import ContractError
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.http.app import HttpDoorOptions, build_app
from replenish.ingest.http.credentials import HttpSource
from replenish.ingest.http.limits import HttpLimits
from replenish.ingest.http.server import DoorServer, check_bind, door_server, listening_socket
from replenish.stores.group_commit import GroupCommit
from replenish.stores.locks import hold

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""As malloc.h of glibc has them."""
LARGEST_KEPT_PIECE, KEPT_BYTES = 4 << 20, 32 << 20
SHORTEST_SECRET = 16
"""Characters of a token or webhook secret; a shorter one can be guessed."""


def serve_http(
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one. Default: doors.yaml, else 8080.")] = None,
    host: Annotated[str | None, typer.Option(help="Address. Default: doors.yaml, else 127.0.0.1.")] = None,
) -> None:
    """Take single events over HTTP: judged by the contracts, durable before they are answered."""
    deployment = open_deployment(default_root())
    require_sound_journal(deployment.layout)
    doors = read_doors(deployment.layout.doors_file)
    http, limits = doors.http, HttpLimits()
    sources = tuple(_with_secrets(source) for source in http.sources)
    address = host or http.host
    check_bind(address, sources, has_tls=http.tls is not None)
    with hold(deployment.layout.locks / "serve.lock", "serve HTTP for this root"):
        journal = deployment.journal
        group = GroupCommit(journal, now_utc)
        try:
            door = EventDoor(deployment.dataset, deployment.contracts, group, now_utc, live_contract_versions())
            check_door_feeds(doors, frozenset(door.feeds))
            servers: list[DoorServer] = []
            options = HttpDoorOptions(sources, limits, on_writer_failed=lambda: servers[0].fail())
            app = build_app(door, group, deployment.contracts, options, now_utc)
            tls = http.tls
            servers.append(
                door_server(app, limits, tls.certificate, tls.key) if tls is not None else door_server(app, limits)
            )
            listener = listening_socket(address, http.port if port is None else port)
            _collect_seldom()
            _keep_freed_memory()
            _announce(deployment, http, door, listener.getsockname())
            servers[0].run([listener])
        finally:
            # Libraries look for what they left behind when the process ends.
            gc.unfreeze()
            group.close()
            journal.close()
    if group.failure is not None:
        print(f"stopped: {group.failure}", file=sys.stderr)
    raise typer.Exit(servers[0].exit_code)


def _collect_seldom() -> None:
    """Leave what is loaded by now out of garbage collections, and collect less often.

    A request of a thousand events makes some ten thousand short-lived objects and no cycles; by default that is a
    collection every few hundred of them, some over all libraries, in the middle of an answer.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _keep_freed_memory() -> None:
    """Let the C library keep what requests give back, for the next ones, instead of returning it to the system.

    A body of a megabyte is copied a few times on its way; with memory fresh from the system every copy costs a page
    fault for each 4 KB, a tenth of the CPU of a request. Pieces of more than 4 MB still go back at once.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        tune(_M_MMAP_THRESHOLD, LARGEST_KEPT_PIECE)
        tune(_M_TRIM_THRESHOLD, KEPT_BYTES)


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


def _announce(deployment: Deployment, http: HttpSettings, door: EventDoor, address: tuple[str, int]) -> None:
    scheme = "http" if http.tls is None else "https"
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    lines = [
        f"listening on {scheme}://{host}:{address[1]}",
        f"  root     {deployment.layout.root}",
        f"  feeds    {', '.join(sorted(door.feeds))}",
    ]
    if not http.sources:
        lines.append("  sources  any, without proof (doors.yaml names none; reachable from this machine only)")
    for source in http.sources:
        proofs = {"token": source.token_variable, "signature": source.webhook_secret_variables}
        named = " or ".join(name for name, variable in proofs.items() if variable) or "without proof"
        lines.append(f"  source   {source.source}: {', '.join(source.feeds)} ({named})")
    # Whoever started us through a pipe waits for the first line.
    print("\n".join(lines), flush=True)
