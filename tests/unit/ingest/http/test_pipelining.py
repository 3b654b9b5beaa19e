"""What a line of requests keeps of those that are answered: no body, and no connection that nothing ends."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from pathlib import Path
from typing import Any

from uvicorn.server import ServerState

from replenish.ingest.http.limits import HttpLimits
from replenish.ingest.http.server import door_server
from tests.unit.ingest.http.http_door import fields, lines, open_shop


def test_nothing_of_a_body_is_held_while_its_answer_is_taken(tmp_path: Path) -> None:
    held = []

    async def ask(app: Any) -> None:
        rows = lines(*({"id": f"e-{nr}", "data": fields(nr, note="x" * 2_000)} for nr in range(1_000)))
        messages = [{"type": "http.request", "body": rows, "more_body": False}]
        n_bytes = len(rows)
        del rows

        async def receive() -> dict[str, Any]:
            return messages.pop()

        async def send(message: dict[str, Any]) -> None:
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0] - before)

        # The body itself is counted: it is here already, and the only one who may keep it is the application.
        before = tracemalloc.get_traced_memory()[0] - n_bytes
        await app(http_scope(), receive, send)

    with open_shop(tmp_path) as shop:
        warm = lines({"id": "warm", "data": fields(5_000)})
        assert shop.post("/events/sales", warm, "application/x-ndjson").status_code == 200
        tracemalloc.start()
        try:
            asyncio.run(ask(shop.app))
        finally:
            tracemalloc.stop()
        assert shop.journal.last_seq() == 1_001
    assert held and max(held) < 1 << 20


def http_scope() -> dict[str, Any]:
    headers = [(b"host", b"door"), (b"content-type", b"application/x-ndjson")]
    names = {"type": "http", "method": "POST", "path": "/events/sales", "raw_path": b"/events/sales"}
    return names | {"query_string": b"", "headers": headers, "root_path": "", "scheme": "http"}


def test_the_rest_of_an_answered_body_does_not_keep_its_connection_for_ever() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def talk() -> bytes:
        config = door_server(app, HttpLimits()).config
        config.timeout_keep_alive = 1
        config.load()
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: config.http_protocol_class(config=config, server_state=state, app_state={}),  # type: ignore[operator]
            "127.0.0.1",
            0,
        )
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"POST / HTTP/1.1\r\nhost: door\r\ncontent-length: 10\r\n\r\n12345")
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"67890")
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()
        server.close()
        return answer

    assert asyncio.run(talk()).startswith(b"HTTP/1.1 200 OK")
