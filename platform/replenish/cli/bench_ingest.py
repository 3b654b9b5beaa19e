"""The ingest bench: 1 KB events through the whole HTTP door, against a bare SQLite commit loop in the same run.

The door is a real `replenish serve` process on loopback; the sender is a process of its own, whose CPU is stated, since
it shares the machine. The bare loop commits the same events to `j(seq, id, body)` in WAL mode with FULL, in one
process, its connections taking turns: no HTTP, no contract, no hashes, no identity.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import apsw
from rich.console import Console

from replenish.cli.load_generator import LoadPlan, LoadResult, event_line
from replenish.cli.tables import open_console
from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.dataset_writer import write_dataset
from replenish.contracts.reader import PLATFORM_FOLDER
from replenish.errors import BrokenPromise
from replenish.stores.layout import RootLayout

BATCHES = (1, 10, 100, 1000)
CONNECTIONS = (1, 16)
EVENTS_PER_CASE = {1: 2_000, 10: 10_000, 100: 60_000, 1000: 100_000}
ROUNDS = 3
"""Door and bare loop take turns, and the median of each counts: the disk's pace drifts while we measure."""


@dataclass(frozen=True)
class IngestCase:
    """One way to send: events a request and connections, with the figures of door and bare loop."""

    batch: int
    connections: int
    door_events_per_second: float
    bare_events_per_second: float
    ack_p50_ms: float
    ack_p99_ms: float
    sender_cpu_share: float
    """CPU seconds of the sender per second of wall clock."""

    @property
    def ratio(self) -> float:
        """Door against bare loop."""
        return self.door_events_per_second / self.bare_events_per_second


def run_ingest_bench() -> dict[str, object]:
    """All cases of the HTTP door, printed as they are measured; figures by name."""
    console = open_console()
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="replenish-ingest-") as folder, _serving(Path(folder) / "root") as port:
        _print_row(console, "events", "conns", "door ev/s", "bare ev/s", "ratio", "p50 ms", "p99 ms", "sender CPU")
        for connections in CONNECTIONS:
            for batch in BATCHES:
                case = _measure_case(Path(folder), port, batch, connections)
                _print_case(console, case)
                name = f"{batch}_events_{connections}_connections"
                figures |= {
                    f"{name}_events_per_second": case.door_events_per_second,
                    f"{name}_ratio_to_bare": case.ratio,
                    f"{name}_ack_p50_ms": case.ack_p50_ms,
                    f"{name}_ack_p99_ms": case.ack_p99_ms,
                    f"{name}_sender_cpu_share": case.sender_cpu_share,
                }
    return figures


def _measure_case(folder: Path, port: int, batch: int, connections: int) -> IngestCase:
    # A group holds the waiting requests of all connections, so more of them are needed for the same time.
    n_requests = max(EVENTS_PER_CASE[batch] // batch, 4 * connections)
    door: list[LoadResult] = []
    bare: list[float] = []
    for nr in range(ROUNDS):
        prefix = f"{batch}-{connections}-{nr}"
        door.append(_send(LoadPlan(port, prefix, n_requests, connections, batch)))
        bare.append(_bare_events_per_second(folder / f"bare-{prefix}.sqlite", n_requests, batch, connections))
    rates = sorted(result.n_events / result.wall_seconds for result in door)
    middle = sorted(door, key=lambda result: result.n_events / result.wall_seconds)[ROUNDS // 2]
    return IngestCase(
        batch=batch,
        connections=connections,
        door_events_per_second=rates[ROUNDS // 2],
        bare_events_per_second=sorted(bare)[ROUNDS // 2],
        ack_p50_ms=middle.ack_p50_ms,
        ack_p99_ms=middle.ack_p99_ms,
        sender_cpu_share=middle.cpu_seconds / middle.wall_seconds,
    )


def _send(plan: LoadPlan) -> LoadResult:
    done = subprocess.run(
        [sys.executable, "-m", "replenish.cli.load_generator"],
        input=json.dumps(asdict(plan)),
        capture_output=True,
        text=True,
        check=True,
    )
    result = LoadResult(**json.loads(done.stdout))
    if result.n_failed:
        raise BrokenPromise(f"the door refused {result.n_failed} of {plan.n_requests} requests: {done.stderr[:300]}")
    return result


def _bare_events_per_second(path: Path, n_requests: int, batch: int, connections: int) -> float:
    """Events per second of committing the same batches to the plainest table that keeps an id and a body."""
    opened = [_bare_connection(path) for _ in range(connections)]
    template = event_line("#" * 24)
    turns = threading.Lock()

    def commit_share(nr: int) -> None:
        for request in range(nr, n_requests, connections):
            ids = [f"{request * batch + i}".ljust(24, "_") for i in range(batch)]
            rows = [(event_id, template) for event_id in ids]
            with turns:
                opened[nr].execute("begin immediate")
                opened[nr].executemany("insert into j (id, body) values (?, ?)", rows)
                opened[nr].execute("commit")

    threads = [threading.Thread(target=commit_share, args=(nr,)) for nr in range(connections)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - started
    for connection in opened:
        connection.close()
    path.unlink()
    return n_requests * batch / wall


def _bare_connection(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(30_000)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    connection.execute("create table if not exists j (seq integer primary key, id text, body blob)")
    return connection


@contextmanager
def _serving(root: Path) -> Iterator[int]:
    """A door process on a new root; its port. Stopped as a supervisor would stop it."""
    layout = RootLayout(root)
    root.mkdir(parents=True)
    write_dataset(read_dataset(PLATFORM_FOLDER / "feeds" / "retailer.yaml"), layout.dataset_file)
    program = "from replenish.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "serve", "--port", "0"],
        env={**os.environ, "REPLENISH_ROOT": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        first = process.stdout.readline() if process.stdout is not None else ""
        if not first.startswith("listening on "):
            raise BrokenPromise(f"the door did not start: {first}")
        yield int(first.strip().rpartition(":")[2])
    finally:
        process.terminate()
        process.wait(60)


def _print_case(console: Console, case: IngestCase) -> None:
    _print_row(
        console,
        f"{case.batch:,}",
        f"{case.connections}",
        f"{case.door_events_per_second:,.0f}",
        f"{case.bare_events_per_second:,.0f}",
        f"{case.ratio:.2f}",
        f"{case.ack_p50_ms:.2f}",
        f"{case.ack_p99_ms:.2f}",
        f"{case.sender_cpu_share:.2f}",
    )


def _print_row(console: Console, *cells: str) -> None:
    console.print("".join(f"{cell:>12}" for cell in cells), highlight=False)
