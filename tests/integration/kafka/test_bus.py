"""The bus: every order reaches the topic once under its key; a lost note of it sends the same again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Message
from mock_cluster import MockCluster

from replenish.contracts.doors import BusSettings
from replenish.stores.bus import DecisionBus
from replenish.stores.layout import RootLayout
from replenish.stores.outbox import Outbox, OutboxOrder

TOPIC = "decisions"
N = 25


def order(nr: int) -> OutboxOrder:
    return OutboxOrder(
        f"slot-{nr}-1", f"d{nr}", f"slot-{nr}", 1, "2026-01-01", "2026-01-01T06:00:00+00:00", None, f"A{nr}", "S1",
        10 + nr, None, "ordered",
    )  # fmt: skip


@pytest.fixture
def layout(tmp_path: Path) -> RootLayout:
    layout = RootLayout(tmp_path)
    outbox = Outbox(layout.outbox)
    for nr in range(N):
        outbox.put(order(nr))
    return layout


def bus(layout: RootLayout, cluster: MockCluster) -> DecisionBus:
    return DecisionBus(BusSettings(cluster.brokers, TOPIC), layout, log_level=0)


def read(cluster: MockCluster, count: int) -> list[Message]:
    settings = {"bootstrap.servers": cluster.brokers, "group.id": "taker", "auto.offset.reset": "earliest"}
    consumer = Consumer({**settings, "log_level": 0})
    consumer.subscribe([TOPIC])
    found: list[Message] = []
    for _ in range(60):
        found += consumer.consume(100, 0.5)
        if len(found) >= count:
            break
    consumer.close()
    return found


def test_each_order_once_keyed_by_its_slot(layout: RootLayout, cluster: MockCluster) -> None:
    assert bus(layout, cluster).publish().sent == N
    assert bus(layout, cluster).publish().sent == 0
    # Killed behind the broker's answer and before the note: the same message again.
    (bus(layout, cluster).markers / "slot-3-1").unlink()
    assert bus(layout, cluster).publish().sent == 1
    messages = read(cluster, N + 1)
    by_id: dict[bytes, set[bytes]] = {}
    for message in messages:
        headers = dict(message.headers() or [])
        assert json.loads(message.value())["slot_id"].encode() == message.key()
        by_id.setdefault(headers["id"], set()).add(message.value())
    assert len(messages) == N + 1
    assert len(by_id) == N
    assert all(len(values) == 1 for values in by_id.values())


def test_brokers_that_are_away_mark_nothing(layout: RootLayout, cluster: MockCluster) -> None:
    cluster.stop()
    away = DecisionBus(BusSettings(cluster.brokers, TOPIC), layout, log_level=0, **{"message.timeout.ms": 1500})
    report = away.publish()
    assert (report.sent, report.failed) == (0, N)
    assert report.fault
    assert not away.markers.exists()
