"""Several processes behind one port: started, watched, started again after a kill, and stopped together.

Each worker has a listening socket of its own for the same address (the kernel spreads connections over them), its own
event loop and its own writer; they take turns in the journal. The sockets belong to the supervisor, so connections
that wait while a worker is started again are not lost. Workers hold the lock of the root with it: even where the
supervisor is killed, no second door starts before the last of them is gone.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from prometheus_client.multiprocess import mark_process_dead

from replenish.ingest.http.server import DRAIN_SECONDS

LOOK_SECONDS = 0.2
MOST_RESTARTS = 5
"""So many killed workers are replaced within `RESTART_SPAN_SECONDS`; with one more, all stop: something is wrong that
starting again does not mend."""
RESTART_SPAN_SECONDS = 60.0
READY = "ready"
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Read by prometheus_client when it is imported: a folder where each process keeps its counts for all to see."""


class _Worker(NamedTuple):
    process: subprocess.Popen[str]
    listener: socket.socket


class _Supervisor:
    """The workers of one door, by their sockets."""

    def __init__(self, listeners: list[socket.socket], lock: int, metrics_folder: str) -> None:
        self._lock, self._folder, self._n = lock, metrics_folder, len(listeners)
        # Nothing is ever written to it: workers see its end when this process is gone.
        self._life, self._kept = os.pipe()
        self._restarts: list[float] = []
        self.is_stopping = threading.Event()
        self._workers = [self._start(nr, listener) for nr, listener in enumerate(listeners)]

    def await_ready(self) -> bool:
        """Whether all workers came up."""
        return all(_is_ready(worker) for worker in self._workers)

    def watch(self) -> int:
        """Until a stop is asked for or a worker ends by itself; then stop all. The exit code."""
        while not self.is_stopping.wait(LOOK_SECONDS):
            for nr, worker in enumerate(self._workers):
                code = worker.process.poll()
                if code is None:
                    continue
                mark_process_dead(worker.process.pid, self._folder)
                if code >= 0 or not self._may_restart():
                    print(f"a worker ended with {code}: the door closes", file=sys.stderr)
                    self.stop()
                    return 1
                print(f"a worker was killed by signal {-code}: starting another one", file=sys.stderr)
                self._workers[nr] = self._start(nr, worker.listener)
                if not _is_ready(self._workers[nr]):
                    self.stop()
                    return 1
        return self.stop()

    def stop(self) -> int:
        """Pass the stop on, wait until all have answered what is under way; 0 where all ended well."""
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + DRAIN_SECONDS + 5
        codes = []
        for worker in self._workers:
            try:
                codes.append(worker.process.wait(max(0.0, deadline - time.monotonic())))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                codes.append(worker.process.wait())
        # A worker that was told to stop before it took its first connection ends by the signal itself.
        return 0 if set(codes) <= {0, -signal.SIGTERM} else 1

    def _start(self, nr: int, listener: socket.socket) -> _Worker:
        descriptors = (listener.fileno(), self._lock, self._life)
        numbers = (listener.fileno(), self._life, self._n, nr)
        process = subprocess.Popen(
            [sys.executable, "-m", "replenish.cli.serve_worker", *map(str, numbers)],
            env={**os.environ, METRICS_VARIABLE: self._folder},
            pass_fds=descriptors,
            stdout=subprocess.PIPE,
            text=True,
        )
        return _Worker(process, listener)

    def _may_restart(self) -> bool:
        now = time.monotonic()
        self._restarts = [*(at for at in self._restarts if now - at < RESTART_SPAN_SECONDS), now]
        return len(self._restarts) <= MOST_RESTARTS


def run_workers(listeners: list[socket.socket], lock: int, announce: Callable[[], None]) -> int:
    """One worker a socket until SIGTERM or SIGINT, or until one ends by itself; the exit code.

    Args:
        listeners: Listening sockets for one address.
        lock: Descriptor of the root's lock, which the workers inherit.
        announce: Called once when every worker is ready.
    """
    with tempfile.TemporaryDirectory(prefix="replenish-serve-") as folder:
        supervisor = _Supervisor(listeners, lock, folder)
        with _stopping_on_signals(supervisor.is_stopping):
            if not supervisor.await_ready():
                supervisor.stop()
                return 1
            announce()
            return supervisor.watch()


def _is_ready(worker: _Worker) -> bool:
    """Whether it said so before it ended."""
    return worker.process.stdout is not None and worker.process.stdout.readline().strip() == READY


@contextmanager
def _stopping_on_signals(stop: threading.Event) -> Iterator[None]:
    wanted = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
