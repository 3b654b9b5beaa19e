"""The plainest HTTP door: it reads a body, commits its lines and answers; the ingest bench's second peer.

The same server library, one process, a commit in WAL mode with FULL per request, the ids taken from their known place:
no JSON is read, no contract, hash, identity or packing. What the real door costs beyond HTTP shows beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw

from replenish.ingest.http.limits import HttpLimits
from replenish.ingest.http.server import door_server, listening_socket

ID_BEGINS, ID_ENDS = 26, 50
"""Where `load_generator` puts the id of an event in its line."""

_ANSWER = b'{"is_kept":true}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(_ANSWER)).encode())]


def plain_connection(path: Path) -> apsw.Connection:
    """The plainest durable table that keeps an id and a body, opened to be written."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(30_000)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    connection.execute("create table if not exists j (seq integer primary key, id text, body blob)")
    return connection


_Receive = Callable[[], Awaitable[dict[str, Any]]]


class PlainDoor:
    """An ASGI application over one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Any
    ) -> None:
        """Read one body, commit it, answer."""
        parts, has_more = [], True
        while has_more:
            message = await receive()
            parts.append(message["body"])
            has_more = message.get("more_body", False)
        lines = b"".join(parts).splitlines()
        self._connection.execute("begin immediate")
        rows = ((line[ID_BEGINS:ID_ENDS].decode(), line) for line in lines)
        self._connection.executemany("insert into j (id, body) values (?, ?)", rows)
        self._connection.execute("commit")
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": _ANSWER})


def serve_plain_door() -> None:
    """Serve on a free port of loopback until SIGTERM; the first line says which."""
    connection = plain_connection(Path(sys.argv[1]))
    listener = listening_socket("127.0.0.1", 0)
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    door_server(PlainDoor(connection), HttpLimits()).run([listener])
    connection.close()


if __name__ == "__main__":
    serve_plain_door()
