"""uvicorn's cycle of one request, and its control of what is read, as a line of requests needs them."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class BodyCycle(RequestResponseCycle):
    """uvicorn's, but the parts of a body are joined where they are used, and nowhere copied before."""

    def __init__(
        self, transport: Any, like: RequestResponseCycle, flow: FlowControl, *, on_response: Any, on_end: Any
    ) -> None:
        super().__init__(
            scope=like.scope,
            transport=transport,
            flow=flow,
            logger=like.logger,
            access_logger=like.access_logger,
            access_log=like.access_log,
            default_headers=like.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=like.waiting_for_100_continue,
            keep_alive=like.keep_alive,
            on_response=on_response,
        )
        self.parts: list[bytes] = []
        self.n_unread_bytes = 0
        self._on_end = on_end

    async def run_asgi(self, app: Any) -> None:
        """The application's whole work on this request."""
        try:
            await super().run_asgi(app)
        finally:
            self._on_end()

    async def receive(self) -> Any:
        """What came of the body since the last call."""
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        parts, self.parts, self.n_unread_bytes = self.parts, [], 0
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        return {"type": "http.request", "body": body, "more_body": self.more_body}


class HeldFlow(FlowControl):
    """Reads on only where no request waits to be started, whoever asks for it."""

    is_held = False

    def resume_reading(self) -> None:
        """Go on, unless a request waits."""
        if not self.is_held:
            super().resume_reading()
