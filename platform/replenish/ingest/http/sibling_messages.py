"""What processes of one door say to one another: questions, replies, and how they lie on the wire."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from datetime import datetime

import msgspec

from replenish.stores.event_run import LARGEST_RUN_BYTES, EventRun, PackedRun
from replenish.stores.journal_entry import EventEntry

SEND_BUFFER_BYTES = 4 << 20
"""As much of it as the kernel grants: each time the buffer is full, both loops have to wake up once more."""
LONGEST_MESSAGE_BYTES = 2 * LARGEST_RUN_BYTES
FIRST_BUFFER_BYTES = 256 << 10
_HEAD = struct.Struct("<II")


class Question(msgspec.Struct, array_like=True, frozen=True):
    """What beside the body the judging of a request depends on; `nr` is its sibling's to fill."""

    feed_id: str | None
    source: str
    traceparent: str | None
    now: datetime
    grants: Mapping[str, frozenset[str]] | None
    nr: int = 0


class Reply(msgspec.Struct, array_like=True, frozen=True):
    """`like`, None where the request is no plain run, as source, type, feed, contract and trace; then a `PackedRun`."""

    nr: int
    is_idle: bool
    like: tuple[str, str, str, str, str | None] | None = None
    ids: bytes = b""
    ends: bytes = b""
    digests: bytes = b""
    bodies: bytes = b""

    def run(self) -> EventRun | None:
        """The run it stands for.

        Raises:
            DamagedLog, ValueError, msgspec.MsgspecError: Its parts do not fit together.
        """
        if self.like is None:
            return None
        source, kind, feed_id, dataschema, traceparent = self.like
        packed = PackedRun(self.ids, self.ends, self.digests, self.bodies)
        return EventRun.of_packed(EventEntry(source, "", kind, feed_id, dataschema, b"", traceparent), packed)


encode_message = msgspec.msgpack.Encoder().encode
read_question = msgspec.msgpack.Decoder(Question).decode
read_reply = msgspec.msgpack.Decoder(Reply).decode


class Frames(asyncio.BufferedProtocol):
    """Messages of a head and a body, each with its length before them; read into one place and copied once."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(FIRST_BUFFER_BYTES))
        self._n_bytes = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The other side is there."""
        self.transport = transport  # type: ignore[assignment]
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.transport = None

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go: there is always room for one at least."""
        return self._buffer[self._n_bytes :]

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes of messages, cut anywhere."""
        self._n_bytes += nbytes
        start, end = 0, _HEAD.size
        while self._n_bytes - start >= _HEAD.size:
            head, body = _HEAD.unpack_from(self._buffer, start)
            middle = start + _HEAD.size + head
            end = middle + body - start
            if end > LONGEST_MESSAGE_BYTES:
                self.end()
                return
            if self._n_bytes - start < end:
                break
            received = bytes(self._buffer[start + _HEAD.size : middle]), bytes(self._buffer[middle : start + end])
            start, end = start + end, _HEAD.size
            self.take(*received)
        self._keep_from(start, end)

    def _keep_from(self, start: int, needed: int) -> None:
        """The rest of what was read becomes the beginning; there will be room for a whole message."""
        is_short = needed >= len(self._buffer)
        if not start and not is_short:
            return
        rest = bytes(self._buffer[start : self._n_bytes])
        if is_short:
            self._buffer = memoryview(bytearray(needed + FIRST_BUFFER_BYTES))
        self._buffer[: len(rest)] = rest
        self._n_bytes = len(rest)

    def take(self, head: bytes, body: bytes) -> None:
        """One whole message."""
        raise NotImplementedError

    def end(self) -> None:
        """End the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def send(self, head: bytes, body: bytes) -> None:
        """One whole message; lost where the other side is gone."""
        if self.transport is not None:
            self.transport.writelines((_HEAD.pack(len(head), len(body)), head, body))
