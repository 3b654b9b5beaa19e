"""What a follower of a database counts, as OpenMetrics text in a file that a node exporter or a person reads."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, write_to_textfile

from replenish.ingest.cdc.slot import SlotLag

OUTCOMES = ("accepted", "dead", "duplicate", "conflict")
_GAUGES: Mapping[str, str] = {
    "lag_bytes": "Bytes that the source wrote to its log and that are not journalled yet, other tables' included.",
    "lag_seconds": "Seconds since the oldest change that is not journalled yet; 0 where there is none.",
    "kept_bytes": "Bytes of log that the source keeps on its disk for the slot.",
}


@dataclass
class FollowedDatabase:
    """What a follower has seen since it started."""

    outcomes: Counts[str] = field(default_factory=Counts)
    lag: SlotLag | None = None
    """As it was last read; None before the first time."""
    is_connected: bool = False


def write_database_metrics(name: str, seen: FollowedDatabase, path: Path) -> None:
    """Write counts by outcome, how far behind the slot is, and whether the source answers; replaces the whole file."""
    registry = CollectorRegistry()
    events = Counter("replenish_postgres_events", "Events by outcome.", ["door", "outcome"], registry=registry)
    for outcome in OUTCOMES:
        events.labels(name, outcome).inc(seen.outcomes[outcome])
    if seen.lag is not None:
        for field_name, words in _GAUGES.items():
            gauge = Gauge(f"replenish_postgres_{field_name}", words, ["door", "slot"], registry=registry)
            gauge.labels(name, seen.lag.slot).set(getattr(seen.lag, field_name))
        lost = Gauge(
            "replenish_postgres_slot_lost",
            "1 where the source threw away changes that were not read, or has no such slot.",
            ["door", "slot"],
            registry=registry,
        )
        lost.labels(name, seen.lag.slot).set(int(seen.lag.is_lost or not seen.lag.exists))
    connected = Gauge("replenish_postgres_connected", "1 while the source answers.", ["door"], registry=registry)
    connected.labels(name).set(int(seen.is_connected))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(path), registry)
