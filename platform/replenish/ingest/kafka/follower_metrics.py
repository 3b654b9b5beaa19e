"""What a follower of topics counts, as OpenMetrics text in a file that a node exporter or a person reads."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, write_to_textfile

from replenish.ingest.kafka.follower import FollowedTopics

OUTCOMES = ("accepted", "dead", "duplicate")


def write_follower_metrics(name: str, seen: FollowedTopics, path: Path) -> None:
    """Write counts by outcome, lag by partition and whether the brokers answer; the file is replaced as a whole."""
    registry = CollectorRegistry()
    events = Counter("replenish_kafka_events", "Messages by outcome.", ["door", "outcome"], registry=registry)
    for outcome in OUTCOMES:
        events.labels(name, outcome).inc(getattr(seen, outcome))
    lag = Gauge(
        "replenish_kafka_lag_messages",
        "Messages behind the end of a partition that are not journalled yet.",
        ["door", "topic", "partition"],
        registry=registry,
    )
    for (topic, partition), count in seen.lag.items():
        lag.labels(name, topic, str(partition)).set(count)
    connected = Gauge("replenish_kafka_connected", "1 while the brokers answer.", ["door"], registry=registry)
    connected.labels(name).set(int(seen.is_connected))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(path), registry)
