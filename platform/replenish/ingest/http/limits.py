"""What one request may cost, and reading its body within that: size, time, inflated size and ratio."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

from replenish.errors import RequestRefused

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

INFLATE_STEP_BYTES = 1 << 20
GZIP_WINDOW = 31
"""zlib's code for a gzip header and the largest window."""
INFLATED_ON_THE_LOOP_BYTES = 1 << 16
"""A longer body is inflated on a thread: zlib gives the interpreter lock back, other requests go on."""


@dataclass(frozen=True)
class HttpLimits:
    """Bounds of one request and of all of them together."""

    body_bytes: int = 10 << 20
    inflated_bytes: int = 50 << 20
    inflate_ratio: int = 100
    rows: int = 100_000
    header_bytes: int = 64 << 10
    header_seconds: float = 10.0
    """From the first byte of a request (or the connection) to the end of its headers."""
    body_seconds: float = 30.0
    """From the headers to the last byte of the body."""
    in_flight_bytes: int = 128 << 20
    """Bodies of all requests that are being read or judged; beyond, a request waits its turn outside (429)."""
    connections: int = 512

    def shared_by(self, n_processes: int) -> HttpLimits:
        """Each one's share where several processes serve one door; a request of the greatest size still has room."""
        room = max(self.in_flight_bytes // n_processes, self.inflated_bytes + self.body_bytes)
        return replace(self, connections=-(-self.connections // n_processes), in_flight_bytes=room)


class ClientGone(Exception):
    """The sender left before its request was whole: nothing of it is used, nobody waits for an answer."""


class InFlightBytes:
    """How many bytes of bodies are held at this moment, over all requests of the process."""

    def __init__(self, limit: int, on_change: Callable[[int], None] = lambda _: None) -> None:
        self._limit = limit
        self._on_change = on_change
        self.held = 0

    def take(self, size: int) -> None:
        """Count `size` more bytes as held.

        Raises:
            RequestRefused: 429, there is no room for them now.
        """
        if self.held + size > self._limit:
            raise RequestRefused(429, "overloaded", "too many bytes are being read at this moment; send again later")
        self.held += size
        self._on_change(self.held)

    def give_back(self, size: int) -> None:
        """Count them as gone."""
        self.held -= size
        self._on_change(self.held)


async def read_raw_body(receive: Receive, declared: int | None, limits: HttpLimits, room: InFlightBytes) -> bytes:
    """The body as sent. Its length is held in `room`; the caller gives it back.

    Raises:
        RequestRefused: 413 too large, 408 too slow, 429 no room; whatever was read is forgotten.
        ClientGone: The sender left.
    """
    if declared is not None and declared > limits.body_bytes:
        raise _too_large(limits)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientGone
                part = message.get("body", b"")
                if size + len(part) > limits.body_bytes:
                    raise _too_large(limits)
                room.take(len(part))
                size += len(part)
                parts.append(part)
                if not message.get("more_body", False):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
    except TimeoutError:
        room.give_back(size)
        raise RequestRefused(408, "too_slow", f"the body took longer than {limits.body_seconds:g} seconds") from None
    except BaseException:
        room.give_back(size)
        raise


def _too_large(limits: HttpLimits) -> RequestRefused:
    return RequestRefused(413, "too_large", f"a body may have {limits.body_bytes} bytes; send smaller batches")


async def decoded_body(body: bytes, encoding: str, limits: HttpLimits) -> bytes:
    """The body after its content encoding: as it is, or inflated within the limits.

    Raises:
        RequestRefused: 415 another encoding than gzip, 413 inflates too far, 400 no whole gzip stream.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise RequestRefused(415, "unknown_encoding", "content-encoding must be gzip or none")
    if len(body) <= INFLATED_ON_THE_LOOP_BYTES:
        return inflate(body, limits)
    return await asyncio.to_thread(inflate, body, limits)


def inflate(body: bytes, limits: HttpLimits) -> bytes:
    """One gzip member, inflated in bounded steps: memory never exceeds the limit by more than a step.

    Raises:
        RequestRefused: 413 larger than the limit or than ratio x body; 400 damaged, cut short or followed by more.
    """
    bound = min(limits.inflated_bytes, limits.inflate_ratio * len(body))
    stream, pending, inflated = zlib.decompressobj(GZIP_WINDOW), body, bytearray()
    try:
        while not stream.eof:
            step = stream.decompress(pending, INFLATE_STEP_BYTES)
            inflated += step
            if len(inflated) > bound:
                raise RequestRefused(413, "inflates_too_far", f"the body inflates to more than {bound} bytes")
            pending = stream.unconsumed_tail
            if not pending and not step and not stream.eof:
                raise RequestRefused(400, "unreadable", "the gzip stream ends too early")
    except zlib.error as error:
        raise RequestRefused(400, "unreadable", f"the body is no gzip stream: {error}") from error
    if stream.unused_data:
        # Members behind the first would each be cheap to send and dear to open.
        raise RequestRefused(400, "unreadable", "the gzip stream is followed by more bytes; send one member")
    return bytes(inflated)
