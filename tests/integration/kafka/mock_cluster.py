"""librdkafka's mock cluster, spoken to over TCP: brokers in a process of their own, so that they can die.

It keeps topics, groups and offsets, and rebalances; it has no transactions and keeps nothing on disk.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

from confluent_kafka import Consumer, Producer, TopicPartition

_BROKERS = """
import sys
from confluent_kafka import Producer
cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0})
print(",".join(f"{b.host}:{b.port}" for b in cluster.list_topics(timeout=30).brokers.values()), flush=True)
sys.stdin.read()
"""
Header = tuple[str, bytes]


class MockCluster:
    """One broker; every topic has four partitions and is made when first named."""

    N_PARTITIONS = 4

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BROKERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.brokers = self._process.stdout.readline().strip()
        assert self.brokers, "the mock cluster did not start"

    def stop(self) -> None:
        """End the brokers; whoever is connected sees them go."""
        self._process.kill()
        self._process.communicate()

    def send(
        self,
        topic: str,
        values: Iterable[bytes | None],
        *,
        keys: Iterable[bytes | None] | None = None,
        headers: Iterable[list[Header]] | None = None,
        partition: int | None = None,
    ) -> None:
        """Produce messages in order; to one partition where given, else by key or in turn."""
        producer = Producer({"bootstrap.servers": self.brokers, "log_level": 0, "linger.ms": 5})
        values = list(values)
        all_keys = list(keys) if keys is not None else [None] * len(values)
        all_headers = list(headers) if headers is not None else [[] for _ in values]
        for nr, (value, key, pairs) in enumerate(zip(values, all_keys, all_headers, strict=True)):
            place = nr % self.N_PARTITIONS if partition is None and key is None else partition
            more = {} if place is None else {"partition": place}
            producer.produce(topic, value=value, key=key, headers=pairs, **more)
            producer.poll(0)
        assert producer.flush(30) == 0

    def committed(self, group: str, topic: str) -> list[int]:
        """Offset of the group in each partition; -1001 where none was committed."""
        consumer = Consumer({"bootstrap.servers": self.brokers, "group.id": group, "log_level": 0})
        partitions = [TopicPartition(topic, nr) for nr in range(self.N_PARTITIONS)]
        offsets = [place.offset for place in consumer.committed(partitions, timeout=30)]
        consumer.close()
        return offsets
