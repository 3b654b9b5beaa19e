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

EVENT_BYTES = 1024
PATH = "/events/sales"


@dataclass(frozen=True)
class LoadPlan:
    """What to send: `n_requests` in all, over `n_connections`, `batch` events each; `prefix` makes ids new."""

    port: int
    prefix: str
    n_requests: int
    n_connections: int
    batch: int
    wants_minimal: bool = False


@dataclass(frozen=True)
class LoadResult:
    """What was seen: answers that were no plain 200 are `n_failed`; `cpu_seconds` is the sender's own."""

    n_events: int
    n_failed: int
    wall_seconds: float
    cpu_seconds: float
    ack_p50_ms: float
    ack_p99_ms: float


def event_line(event_id: str) -> bytes:
    """One CloudEvent of a sale as a till sends it, 1 KB long with the line end."""
    data = {
        "location_id": "store-0042",
        "sold_at": "2026-03-01T10:00:00Z",
        "sale_id": f"receipt-{event_id}",
        "sku_id": "tea-green-250g",
        "units": 2,
        "revenue_cents": 998,
        "unit_price_cents": 499,
        "customer_id": "c-7781",
        "till": 17,
        "cashier": "k-204",
        "shift": "morning",
        "payment": "card",
        "campaign": None,
        "is_member": True,
        "weight_kg": 0.525,
    }
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": "pos",
        "type": "replenish.event.upsert",
        "subject": "events.sales",
        "data": data,
    }
    room = EVENT_BYTES - 1 - len(json.dumps({**event, "data": {**data, "note": ""}}, separators=(",", ":")))
    return json.dumps({**event, "data": {**data, "note": "x" * room}}, separators=(",", ":")).encode() + b"\n"


def prepared_requests(plan: LoadPlan) -> list[bytes]:
    """Every request as it goes over the wire; made before the clock starts."""
    prefer = "prefer: return=minimal\r\n" if plan.wants_minimal else ""
    template = event_line("#" * 24)
    requests = []
    for nr in range(plan.n_requests):
        ids = (f"{plan.prefix}-{nr * plan.batch + i:d}".ljust(24, "_") for i in range(plan.batch))
        body = b"".join([template.replace(b"#" * 24, event_id.encode()) for event_id in ids])
        head = (
            f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-ndjson\r\n{prefer}"
            f"content-length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


def send_load(plan: LoadPlan) -> LoadResult:
    """Send everything and wait for every answer; one request under way per connection."""
    requests = prepared_requests(plan)
    shares = [requests[i :: plan.n_connections] for i in range(plan.n_connections)]
    seconds: list[float] = []
    failures: list[bytes] = []
    sockets = [socket.create_connection(("127.0.0.1", plan.port)) for _ in shares]
    threads = [
        threading.Thread(target=_send_all, args=(connection, share, seconds, failures))
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


def _send_all(connection: socket.socket, requests: list[bytes], seconds: list[float], failures: list[bytes]) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for request in requests:
        started = time.perf_counter()
        connection.sendall(request)
        answer = _answer(connection)
        seconds.append(time.perf_counter() - started)
        if not answer.startswith(b"HTTP/1.1 200"):
            failures.append(answer)


def _answer(connection: socket.socket) -> bytes:
    """One whole answer; they all carry a length."""
    received = connection.recv(1 << 18)
    while received and (end := received.find(b"\r\n\r\n")) < 0:
        received += connection.recv(1 << 18)
    if not received:
        return b""
    place = received.index(b"content-length: ") + 16
    missing = int(received[place : received.index(b"\r", place)]) - (len(received) - end - 4)
    while missing > 0:
        part = connection.recv(1 << 18)
        if not part:
            return b""
        missing -= len(part)
    return received


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    print(json.dumps(asdict(send_load(LoadPlan(**json.load(sys.stdin))))))
