"""HTTP/1.1 where a sender need not wait for one answer before its next request (RFC 9112 9.3.2).

Requests of a connection take effect in their order, and are answered in it. The next one is begun as soon as the one
before it lets it: once all its events are in the journal's queue, so that one is judged while the other one is forced
to disk; or earlier, while another process judges it. Then the later one hands over behind it.
"""

from __future__ import annotations

import asyncio
import fcntl
import struct
import sys
import termios
from collections import deque
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from replenish.ingest.http.body_cycle import BodyCycle, HeldFlow
from replenish.ingest.http.turn import TURN, Turn

MOST_UNDER_WAY = 32
MOST_BYTES_UNDER_WAY = 8 << 20
"""Requests of one connection that are begun and not answered, and the bytes of their bodies beyond which none is begun.
The next one waits, at most a read of the socket large, and its sender with it."""
MOST_WAITING = 1_000
"""Requests that one read of the socket may bring: a thousand without events would be megabytes of memory."""
HIGH_WATER_BYTES = 512 << 10
"""Of a body, read and not asked for yet. The application asks at once: this is two reads of the socket."""


class LineTurn(Turn):
    """One request's place in the line of its connection: what it writes waits until all before it are answered."""

    def __init__(self, protocol: PipeliningProtocol) -> None:
        self._protocol = protocol
        self._held: list[bytes] = []
        self._closes = False
        self.cycle: BodyCycle | None = None
        self.app: Any = None
        self.n_bytes = 0
        """Of its body, so far."""
        self.is_started = self.lets_next_begin = self.is_answered = False
        self._is_handed_over, self._is_first = asyncio.Event(), asyncio.Event()

    @property
    def is_first(self) -> bool:
        """Whether all before it are answered, or nobody waits for answers any more."""
        return self._is_first.is_set()

    @property
    def is_last(self) -> bool:
        """Nothing behind it may be started: the connection ends with its answer."""
        return self._closes or (self.cycle is not None and not self.cycle.keep_alive)

    def write(self, data: bytes) -> None:
        """As a transport's, once it is this request's turn."""
        if not self.is_first:
            self._held.append(data)
        elif not self.is_closing():
            self._protocol.transport.write(data)

    def close(self) -> None:
        """As a transport's, once it is this request's turn."""
        self._closes = True
        if self.is_first:
            self._protocol.transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is."""
        return self._protocol.transport.is_closing()

    def come(self) -> None:
        """All before it are answered."""
        self._is_first.set()
        if self._held:
            self.write(b"".join(self._held))
            self._held = []
        if self._closes:
            self.close()

    def is_lone(self) -> bool:
        """Nobody behind or before it, not even in the socket."""
        return len(self._protocol.line) == 1 and not self._protocol.has_more(self)

    def end_line(self) -> None:
        """Nothing behind it is begun."""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def let_next_begin(self) -> None:
        """Begins the next one, if there is room."""
        if not self.lets_next_begin:
            self.lets_next_begin = True
            self._protocol.start_next()

    async def come_up(self) -> None:
        """Waits for those before it, by their events."""
        for turn in tuple(self._protocol.line):
            if turn is self:
                return
            if not turn.is_answered:
                await turn._is_handed_over.wait()

    async def come_first(self) -> bool:
        """Waits for its place at the head of the line."""
        if self.is_first:
            return False
        await self._is_first.wait()
        return True

    def hand_over(self) -> None:
        """Lets those behind it come up."""
        self._is_handed_over.set()
        self.let_next_begin()


class PipeliningProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a line of requests in place of one at a time."""

    flow: HeldFlow
    cycle: BodyCycle
    is_over = False
    """What was read last is no HTTP: nothing more is read, what came before it is still answered."""
    _is_lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new connection, with nobody in its line."""
        super().connection_made(transport)
        self.line: deque[LineTurn] = deque()
        self._n_at_work = 0
        self.flow = HeldFlow(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for an answer any more; what was not started never is."""
        for turn in self.line:
            if turn.cycle is not None and not turn.cycle.response_complete:
                turn.cycle.disconnected = True
                turn.cycle.message_event.set()
            turn.come()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._is_lost = True
        self._let_go()

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        if not self.is_over:
            super().data_received(data)
        if not self.line and self.timeout_keep_alive_task is None and not self.transport.is_closing():
            # What came is the rest of an answered request's body: nothing else would ever end this connection.
            self._keep_alive()

    def on_headers_complete(self) -> None:
        """A request joins the line.

        Raises:
            ValueError: It asks for another protocol, and the parser would take its body for requests; or there are
                more in one read than any sender of events has.
        """
        if self.parser.should_upgrade() or len(self.line) > MOST_WAITING:
            raise ValueError("no other protocol is spoken here, and no longer line")
        super().on_headers_complete()
        if not self.pipeline:
            return
        like, app = self.pipeline.pop()
        if len(self.connections) < (self.limit_concurrency or sys.maxsize):
            # uvicorn has another one where there are too many requests, of which it knows one a connection.
            app = self.app
        turn = LineTurn(self)
        self.cycle = BodyCycle(
            turn, like, self.flow, on_response=lambda: self._is_answered(turn), on_end=self._is_worked_off
        )
        self.cycle.scope["extensions"] = {TURN: turn}  # type: ignore[dict-item]
        turn.cycle, turn.app = self.cycle, app
        self._join(turn)

    def on_body(self, body: bytes) -> None:
        """A part of the body of the request that is being read."""
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.parts.append(body)
        cycle.n_unread_bytes += len(body)
        self.line[-1].n_bytes += len(body)
        if cycle.n_unread_bytes > HIGH_WATER_BYTES:
            self.flow.pause_reading()
        cycle.message_event.set()

    def has_more(self, turn: LineTurn) -> bool:
        """Whether another request stands behind this one, or bytes of one lie in the socket."""
        if self.line and self.line[-1] is not turn:
            return True
        if turn.is_last or self.transport.is_closing():
            return False
        waiting = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(4))
        return bool(struct.unpack("i", waiting)[0])

    def start_next(self) -> None:
        """Start the first request that waits, if those before it let it."""
        before: LineTurn | None = None
        n_bytes = 0
        for n_under_way, turn in enumerate(self.line):
            if not turn.is_started:
                has_room = n_under_way < MOST_UNDER_WAY and n_bytes <= MOST_BYTES_UNDER_WAY
                if not has_room or not self._may_start(before):
                    return
                turn.is_started = True
                self._n_at_work += 1
                super()._start_asgi_task(turn.cycle, turn.app)  # type: ignore[arg-type]
            n_bytes += turn.n_bytes
            before = turn
        self.flow.is_held = False
        self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        """The answer to what is no request, behind those to the requests before it; the end of the connection."""
        self.is_over = True
        self.flow.pause_reading()
        unread = self.line[-1].cycle if self.line else None
        if unread is not None and unread.more_body:
            if unread.response_started:
                unread.keep_alive = False
                if unread.response_complete:
                    self.line[-1].close()
                return
            # Its body is what is no HTTP: this is its answer, and for the application its sender is gone.
            self.line.pop()
            unread.disconnected = True
            unread.message_event.set()
        turn = LineTurn(self)
        turn.is_started = turn.is_answered = True
        head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(msg)
        turn.write(STATUS_LINE[400] + head + msg.encode("ascii"))
        turn.close()
        self._join(turn)

    def shutdown(self) -> None:
        """The server stops: the connection ends with the answer to the last request that is here."""
        if not self.line:
            self.transport.close()
            return
        cycle = self.line[-1].cycle
        if cycle is None or cycle.response_complete:
            self.line[-1].close()
        else:
            cycle.keep_alive = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # uvicorn's own way to start one: it goes where uvicorn puts those that have to wait.
        self.pipeline.appendleft((cycle, app))

    def _join(self, turn: LineTurn) -> None:
        self.line.append(turn)
        self.flow.is_held = True
        if len(self.line) == 1:
            turn.come()
        self.start_next()
        if self.flow.is_held:
            self.flow.pause_reading()

    def _may_start(self, before: LineTurn | None) -> bool:
        if self.transport.is_closing():
            return False
        return before is None or (not before.is_last and (before.lets_next_begin or before.is_answered))

    def _is_answered(self, turn: LineTurn) -> None:
        self.server_state.total_requests += 1
        turn.is_answered = True
        while self.line and self.line[0].is_answered:
            self.line.popleft().cycle = None
            if self.line and not self.transport.is_closing():
                self.line[0].come()
        if self.transport.is_closing():
            return
        self.start_next()
        if not self.line:
            self._unset_keepalive_if_required()
            self._keep_alive()

    def _is_worked_off(self) -> None:
        self._n_at_work -= 1
        self._let_go()

    def _let_go(self) -> None:
        """Nobody will be answered and nobody is at work: what refers to one another would stay until the next
        collection of garbage, bodies and answers included.
        """
        if not self._is_lost or self._n_at_work:
            return
        for turn in self.line:
            turn.cycle = None
        self.line.clear()
        self.cycle = self.scope = None  # type: ignore[assignment]

    def _keep_alive(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
