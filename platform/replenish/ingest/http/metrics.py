"""What the HTTP door counts, in OpenMetrics: requests, events by verdict, refusals by reason, time to the answer."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

from replenish.stores.event_run import EventRun
from replenish.stores.journal_entry import AcceptedRange, EventEntry, Receipt

METRICS_TYPE = CONTENT_TYPE_LATEST
ACK_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class DoorMetrics:
    """The counters of one process, in a registry of their own.

    Args:
        shared_folder: Where all processes of the door keep their counters, if there are several: each then shows the
            sum over all of them, those included that are gone.
    """

    def __init__(self, shared_folder: Path | None = None) -> None:
        self.registry = CollectorRegistry()
        self._shared_folder = shared_folder
        self._requests = Counter(
            "replenish_http_requests",
            "Requests answered, by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self._events = Counter(
            "replenish_http_events", "Events by feed and verdict.", ["feed", "outcome"], registry=self.registry
        )
        self._refusals = Counter(
            "replenish_http_dead_letters",
            "Refused events by feed and reason.",
            ["feed", "reason"],
            registry=self.registry,
        )
        self._gone = Counter(
            "replenish_http_clients_gone", "Senders that left before their request was whole.", registry=self.registry
        )
        self._helped = Counter(
            "replenish_http_requests_judged_by_siblings",
            "Requests that another process of the door judged.",
            registry=self.registry,
        )
        self._held = Gauge(
            "replenish_http_held_bytes",
            "Bytes of bodies being read or judged.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self._seconds = Histogram(
            "replenish_http_ack_seconds",
            "From the headers to a durable answer.",
            ["route"],
            buckets=ACK_BUCKETS,
            registry=self.registry,
        )

    def show_held_bytes(self, held: int) -> None:
        """How many bytes of bodies are held now."""
        self._held.set(held)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """One answered request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def count_helped(self) -> None:
        """One request that a sibling judged."""
        self._helped.inc()

    def count_gone(self) -> None:
        """One sender that left."""
        self._gone.inc()

    def count_events(self, entries: Sequence[EventEntry], receipts: Sequence[Receipt]) -> None:
        """The verdicts of one request."""
        if isinstance(entries, EventRun) and isinstance(receipts, AcceptedRange):
            self._events.labels(entries.like.subject, "accepted").inc(len(entries))
            return
        pairs = Tally(zip([entry[3] for entry in entries], [receipt[0] for receipt in receipts], strict=True))
        for (feed, outcome), n in pairs.items():
            self._events.labels(feed, outcome).inc(n)
        if any(outcome != "accepted" for _, outcome in pairs):
            for entry, receipt in zip(entries, receipts, strict=True):
                if receipt.outcome == "conflict":
                    self._refusals.labels(entry.subject, "id_conflict").inc()
                elif entry.letter is not None and receipt.outcome == "dead":
                    self._refusals.labels(entry.subject, entry.letter.reason).inc()

    def exposition(self) -> bytes:
        """The counters as OpenMetrics text."""
        if self._shared_folder is None:
            return generate_latest(self.registry)
        everybodys = CollectorRegistry()
        MultiProcessCollector(everybodys, str(self._shared_folder))
        return generate_latest(everybodys)
