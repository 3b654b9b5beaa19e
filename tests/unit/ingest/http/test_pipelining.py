"""What a line of requests keeps of those that are answered: no body, and no connection that nothing ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import time
import tracemalloc
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from uvicorn.server import ServerState

from replenish.ingest.http.app import HttpDoorOptions
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
    async def talk() -> bytes:
        async with serving(empty_answer, timeout_keep_alive=1) as (reader, writer, _):
            writer.write(POST + b"content-length: 10\r\n\r\n12345")
            answer = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"67890")
            async with asyncio.timeout(20):
                assert await reader.read() == b""
            return answer

    assert asyncio.run(talk()).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("is_read", [False, True])
@pytest.mark.parametrize(
    "endless", [b"a:b\r\n", b"a:" + b"x" * 100, b"1;" + b"x" * 100], ids=["trailers", "one trailer", "extension"]
)
def test_what_follows_a_body_is_bounded_and_not_kept(endless: bytes, is_read: bool) -> None:
    seen: list[int] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if is_read:
            while (await receive())["type"] == "http.request":
                pass
        await empty_answer(scope, receive, send)
        seen.append(len(scope["headers"]))

    async def talk() -> int:
        async with serving(app) as (reader, writer, _):
            writer.write(POST + b"transfer-encoding: chunked\r\n\r\n")
            writer.write(b"" if endless[:1] == b"1" else b"0\r\n")
            n_sent = 0
            with contextlib.suppress(ConnectionError):
                while n_sent < 64 << 20 and not writer.is_closing():
                    writer.write(endless * 1_000)
                    n_sent += len(endless) * 1_000
                    await writer.drain()
            with contextlib.suppress(ConnectionError):
                await reader.read()
            return n_sent

    assert asyncio.run(talk()) < 16 << 20
    assert seen in ([2], [])


def test_trailers_of_a_sound_body_change_nothing() -> None:
    async def talk() -> bytes:
        async with serving(echoing) as (reader, writer, _):
            chunked = b"transfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nx-late: 1\r\n\r\n"
            writer.write((POST + chunked) * 2)
            return await reader.readuntil(b"abc") + await reader.readuntil(b"abc")

    told = asyncio.run(talk())
    assert told.count(b"HTTP/1.1 200 OK") == 2 and b"late" not in told


@pytest.mark.parametrize("takes", [0, 400_000], ids=["nothing", "some"])
def test_only_a_sender_that_takes_nothing_of_its_answers_is_cut_off(takes: int) -> None:
    n_bytes = 6 << 20

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % n_bytes)]})
        await send({"type": "http.response.body", "body": bytes(n_bytes)})

    async def talk() -> bool:
        async with serving(app, stuck_seconds=0.4) as (reader, writer, protocols):
            writer.write(b"GET / HTTP/1.1\r\nhost: door\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            left = n_bytes
            while takes and left:
                left -= len(await reader.read(takes))
                await asyncio.sleep(0.05)
            await asyncio.sleep(1.5)
            return bool(protocols[0].transport.is_closing())

    assert asyncio.run(talk()) is (takes == 0)


@pytest.mark.parametrize("ends_by", ["answered", "under way", "waiting", "unread"])
def test_nothing_of_a_closed_connection_waits_for_the_collector(ends_by: str) -> None:
    release = asyncio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if ends_by in ("under way", "waiting"):
            await release.wait()
        await empty_answer(scope, receive, send)

    async def talk() -> list[object]:
        async with serving(app) as (_, writer, protocols):
            sound = POST + b"content-length: 3\r\n\r\nabc"
            writer.write(sound * (3 if ends_by == "waiting" else 1))
            if ends_by == "unread":
                writer.write(POST + b"content-length: 300000\r\n\r\n" + bytes(100_000))
            await asyncio.sleep(0.2)
            writer.close()
            await asyncio.sleep(0.2)
            release.set()
            await asyncio.sleep(0.2)
            gone = weakref.ref(protocols.pop())
            return [gone()]

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(talk()) == [None]
    finally:
        gc.enable()


def test_a_line_of_bodies_that_inflate_is_taken_as_if_sent_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [lines(*({"id": f"{nr}-{k}", "data": fields(k, note="x" * 5_000)} for k in range(100))) for nr in range(4)]
    limits = HttpLimits(in_flight_bytes=len(bodies[0]) * 3 // 2, inflate_ratio=1_000)

    async def talk(app: Any) -> list[bytes]:
        async with serving(app) as (reader, writer, _):
            for body in bodies:
                packed = gzip.compress(body)
                head = b"content-type: application/x-ndjson\r\ncontent-encoding: gzip\r\n"
                writer.write(b"POST /events/sales HTTP/1.1\r\nhost: door\r\nprefer: return=minimal\r\n" + head)
                writer.write(b"content-length: %d\r\n\r\n" % len(packed) + packed)
            return [(await reader.readuntil(b"}"))[:12] for _ in bodies]

    with open_shop(tmp_path, HttpDoorOptions(limits=limits)) as shop:
        append = shop.journal.append_events

        def slowly(*args: Any, **options: Any) -> Any:
            time.sleep(0.2)
            return append(*args, **options)

        monkeypatch.setattr(shop.journal, "append_events", slowly)
        assert asyncio.run(talk(shop.app)) == [b"HTTP/1.1 200"] * 4
        assert [row.id for row in shop.journal.rows()] == [f"{nr}-{k}" for nr in range(4) for k in range(100)]


POST = b"POST / HTTP/1.1\r\nhost: door\r\n"


async def empty_answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def echoing(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body, has_more = b"", True
    while has_more:
        message = await receive()
        body, has_more = body + message["body"], message["more_body"]
    told = b"".join(b"%b=%b;" % pair for pair in scope["headers"]) + body
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(told))]})
    await send({"type": "http.response.body", "body": told})


@contextlib.asynccontextmanager
async def serving(app: Any, *, timeout_keep_alive: int = 75, stuck_seconds: float = 30) -> AsyncIterator[Any]:
    """One connection to a server of the application in this loop: reader, writer, and its protocol in a list."""
    config = door_server(app, HttpLimits()).config
    config.timeout_keep_alive = timeout_keep_alive
    config.load()
    state, protocols = ServerState(), []

    def connected() -> Any:
        protocols.append(config.http_protocol_class(config=config, server_state=state, app_state={}))  # type: ignore[operator]
        protocols[-1].stuck_seconds = stuck_seconds
        return protocols[-1]

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer, protocols
    finally:
        writer.close()
        server.close()
