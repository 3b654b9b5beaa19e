"""Clients of the event doors: they send what was never acknowledged, in order per fact, and note every answer."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

from tests.faults.oracle import Oracle, read_acks
from tests.faults.world import FEED, SOURCE, Delivery, World

PER_REQUEST = (5, 14)
"""By turns: few events, and enough that a store may keep them together."""
GHOST = "ghost"
"""Events of requests that are never sent whole: none of them may ever be in the log."""


def unanswered(world: World, oracle: Oracle, waves: range) -> list[Delivery]:
    """Deliveries of these waves in order, without those that were acknowledged before (but for every seventh)."""
    answered = {ack.nr for ack in read_acks(oracle.path)}
    chosen = [delivery for wave in waves for delivery in world.waves[wave]]
    return [delivery for delivery in chosen if delivery.nr not in answered or delivery.nr % 7 == 0]


def chunks(deliveries: Sequence[Delivery]) -> Iterator[list[Delivery]]:
    """The deliveries, a request's worth at a time."""
    start = 0
    for size in cycle(PER_REQUEST):
        if start >= len(deliveries):
            return
        yield list(deliveries[start : start + size])
        start += size


def note_offers(oracle: Oracle, chunk: list[Delivery]) -> None:
    """Before it is sent."""
    oracle.note_all([{"kind": "offer", "nr": delivery.nr, "id": delivery.id} for delivery in chunk])


def note_verdicts(oracle: Oracle, door: str, chunk: list[Delivery], verdicts: Sequence[tuple[str, int]]) -> None:
    """After the answer has come: one verdict each, or the door has miscounted."""
    if len(verdicts) != len(chunk):
        raise AssertionError(f"{len(chunk)} events were offered, {len(verdicts)} answered")
    oracle.note_all(
        [
            {"kind": "ack", "door": door, "source": SOURCE, "id": d.id, "outcome": outcome, "seq": seq, "nr": d.nr}
            for d, (outcome, seq) in zip(chunk, verdicts, strict=True)
        ]
    )


def offer_over_http(world: World, oracle: Oracle, waves: range, address: tuple[str, int]) -> None:
    """Two clients at once, each with its own facts, until all is answered or the server is gone."""
    deliveries = unanswered(world, oracle, waves)
    halves = [[d for d in deliveries if hash_of(d) % 2 == half] for half in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda half: _talk(half, oracle, address), halves))


def hash_of(delivery: Delivery) -> int:
    """The number of its fact: all that is said of one fact goes through one client, in order."""
    return int(str(delivery.row["sale_id"])[1:5])


def _talk(deliveries: list[Delivery], oracle: Oracle, address: tuple[str, int]) -> None:
    connection = http.client.HTTPConnection(*address, timeout=30)
    half_sent: list[socket.socket] = []
    try:
        for number, chunk in enumerate(chunks(deliveries)):
            if number % 3 == 1:
                half_sent.append(_send_half(chunk, address))
            note_offers(oracle, chunk)
            connection.request("POST", "/events", *_batch(chunk))
            answer = connection.getresponse()
            content = answer.read()
            if answer.status >= 500 or answer.status == 429:
                # Refused as a whole: nothing is acknowledged, and a later phase offers it again.
                return
            verdicts = json.loads(content)["verdicts"]
            note_verdicts(oracle, "http", chunk, [(verdict["outcome"], verdict["seq"]) for verdict in verdicts])
    except (OSError, http.client.HTTPException):
        # The server died: what was not answered may or may not be in its log.
        return
    finally:
        connection.close()
        for opened in half_sent:
            opened.close()


def _batch(chunk: list[Delivery]) -> tuple[bytes, dict[str, str]]:
    events = [cloud_event(delivery.id, delivery) for delivery in chunk]
    return json.dumps(events).encode(), {"content-type": "application/cloudevents-batch+json"}


def cloud_event(id_: str, delivery: Delivery) -> dict[str, object]:
    """A delivery in CloudEvents' structured form."""
    kind = "replenish.event.upsert" if delivery.op == "I" else "replenish.event.delete"
    envelope = {"specversion": "1.0", "id": id_, "source": SOURCE, "type": kind, "subject": FEED}
    return envelope | {"data": delivery.body()}


def _send_half(chunk: list[Delivery], address: tuple[str, int]) -> socket.socket:
    """Open a request and stop in the middle of its body, behind whole events that a careless door would take."""
    body = json.dumps([cloud_event(f"{GHOST}-{delivery.id}", delivery) for delivery in chunk]).encode()
    head = "POST /events HTTP/1.1\r\nhost: x\r\ncontent-type: application/cloudevents-batch+json\r\n"
    head += f"content-length: {len(body)}\r\n\r\n"
    opened = socket.create_connection(address, timeout=10)
    opened.sendall(head.encode() + body[: len(body) * 2 // 3])
    return opened
