"""`replenish serve`: the HTTP door of one deployment, in one process or several, until it is told to stop."""

from __future__ import annotations

from typing import Annotated

import typer

from replenish.cli.deployment import Deployment, default_root, open_deployment
from replenish.cli.doctor_visit import require_sound_journal
from replenish.cli.door_process import run_door, sources_of
from replenish.cli.serve_workers import run_workers
from replenish.contracts.doors import HttpSettings, check_door_feeds, read_doors
from replenish.ingest.events.event_feeds import event_feeds
from replenish.ingest.http.limits import HttpLimits
from replenish.ingest.http.server import check_bind, listening_socket, listening_sockets
from replenish.stores.locks import hold


def serve_http(
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one. Default: doors.yaml, else 8080.")] = None,
    host: Annotated[str | None, typer.Option(help="Address. Default: doors.yaml, else 127.0.0.1.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the port; about one a core.")] = 1,
) -> None:
    """Take single events over HTTP: judged by the contracts, durable before they are answered."""
    deployment = open_deployment(default_root())
    require_sound_journal(deployment.layout)
    http = read_doors(deployment.layout.doors_file).http
    address = host or http.host
    check_bind(address, sources_of(http), has_tls=http.tls is not None)
    at = http.port if port is None else port
    with hold(deployment.layout.locks / "serve.lock", "serve HTTP for this root") as lock:
        if workers == 1:
            listener = listening_socket(address, at)
            name = listener.getsockname()
            code = run_door(deployment, listener, HttpLimits(), lambda _: _announce(deployment, http, name))
        else:
            check_door_feeds(read_doors(deployment.layout.doors_file), frozenset(_feeds(deployment)))
            deployment.journal.close()
            listeners = listening_sockets(address, at, workers)
            name = listeners[0].getsockname()
            code = run_workers(listeners, lock, lambda: _announce(deployment, http, name, workers))
    raise typer.Exit(code)


def _feeds(deployment: Deployment) -> list[str]:
    return sorted(event_feeds(deployment.dataset, deployment.contracts))


def _announce(deployment: Deployment, http: HttpSettings, address: tuple[str, int], n_workers: int = 1) -> None:
    scheme = "http" if http.tls is None else "https"
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    lines = [
        f"listening on {scheme}://{host}:{address[1]}",
        f"  root     {deployment.layout.root}",
        f"  feeds    {', '.join(_feeds(deployment))}",
    ]
    if n_workers > 1:
        lines.append(f"  workers  {n_workers} processes")
    if not http.sources:
        lines.append("  sources  any, without proof (doors.yaml names none; reachable from this machine only)")
    for source in http.sources:
        proofs = {"token": source.token_variable, "signature": source.webhook_secret_variables}
        named = " or ".join(name for name, variable in proofs.items() if variable) or "without proof"
        lines.append(f"  source   {source.source}: {', '.join(source.feeds)} ({named})")
    # Whoever started us through a pipe waits for the first line.
    print("\n".join(lines), flush=True)
