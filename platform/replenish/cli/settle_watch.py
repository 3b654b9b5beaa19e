"""What a resident settler tells those who watch it, as a node exporter's textfile."""

from __future__ import annotations

from collections import Counter as Counts
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, write_to_textfile

from replenish.ingest.settle import SettleReport

OUTCOMES = ("accepted", "dead", "duplicate")


class SettleWatch:
    """Counts what was settled, and since when something waits."""

    def __init__(self, path: Path, started_at: datetime) -> None:
        self._path = path
        self._events: Counts[tuple[str, str]] = Counts()
        self._n_batches = 0
        self._up_to_date_at = started_at

    def take(self, report: SettleReport, now: datetime) -> None:
        """A settling went well."""
        for batch in report.batches:
            self._n_batches += 1
            for outcome in OUTCOMES:
                self._events[batch.feed_id, outcome] += int(getattr(batch, outcome))
        self._up_to_date_at = now

    def write(self, now: datetime, *, is_waiting: bool) -> None:
        """Replace the file; on a full disk the next try may do.

        Args:
            now: The instant.
            is_waiting: Something was journalled that is not settled yet.
        """
        if not is_waiting:
            self._up_to_date_at = now
        registry = CollectorRegistry()
        events = Counter("replenish_settled_events", "Events by outcome.", ["feed", "outcome"], registry=registry)
        for (feed, outcome), count in self._events.items():
            events.labels(feed, outcome).inc(count)
        Counter("replenish_settled_batches", "Records of settled events.", registry=registry).inc(self._n_batches)
        behind = Gauge("replenish_settle_behind_seconds", "Since when something waits; 0: nothing.", registry=registry)
        if is_waiting:
            behind.set((now - self._up_to_date_at).total_seconds())
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_to_textfile(str(self._path), registry)
