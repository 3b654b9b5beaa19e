"""The routes of the HTTP door, as one Starlette application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from replenish.contracts.model import Contract
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.event_feeds import IDENTITY_PREFIX
from replenish.ingest.http.answers import PROBLEM_TYPE, Send, problem, send_answer
from replenish.ingest.http.credentials import Credentials, HttpSource
from replenish.ingest.http.limits import HttpLimits, InFlightBytes, Receive
from replenish.ingest.http.metrics import METRICS_TYPE, DoorMetrics
from replenish.ingest.http.openapi import openapi_document
from replenish.ingest.http.requests import RequestDoor, Scope
from replenish.ingest.http.siblings import Siblings
from replenish.ingest.letter_metrics import with_open_letters
from replenish.stores.group_commit import GroupCommit


def _nothing() -> None:
    """What happens on a failed writer where nobody says otherwise: the answer says it."""


@dataclass(frozen=True)
class HttpDoorOptions:
    """Who may write, how much, and what to do when the journal can no longer be written."""

    sources: tuple[HttpSource, ...] = ()
    limits: HttpLimits = field(default_factory=HttpLimits)
    on_writer_failed: Callable[[], None] = _nothing
    metrics_folder: Path | None = None
    """Where the counters of all processes of the door are, if there are several."""
    siblings: Siblings | None = None
    """The others of them."""


class _Events:
    """POST /events: CloudEvents; each names its feed in `subject`."""

    def __init__(self, door: RequestDoor) -> None:
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._door.serve(scope, receive, send, route="/events", feed_id=None)


class _FeedEvents:
    """POST to an address that names a feed by its id, or a stream: its rows, or Debezium messages for it."""

    def __init__(self, door: RequestDoor, route: str, *, holds_changes: bool) -> None:
        self._door = door
        self._route = route
        self._holds_changes = holds_changes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name, feeds = scope["path_params"]["name"], self._door.door.feeds
        feed_id = name if name in feeds else IDENTITY_PREFIX + name
        if feed_id not in feeds:
            answer = problem(404, "unknown_feed", f"there is no stream and no event feed of this name: {name[:100]}")
            await send_answer(send, answer._replace(headers=((b"connection", b"close"),)))
            return
        await self._door.serve(
            scope, receive, send, route=self._route, feed_id=feed_id, holds_changes=self._holds_changes
        )


def build_app(
    door: EventDoor,
    group: GroupCommit,
    contracts: dict[str, Contract],
    options: HttpDoorOptions,
    clock: Callable[[], datetime],
) -> Starlette:
    """The application over an open door; it closes nothing, its owner does."""
    metrics = DoorMetrics(options.metrics_folder)
    room = InFlightBytes(options.limits.in_flight_bytes, metrics.show_held_bytes)
    requests = RequestDoor(
        door,
        group,
        Credentials(options.sources, clock),
        options.limits,
        room,
        metrics,
        clock,
        options.on_writer_failed,
        siblings=options.siblings,
    )
    if options.siblings is not None:
        options.siblings.is_idle = lambda: room.held == 0 and group.pending_events == 0
    document = msgspec.json.encode(openapi_document(contracts, tuple(door.feeds), options.limits))

    async def health(_: Request) -> Response:
        return _json(b'{"status":"alive"}')

    async def ready(_: Request) -> Response:
        if group.failure is not None:
            answer = problem(503, "writer_failed", "the journal cannot be written")
            return Response(answer.body, 503, media_type=PROBLEM_TYPE.decode())
        return _json(b'{"status":"ready"}')

    async def show_metrics(_: Request) -> Response:
        # Counted where a slow look at a long log holds nobody up.
        open_letters = await asyncio.to_thread(group.count_open_letters)
        return Response(with_open_letters(metrics.exposition(), open_letters), headers={"content-type": METRICS_TYPE})

    async def show_document(_: Request) -> Response:
        return _json(document)

    app = Starlette(
        routes=[
            Route("/events", _Events(requests), methods=["POST"]),
            Route("/events/{name}", _FeedEvents(requests, "/events/{stream}", holds_changes=False), methods=["POST"]),
            Route("/debezium/{name}", _FeedEvents(requests, "/debezium/{feed}", holds_changes=True), methods=["POST"]),
            Route("/healthz", health),
            Route("/readyz", ready),
            Route("/metrics", show_metrics),
            Route("/openapi.json", show_document),
        ]
    )
    app.router.redirect_slashes = False
    return app


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
