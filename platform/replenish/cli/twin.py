"""`replenish twin`: features of each key kept up to date in a process of their own, and served."""

from __future__ import annotations

import gc
import ipaddress
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from replenish.cli.allocator import keep_freed_memory
from replenish.cli.deployment import CHECKOUT, Deployment, default_root, now_utc, open_deployment
from replenish.cli.doctor_visit import require_sound_journal
from replenish.cli.twin_app import ServedSets, build_twin_app
from replenish.cli.twin_follower import SnapshotPace, TwinFollower, chosen_sets
from replenish.digests import file_digest, json_digest
from replenish.errors import ContractError
from replenish.features.definitions.reader import read_feature_sets
from replenish.features.online.served_log import ServedLog
from replenish.features.online.twin_plan import KeptHistory
from replenish.ingest.http.limits import HttpLimits
from replenish.ingest.http.server import DoorServer, door_server, listening_socket
from replenish.stores.locks import hold

DEFAULT_PORT = 8081
KEPT_DAYS = 800
"""By default: active days without a window, as for the age of a series; 16 bytes each."""
KEPT_VERSIONS = 4
"""By default: so many versions of a latest value may be retracted in a row without a question being refused."""
SWITCH_SECONDS = 0.0002
"""A thread gives way after so long: an answer never waits for 5 ms of somebody else's work."""

_CODE_OF_FEATURES = ("contracts", "ingest", "history", "features/definitions", "features/online")

group = typer.Typer(
    help="The online twin: features of each key, kept up with the log and served.", no_args_is_help=True
)


@group.command("serve")
def serve_twin(
    sets: Annotated[list[str] | None, typer.Argument(help="Feature sets; default: all.")] = None,
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = DEFAULT_PORT,
    host: Annotated[str, typer.Option(help="A loopback address: there is no authentication.")] = "127.0.0.1",
    snapshot_seconds: Annotated[float, typer.Option(min=1, help="A snapshot at least so often.")] = 300.0,
    snapshot_records: Annotated[int, typer.Option(min=1, help="And after so many records of the log.")] = 50_000,
    keep_days: Annotated[int, typer.Option(min=0, help="Days of history beyond all windows; 0: all.")] = KEPT_DAYS,
    keep_versions: Annotated[int, typer.Option(min=0, help="Versions of a latest value; 0: all.")] = KEPT_VERSIONS,
    log_every: Annotated[int, typer.Option(min=0, help="Keep every nth answer for reconciliation; 0: none.")] = 100,
) -> None:
    """Serve features at GET /features/{set}/{key}: as known now, or at the last cut-off for daily sets.

    The process follows the log, takes snapshots, and starts again from the newest one. A key is its parts in the order
    of the set's entity columns, separated by commas, each percent-encoded: /features/stock_now/sku-1,store-2
    """
    deployment = open_deployment(default_root())
    require_sound_journal(deployment.layout)
    _check_loopback(host)
    listener = listening_socket(host, port)
    feature_sets = chosen_sets(sets or (), read_feature_sets())
    limits = KeptHistory(keep_days or None, keep_versions or None)
    with hold(deployment.layout.locks / "twin.lock", "serve features of this root"):
        sys.setswitchinterval(SWITCH_SECONDS)
        pace = SnapshotPace(snapshot_seconds, snapshot_records)
        follower = TwinFollower(deployment, feature_sets, limits, now_utc, pace)
        for note in follower.notes:
            print(note, flush=True)
        try:
            follower.take_in()
            code = _serve(deployment, follower, listener, log_every)
        finally:
            follower.stop()
        if follower.failure is not None:
            print(f"stopped: {follower.failure!r}", file=sys.stderr)
    raise typer.Exit(code)


def features_code_digest() -> str:
    """Of the code between the log and a served vector: equal digests compute equal values."""
    package = CHECKOUT / "platform" / "replenish"
    files = sorted(path for room in _CODE_OF_FEATURES for path in (package / room).rglob("*.py"))
    return json_digest({path.relative_to(package).as_posix(): file_digest(path) for path in files})


def _serve(deployment: Deployment, follower: TwinFollower, listener: object, log_every: int) -> int:
    folder = deployment.layout.twin
    logs = {name: ServedLog(folder / name / "served", log_every) for name in follower.twins}
    served = ServedSets(follower, deployment.contracts, logs, features_code_digest(), version("replenish"))
    server: DoorServer = door_server(build_twin_app(served, now_utc), HttpLimits())
    collect_seldom()
    keep_freed_memory()
    follower.start(server.fail)
    host, port = listener.getsockname()[:2]  # type: ignore[attr-defined]
    address = f"[{host}]" if ":" in host else host
    # Whoever started us through a pipe waits for this line.
    print(f"listening on http://{address}:{port}", flush=True)
    print(f"  root  {deployment.layout.root}\n  sets  {', '.join(follower.twins)}", flush=True)
    try:
        server.run([listener])  # type: ignore[list-item]
    finally:
        gc.unfreeze()
        for log in logs.values():
            log.close()
    return server.exit_code


def collect_seldom() -> None:
    """Leave the states out of garbage collections: there are millions of objects and hardly a cycle among them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _check_loopback(host: str) -> None:
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ContractError(
            f"{host} can be reached from outside and the twin asks nobody who they are: bind 127.0.0.1, and put a "
            "proxy in front that does",
            rule="bind",
        )
