"""One worker of `replenish serve --workers`: started by its supervisor only, with what it inherits from it.

Arguments: descriptors of a listening socket and of a pipe that ends with the supervisor, the number of workers, and
which of them this one is.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from replenish.cli.allocator import tune_allocators

if TYPE_CHECKING:
    from replenish.ingest.http.server import DoorServer


def serve_as_worker(listener: int, life: int, n_workers: int, nr: int) -> int:
    """Serve on an inherited socket until told to stop, or until the supervisor is gone; the exit code."""
    # Imported here: `tune_allocators` comes before libraries that start threads.
    from replenish.cli.deployment import default_root, open_deployment
    from replenish.cli.door_process import run_door
    from replenish.cli.serve_workers import METRICS_VARIABLE, READY
    from replenish.ingest.http.limits import HttpLimits

    def ready(server: DoorServer) -> None:
        threading.Thread(target=_stop_with_supervisor, args=(life, server), daemon=True).start()
        print(READY, flush=True)

    limits = HttpLimits().shared_by(n_workers)
    folder = Path(os.environ[METRICS_VARIABLE])
    sockets = [folder / f"worker-{(nr + distance) % n_workers}.sock" for distance in range(n_workers)]
    return run_door(open_deployment(default_root()), socket.socket(fileno=listener), limits, ready, folder, sockets)


def _stop_with_supervisor(life: int, server: DoorServer) -> None:
    os.read(life, 1)
    server.should_exit = True


if __name__ == "__main__":
    tune_allocators()
    sys.exit(serve_as_worker(*map(int, sys.argv[1:5])))
