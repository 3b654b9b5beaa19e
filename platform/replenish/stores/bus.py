"""The bus: executed orders of the outbox as messages of a Kafka topic, each at least once under one key and id.

Whether an order was sent is a marker in `outbox/published/`, made after the broker's answer: a crash between the two
sends it again, the same to the byte.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer

from replenish.contracts.doors import BusSettings
from replenish.stores.durable import fsync_path
from replenish.stores.lake_fence import refuse_fenced
from replenish.stores.layout import RootLayout
from replenish.stores.outbox import Outbox, OutboxOrder

ANSWER_SECONDS = 15.0
"""How long the brokers have to take a message, with all retries."""
ORDERS_AT_A_TIME = 1000


@dataclass(frozen=True)
class PublishedOrders:
    """What one look at the outbox did; orders that failed are tried again by the next."""

    sent: int
    failed: int
    fault: str = ""
    """Why, of one that failed."""


class DecisionBus:
    """Publishes the orders of one root; run one at a time (a lock is the caller's)."""

    def __init__(self, settings: BusSettings, layout: RootLayout, **options: object) -> None:
        self._layout, self._outbox, self._topic = layout, Outbox(layout.outbox), settings.topic
        # Ours win: without them a message could be lost, doubled or overtaken inside the client.
        fixed = {"bootstrap.servers": settings.brokers, "enable.idempotence": True, "acks": "all"}
        limits = {"message.timeout.ms": int(ANSWER_SECONDS * 1000), "client.id": "replenish-bus"}
        self._producer = Producer({**limits, **options, **fixed})

    @property
    def markers(self) -> Path:
        """One empty file for each order that the brokers have."""
        return self._layout.outbox / "published"

    def publish(self) -> PublishedOrders:
        """Send the orders that are not marked yet, in key order.

        Raises:
            Fenced: Another root was promoted: its orders count, ours no longer do.
        """
        sent, faults = 0, list[str]()
        waiting = [order for order in self._outbox.orders() if not (self.markers / order.idempotency_key).exists()]
        for first in range(0, len(waiting), ORDERS_AT_A_TIME):
            refuse_fenced(self._layout)
            taken, failed = self._send(waiting[first : first + ORDERS_AT_A_TIME])
            self._mark(taken)
            sent, faults = sent + len(taken), faults + failed
        return PublishedOrders(sent, len(faults), faults[0] if faults else "")

    def _send(self, orders: list[OutboxOrder]) -> tuple[list[str], list[str]]:
        """Keys that the brokers have, and why others failed."""
        taken: list[str] = []
        faults: list[str] = []

        def note(key: str, error: KafkaError | None) -> None:
            if error is None:
                taken.append(key)
            else:
                faults.append(f"{key}: {error.str()}")

        for order in orders:
            key = order.idempotency_key

            def answered(error: KafkaError | None, _: Message, key: str = key) -> None:
                note(key, error)

            headers: list[tuple[str, str | bytes | None]] = [
                ("id", key.encode()),
                ("decision_id", order.decision_id.encode()),
                ("content-type", b"application/json"),
            ]
            self._producer.produce(
                self._topic, value=message_of(order), key=order.slot_id.encode(), headers=headers, on_delivery=answered
            )
            self._producer.poll(0)
        self._producer.flush(2 * ANSWER_SECONDS)
        return taken, faults

    def _mark(self, keys: list[str]) -> None:
        if not keys:
            return
        self.markers.mkdir(parents=True, exist_ok=True)
        for key in keys:
            (self.markers / key).touch()
        fsync_path(self.markers)


def message_of(order: OutboxOrder) -> bytes:
    """The order as JSON: the same bytes each time it is sent."""
    return json.dumps(asdict(order), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
