"""A real `replenish serve` process on a root of its own, and raw connections to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.dataset_writer import write_dataset
from replenish.contracts.reader import PLATFORM_FOLDER
from replenish.stores.layout import RootLayout

PROGRAM = "from replenish.cli.entry import start; start()"


class ServingProcess:
    """One running door."""

    def __init__(self, root: Path, *options: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "serve", "--port", "0", *options],
            env={**os.environ, "REPLENISH_ROOT": str(root), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        first = self.process.stdout.readline() if self.process.stdout else ""
        self.port = int(first.strip().rpartition(":")[2]) if first.startswith("listening on ") else 0

    def connect(self) -> socket.socket:
        """A raw connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(60)

    def resident_bytes(self) -> int:
        """Memory the process holds now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def new_root(folder: Path) -> RootLayout:
    """A root with the small retailer's data set, without data."""
    layout = RootLayout(folder / "root")
    layout.root.mkdir()
    write_dataset(read_dataset(PLATFORM_FOLDER / "feeds" / "retailer.yaml"), layout.dataset_file)
    return layout


@contextmanager
def serving(root: Path, *options: str, **variables: str) -> Iterator[ServingProcess]:
    """A door that is gone behind the block, however the block ends."""
    door = ServingProcess(root, *options, **variables)
    try:
        assert door.port, door.process.stderr.read() if door.process.stderr else ""
        yield door
    finally:
        door.kill()


def event(event_id: str) -> bytes:
    """One sale as a line."""
    data = {
        "location_id": "store-1",
        "sold_at": "2026-03-01T10:00:00Z",
        "sale_id": event_id,
        "sku_id": "tea",
        "units": 1,
    }
    return json.dumps({"id": event_id, "data": data}, separators=(",", ":")).encode() + b"\n"


def head(length: int | None, *headers: str) -> bytes:
    """Request head of a POST of sales; chunked where no length is given."""
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    named = ["host: door", "content-type: application/x-ndjson", size, *headers]
    return ("POST /events/sales HTTP/1.1\r\n" + "\r\n".join(named) + "\r\n\r\n").encode()


def answer_of(connection: socket.socket) -> tuple[int, dict[str, object]]:
    """Status and JSON of one answer; (0, {}) where the connection closed instead."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            return 0, {}
        received += part
    top, _, body = received.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in top.split(b"\r\n") if line.lower().startswith(b"content-length"))
    while len(body) < length:
        part = connection.recv(65536)
        if not part:
            return 0, {}
        body += part
    text = body.decode()
    return int(top.split()[1]), json.loads(text) if text.startswith("{") else {}


def post(connection: socket.socket, body: bytes, *headers: str) -> tuple[int, dict[str, object]]:
    """One whole request."""
    connection.sendall(head(len(body), *headers) + body)
    return answer_of(connection)
