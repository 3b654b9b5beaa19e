"""What the served twins count, in OpenMetrics: requests, answers' time, keys, place in the log, freshness."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics.exposition import generate_latest

from replenish.cli.twin_follower import TwinFollower

ANSWER_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 1.0)


class TwinMetrics:
    """The counters of one process, in a registry of their own."""

    def __init__(self, follower: TwinFollower) -> None:
        self._follower, self.registry = follower, CollectorRegistry()
        self._requests = Counter(
            "replenish_twin_requests",
            "Requests answered, by set and status.",
            ["feature_set", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "replenish_twin_answer_seconds",
            "Making one vector.",
            ["feature_set"],
            buckets=ANSWER_BUCKETS,
            registry=self.registry,
        )
        self._keys = Gauge("replenish_twin_keys", "Keys with a state.", ["feature_set"], registry=self.registry)
        self._seq = Gauge(
            "replenish_twin_seq", "Place of the log that is taken in.", ["feature_set"], registry=self.registry
        )
        self._known = Gauge(
            "replenish_twin_newest_knowledge_timestamp_seconds",
            "Knowledge time of the newest posting that was taken in.",
            ["feature_set"],
            registry=self.registry,
        )
        self._log_seq = Gauge(
            "replenish_twin_log_seq", "Last place of the log that bears accepted rows.", registry=self.registry
        )
        self._postings = Gauge(
            "replenish_twin_postings", "Postings taken in since the process began.", registry=self.registry
        )

    def count_request(self, feature_set: str, status: int) -> None:
        """One answered request."""
        self._requests.labels(feature_set, str(status)).inc()

    def observe_answer(self, feature_set: str, seconds: float) -> None:
        """How long a vector took."""
        self._seconds.labels(feature_set).observe(seconds)

    def exposition(self) -> bytes:
        """The counters as OpenMetrics text."""
        for name, twin in self._follower.twins.items():
            self._keys.labels(name).set(len(twin))
            self._seq.labels(name).set(twin.seq)
            if twin.newest_known_us is not None:
                self._known.labels(name).set(twin.newest_known_us / 1e6)
        self._log_seq.set(self._follower.log_seq())
        self._postings.set(self._follower.n_postings)
        return generate_latest(self.registry)
