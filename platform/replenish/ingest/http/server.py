"""The server around the application: deadlines and bounds that hold before a request exists, and a clean stop."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from replenish.errors import ContractError
from replenish.ingest.http.credentials import HttpSource
from replenish.ingest.http.limits import HttpLimits
from replenish.ingest.http.pipelining import PipeliningProtocol

DRAIN_SECONDS = 40
"""A stop waits this long for requests that are under way: longer than a body may take."""
IDLE_SECONDS = 75
"""A connection without a request is kept this long."""
STUCK_SECONDS = 30
"""A sender that takes nothing of its answers for this long is cut off: what it was not told it will send again."""


class DeadlineProtocol(PipeliningProtocol):
    """HTTP/1.1 where headers have to arrive whole, in time and within a size, and answers have to be taken; uvicorn
    itself would wait for ever.
    """

    limits = HttpLimits()
    stuck_seconds: float = STUCK_SECONDS
    _deadline: asyncio.TimerHandle | None = None
    _look_at_reader: asyncio.TimerHandle | None = None
    _header_bytes = 0
    """Since the request began, or since the last part of its body: chunks have extensions and trailers."""
    _is_in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new connection: its first request has to begin and to show its headers within the deadline."""
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, and its deadline with it."""
        self._headers_are_here()
        self._reads_on()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request; those that are no body are counted."""
        if not self._is_in_body and self._deadline is None:
            self._await_headers()
        self._header_bytes += len(data)
        super().data_received(data)
        is_open = not self.is_over and not self.transport.is_closing()
        if is_open and self._header_bytes > self.limits.header_bytes:
            self.send_400_response("The headers are too long.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what follows the body has no meaning here and is not kept."""
        if not self._is_in_body:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._header_bytes = 0
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """The headers are whole; the body has a deadline of its own where it is read."""
        self._is_in_body = True
        self._header_bytes = 0
        self._headers_are_here()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole; the next one starts its own deadline."""
        self._is_in_body = False
        self._header_bytes = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The sender takes its answers more slowly than they come: from now on it has to take some."""
        super().pause_writing()
        self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """It has taken most of them."""
        self._reads_on()
        super().resume_writing()

    def _await_headers(self) -> None:
        self._header_bytes = 0
        self._deadline = self.loop.call_later(self.limits.header_seconds, self._cut_off)

    def _cut_off(self) -> None:
        """Too slow. Bytes behind requests that are still worked on wait for their answers first."""
        self._deadline = None
        if self.line:
            self._deadline = self.loop.call_later(self.limits.header_seconds, self._cut_off)
        elif not self.transport.is_closing():
            self.transport.close()

    def _watch_reader(self, n_bytes: int) -> None:
        self._look_at_reader = self.loop.call_later(self.stuck_seconds, self._cut_off_reader, n_bytes)

    def _cut_off_reader(self, n_before: int) -> None:
        n_bytes = self.transport.get_write_buffer_size()
        if n_bytes < n_before:
            self._watch_reader(n_bytes)
        else:
            self.transport.abort()

    def _reads_on(self) -> None:
        if self._look_at_reader is not None:
            self._look_at_reader.cancel()
            self._look_at_reader = None

    def _headers_are_here(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class DoorServer(uvicorn.Server):
    """uvicorn's server with an exit code that says how it ended: 0 after SIGTERM or SIGINT, else the one given."""

    exit_code = 0
    on_startup: Callable[[], Awaitable[None]] | None = None
    """Awaited on the server's loop before the first connection is taken."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        if self.on_startup is not None:
            await self.on_startup()
        await super().startup(sockets)

    def fail(self) -> None:
        """Stop, and end the process with a code that makes its supervisor look: the journal cannot be written."""
        self.exit_code = 1
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop the server and are not raised again afterwards: a clean stop is no death."""
        wanted = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self.handle_exit) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def door_server(app: Any, limits: HttpLimits, certificate: Path | None = None, key: Path | None = None) -> DoorServer:
    """A server for the application; `run([socket])` blocks until it is stopped."""
    protocol = type("BoundProtocol", (DeadlineProtocol,), {"limits": limits})
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=limits.connections,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    return DoorServer(config)


def check_bind(host: str, sources: tuple[HttpSource, ...], *, has_tls: bool) -> None:
    """Refuse to listen where others can reach an open door.

    Raises:
        ContractError: The address is no loopback one, and a source proves nothing or there is no TLS.
    """
    if _is_loopback(host):
        return
    open_sources = [source.source for source in sources if not source.is_guarded]
    if not sources or open_sources:
        named = f"these prove nothing: {', '.join(open_sources)}" if sources else "doors.yaml declares none"
        raise ContractError(
            f"{host} can be reached from outside, so every source needs a token or webhook secrets, and {named}; "
            "declare them in doors.yaml (http.sources), or bind 127.0.0.1",
            rule="bind",
        )
    if not has_tls:
        raise ContractError(
            f"{host} can be reached from outside, so tokens need TLS; give http.tls {{certificate, key}} in "
            "doors.yaml, or bind 127.0.0.1 behind a proxy that has it",
            rule="bind",
        )


def listening_sockets(host: str, port: int, n: int) -> list[socket.socket]:
    """As many sockets for one address, over which the kernel spreads connections; port 0 takes a free one.

    Raises:
        ContractError: The address is taken or is none of this machine's.
    """
    # Sockets that share an address share it with anybody's: a first one that does not finds out whether it is free.
    with listening_socket(host, port) as alone:
        port = alone.getsockname()[1]
    return [listening_socket(host, port, is_shared=True) for _ in range(n)]


def listening_socket(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """A bound socket; port 0 takes a free one. Shared: others of this kind and user may have the same address.

    Raises:
        ContractError: The address is taken or is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ContractError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
    listener.listen(1024)
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
