"""The ingest bench: 1 KB events through the whole HTTP door, against a bare SQLite commit loop in the same run.

The door is a real `replenish serve` on loopback, with a worker a core; the sender is a process of its own, whose CPU is
stated, since it shares the machine. The bare loop commits the same events to `j(seq, id, body)` in WAL mode with FULL,
in one process, its connections taking turns: no HTTP, no contract, no hashes, no identity, no packing. Between the two
stands the plainest door, HTTP and that loop: what any door of this server library loses on one connection.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from replenish.cli.bench_plain_door import plain_connection
from replenish.cli.load_generator import EVENT_BYTES, LoadPlan, LoadResult, varied_lines
from replenish.cli.process_cpu import cpu_seconds_of
from replenish.cli.tables import open_console
from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.dataset_writer import write_dataset
from replenish.contracts.reader import PLATFORM_FOLDER
from replenish.errors import BrokenPromise
from replenish.stores.layout import RootLayout
from replenish.stores.packed_bodies import pack_bodies

BATCHES = (1, 10, 100, 1000)
SENDERS = ((1, 1), (1, 32), (16, 1))
"""Connections, and requests under way on each: a sender that waits for every answer, one that sends on meanwhile
(HTTP pipelining), and a crowd."""
SECONDS_OF_A_TURN = 1.2
"""So long the door and the bare loop each go on in a round, by the pace of the warming up; long enough for several
checkpoints of both at the larger batches."""
FEWEST_EVENTS, MOST_EVENTS = 200, 150_000
ROUNDS = 7
"""Door and bare loop take turns, and each round has its own ratio: the pace of disk and machine drifts meanwhile."""
WORKERS = max(1, min(4, os.cpu_count() or 1))
"""Processes of the door."""


@dataclass(frozen=True)
class IngestRound:
    """One round: the door and the bare loop, right after one another."""

    load: LoadResult
    plain: LoadResult
    bare_events_per_second: float
    door_cpu_seconds: float

    @property
    def door_events_per_second(self) -> float:
        """Events that were acknowledged, per second of wall clock."""
        return self.load.n_events / self.load.wall_seconds

    @property
    def ratio(self) -> float:
        """Door against bare loop."""
        return self.door_events_per_second / self.bare_events_per_second

    @property
    def plain_ratio(self) -> float:
        """The plainest door against bare loop."""
        return self.plain.n_events / self.plain.wall_seconds / self.bare_events_per_second


@dataclass(frozen=True)
class IngestCase:
    """One way to send: events a request, connections, requests under way on each; with the medians of both sides."""

    batch: int
    connections: int
    under_way: int
    turns: tuple[IngestRound, ...]

    def middle(self, figure: Callable[[IngestRound], float]) -> float:
        """The median of a figure over the rounds."""
        return statistics.median(map(figure, self.turns))

    def figures(self) -> dict[str, float]:
        """Medians by name; CPU in microseconds an event, of the door and of the sender."""
        return {
            "events_per_second": self.middle(lambda turn: turn.door_events_per_second),
            "bare_events_per_second": self.middle(lambda turn: turn.bare_events_per_second),
            "ratio_to_bare": self.middle(lambda turn: turn.ratio),
            "plainest_door_to_bare": self.middle(lambda turn: turn.plain_ratio),
            "lowest_ratio": min(turn.ratio for turn in self.turns),
            "highest_ratio": max(turn.ratio for turn in self.turns),
            "ack_p50_ms": self.middle(lambda turn: turn.load.ack_p50_ms),
            "ack_p99_ms": self.middle(lambda turn: turn.load.ack_p99_ms),
            "door_cpu_us": self.middle(lambda turn: turn.door_cpu_seconds / turn.load.n_events * 1e6),
            "sender_cpu_us": self.middle(lambda turn: turn.load.cpu_seconds / turn.load.n_events * 1e6),
            "sender_cpu_share": self.middle(lambda turn: turn.load.cpu_seconds / turn.load.wall_seconds),
        }


HEADINGS = (
    "events",
    "conns",
    "under way",
    "door ev/s",
    "bare ev/s",
    "ratio",
    "plainest",
    "of rounds",
    "p50 ms",
    "p99 ms",
    "door us",
    "sender us",
)


def run_ingest_bench() -> dict[str, object]:
    """All cases of the HTTP door, printed as they are measured; figures by name."""
    console = open_console()
    figures: dict[str, object] = {}
    console.print(
        f"Events of {EVENT_BYTES:,} bytes (CloudEvents, one a line) with new, rising ids of 24 characters; {ROUNDS}"
        " rounds of each case, medians; CPU in microseconds an event; door, bare loop and sender share"
        f" {os.cpu_count()} cores. The door is `replenish serve --workers {WORKERS}`; its CPU is that of all its"
        f" processes. Its journal packs these events, whose values and words vary, to {_packed_share():.0%}.",
        highlight=False,
    )
    with tempfile.TemporaryDirectory(prefix="replenish-ingest-") as name, _doors(Path(name)) as doors:
        _print_row(console, *HEADINGS)
        for connections, under_way in SENDERS:
            for batch in BATCHES:
                case = _measure_case(doors, batch, connections, under_way)
                _print_case(console, case)
                name = f"{batch}_events_{connections}_connections_{under_way}_under_way"
                figures |= {f"{name}_{figure}": value for figure, value in case.figures().items()}
    return figures


def _packed_share() -> float:
    bodies = varied_lines()
    return len(pack_bodies(bodies)) / sum(map(len, bodies))


def _measure_case(doors: _Doors, batch: int, connections: int, under_way: int) -> IngestCase:
    n_requests = 2 * connections * under_way
    warm = _turn(doors, "warm", n_requests, batch, connections, under_way)
    pace = min(warm.door_events_per_second, warm.bare_events_per_second)
    n_events = min(MOST_EVENTS, max(FEWEST_EVENTS, int(pace * SECONDS_OF_A_TURN)))
    n_requests = max(n_events // batch, 4 * connections * under_way)
    turns = [_turn(doors, f"{nr}", n_requests, batch, connections, under_way) for nr in range(ROUNDS)]
    return IngestCase(batch, connections, under_way, tuple(turns))


def _turn(doors: _Doors, name: str, n_requests: int, batch: int, connections: int, under_way: int) -> IngestRound:
    prefix = f"{batch}-{connections}-{under_way}-{name}"
    before = doors.real.cpu_seconds()
    load = _send(LoadPlan(doors.real.port, prefix, n_requests, connections, batch, under_way=under_way))
    used = doors.real.cpu_seconds() - before
    bare = _bare_events_per_second(doors.folder / f"bare-{prefix}.sqlite", n_requests, batch, connections)
    plain = _send(LoadPlan(doors.plain.port, prefix, n_requests, connections, batch, under_way=under_way))
    return IngestRound(load, plain, bare, used)


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
    opened = [plain_connection(path) for _ in range(connections)]
    template = varied_lines()[0]
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


class _Door(NamedTuple):
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """What the door's processes have used so far, in user and kernel mode, of all their threads."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii").split()
        return sum(map(cpu_seconds_of, (self.pid, *map(int, children))))


class _Doors(NamedTuple):
    folder: Path
    real: _Door
    plain: _Door


@contextmanager
def _doors(folder: Path) -> Iterator[_Doors]:
    """A door process on a new root, and the plainest one."""
    root = folder / "root"
    root.mkdir(parents=True)
    write_dataset(read_dataset(PLATFORM_FOLDER / "feeds" / "retailer.yaml"), RootLayout(root).dataset_file)
    program = "from replenish.cli.entry import start; start()"
    real = [sys.executable, "-c", program, "serve", "--port", "0", "--workers", str(WORKERS)]
    plain = [sys.executable, "-m", "replenish.cli.bench_plain_door", str(folder / "plain.sqlite")]
    with _listening(real, {"REPLENISH_ROOT": str(root)}) as door, _listening(plain, {}) as plainest:
        yield _Doors(folder, door, plainest)


@contextmanager
def _listening(command: list[str], environment: dict[str, str]) -> Iterator[_Door]:
    """A process that says where it listens. Stopped as a supervisor would stop it."""
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)
    try:
        first = process.stdout.readline() if process.stdout is not None else ""
        if not first.startswith("listening on "):
            raise BrokenPromise(f"the door did not start: {first}")
        yield _Door(int(first.strip().rpartition(":")[2]), process.pid)
    finally:
        process.terminate()
        process.wait(60)


def _print_case(console: Console, case: IngestCase) -> None:
    of = case.figures()
    _print_row(
        console,
        f"{case.batch:,}",
        f"{case.connections}",
        f"{case.under_way}",
        f"{of['events_per_second']:,.0f}",
        f"{of['bare_events_per_second']:,.0f}",
        f"{of['ratio_to_bare']:.2f}",
        f"{of['plainest_door_to_bare']:.2f}",
        f"{of['lowest_ratio']:.2f}-{of['highest_ratio']:.2f}",
        f"{of['ack_p50_ms']:.2f}",
        f"{of['ack_p99_ms']:.2f}",
        f"{of['door_cpu_us']:.1f}",
        f"{of['sender_cpu_us']:.1f}",
    )


def _print_row(console: Console, *cells: str) -> None:
    console.print("".join(f"{cell:>11}" for cell in cells), highlight=False)
