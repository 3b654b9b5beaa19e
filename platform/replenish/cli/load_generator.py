"""A cheap sender of HTTP requests for the ingest bench: prepared bytes over kept connections, times as it sees them.

Runs as a process of its own (`python -m replenish.cli.load_generator`), so that its CPU can be told from the door's.
Takes one JSON object of `LoadPlan` fields on standard input, prints one JSON object of `LoadResult` fields.
"""

from __future__ import annotations

import json
import resource
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass

import numpy as np

EVENT_BYTES = 1024
N_VARIED = 509
ID_PLACE = "#" * 24
_WORDS = """
green black herbal oolong mint ginger lemon honey vanilla cocoa sugar flour oats barley rye spelt maize
rice lentil bean chickpea almond walnut hazelnut raisin apricot plum cherry apple pear quince orange
grapefruit melon berry tomato pepper onion garlic leek carrot beet radish celery spinach chard kale
cabbage lettuce basil thyme sage salmon trout herring mussel butter cream yoghurt cheddar brie gouda
bread baguette roll pretzel pasta noodle sauce returned exchanged voucher discount loyalty points gift
wrapped paper bag receipt signed manager override price matched damaged packaging shelf label wrong
scanned twice customer asked again delivery morning evening weekend
"""
PATH = "/events/sales"


@dataclass(frozen=True)
class LoadPlan:
    """What to send: `n_requests` in all, over `n_connections`, `batch` events each; `prefix` makes ids new.

    `under_way`: so many requests of a connection at a time; with 1, each waits for the answer to the one before.
    """

    port: int
    prefix: str
    n_requests: int
    n_connections: int
    batch: int
    wants_minimal: bool = False
    under_way: int = 1


@dataclass(frozen=True)
class LoadResult:
    """What was seen: answers that were no plain 200 are `n_failed`; `cpu_seconds` is the sender's own."""

    n_events: int
    n_failed: int
    wall_seconds: float
    cpu_seconds: float
    ack_p50_ms: float
    ack_p99_ms: float


def varied_lines() -> list[bytes]:
    """CloudEvents of sales as tills send them, each 1 KB long with the line end and `ID_PLACE` where ids belong.

    Values and words differ from event to event: what a store packs well here it packs well at a retailer's. There are
    more of them than a packer looks back over.
    """
    rng = np.random.default_rng(20260301)
    return [_event_line(rng) for _ in range(N_VARIED)]


def _event_line(rng: np.random.Generator) -> bytes:
    def number(least: int, most: int) -> int:
        return int(rng.integers(least, most, endpoint=True))

    units, price, words = number(1, 12), number(49, 9_999), rng.choice(_WORDS.split(), EVENT_BYTES).tolist()
    data = {
        "location_id": f"store-{number(1, 400):04d}",
        "sold_at": f"2026-03-{number(1, 9):02d}T{number(7, 21):02d}:{number(0, 59):02d}:00Z",
        "sale_id": f"receipt-{ID_PLACE}",
        "sku_id": f"{words[0]}-{words[1]}-{number(1, 999)}",
        "units": units,
        "revenue_cents": units * price,
        "unit_price_cents": price,
        "customer_id": f"c-{rng.bytes(6).hex()}",
        "till": number(1, 40),
        "cashier": f"k-{number(1, 999)}",
        "payment_token": rng.bytes(16).hex(),
        "is_member": number(0, 1) == 1,
        "weight_kg": number(1, 20_000) / 1000,
    }
    event = {
        "specversion": "1.0",
        "id": ID_PLACE,
        "source": "pos",
        "type": "replenish.event.upsert",
        "subject": "events.sales",
        "data": data,
    }
    room = EVENT_BYTES - 1 - len(json.dumps({**event, "data": {**data, "note": ""}}, separators=(",", ":")))
    note = " ".join(words)[:room]
    return json.dumps({**event, "data": {**data, "note": note}}, separators=(",", ":")).encode() + b"\n"


def prepared_requests(plan: LoadPlan) -> list[bytes]:
    """Every request as it goes over the wire; made before the clock starts."""
    prefer = "prefer: return=minimal\r\n" if plan.wants_minimal else ""
    lines, place = varied_lines(), ID_PLACE.encode()
    requests = []
    for first in range(0, plan.n_requests * plan.batch, plan.batch):
        body = b"".join(
            [
                lines[nr % N_VARIED].replace(place, f"{plan.prefix}-{nr:d}".ljust(len(place), "_").encode())
                for nr in range(first, first + plan.batch)
            ]
        )
        head = (
            f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-ndjson\r\n{prefer}"
            f"content-length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


def send_load(plan: LoadPlan) -> LoadResult:
    """Send everything and wait for every answer; as many under way per connection as the plan says."""
    requests = prepared_requests(plan)
    shares = [requests[i :: plan.n_connections] for i in range(plan.n_connections)]
    seconds: list[float] = []
    failures: list[bytes] = []
    sockets = [socket.create_connection(("127.0.0.1", plan.port)) for _ in shares]
    threads = [
        threading.Thread(target=_send_all, args=(connection, share, plan.under_way, seconds, failures))
        for connection, share in zip(sockets, shares, strict=True)
    ]
    cpu_before, started = _cpu_seconds(), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall, cpu = time.perf_counter() - started, _cpu_seconds() - cpu_before
    for connection in sockets:
        connection.close()
    if len(seconds) != plan.n_requests:
        failures += [b"no answer"] * (plan.n_requests - len(seconds))
    if failures:
        print(failures[0][:500], file=sys.stderr)
    seconds.sort()
    last = len(seconds) - 1
    return LoadResult(
        n_events=(plan.n_requests - len(failures)) * plan.batch,
        n_failed=len(failures),
        wall_seconds=wall,
        cpu_seconds=cpu,
        ack_p50_ms=seconds[last // 2] * 1e3,
        ack_p99_ms=seconds[int(last * 0.99)] * 1e3,
    )


def _send_all(
    connection: socket.socket, requests: list[bytes], under_way: int, seconds: list[float], failures: list[bytes]
) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if under_way > 1:
        _send_ahead(connection, requests, under_way, seconds, failures)
        return
    for request in requests:
        started = time.perf_counter()
        connection.sendall(request)
        answer, _ = _answer(connection, b"")
        if not answer:
            return
        seconds.append(time.perf_counter() - started)
        if not answer.startswith(b"HTTP/1.1 200"):
            failures.append(answer)


def _send_ahead(
    connection: socket.socket, requests: list[bytes], under_way: int, seconds: list[float], failures: list[bytes]
) -> None:
    """One thread sends, this one takes the answers; a request's time begins with the first byte it sends."""
    room = threading.Semaphore(under_way)
    started: list[float] = []

    def send() -> None:
        for request in requests:
            room.acquire()
            started.append(time.perf_counter())
            connection.sendall(request)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    received = b""
    for nr in range(len(requests)):
        answer, received = _answer(connection, received)
        if not answer:
            return
        seconds.append(time.perf_counter() - started[nr])
        if not answer.startswith(b"HTTP/1.1 200"):
            failures.append(answer)
        room.release()
    sender.join()


def _answer(connection: socket.socket, received: bytes) -> tuple[bytes, bytes]:
    """The beginning of one whole answer, and what came behind it; they all carry a length.

    Args:
        received: What came of it already.
    """
    received = received or connection.recv(1 << 18)
    while received and (end := received.find(b"\r\n\r\n")) < 0:
        part = connection.recv(1 << 18)
        received = received + part if part else b""
    if not received:
        return b"", b""
    place = received.index(b"content-length: ") + 16
    length = end + 4 + int(received[place : received.index(b"\r", place)])
    answer, behind, missing = received[:length], received[length:], length - len(received)
    while missing > 0:
        part = connection.recv(1 << 18)
        if not part:
            return b"", b""
        behind, missing = part[missing:], missing - len(part)
    return answer, behind


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    print(json.dumps(asdict(send_load(LoadPlan(**json.load(sys.stdin))))))
