"""Open dead letters as OpenMetrics: a gauge by feed and reason, the same at every place that shows one.

It says what is in the journal now, whichever process or day refused it; counters of a door begin anew with its process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector

OPEN_LETTERS = "replenish_dead_letters_open"
_END = b"# EOF\n"


class _OpenLetters(Collector):
    def __init__(self, counts: Mapping[tuple[str, str], int]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[GaugeMetricFamily]:
        gauge = GaugeMetricFamily(OPEN_LETTERS, "Open dead letters in the journal.", labels=["feed", "reason"])
        for names, count in sorted(self._counts.items()):
            gauge.add_metric(list(names), count)
        yield gauge


def with_open_letters(exposition: bytes, counts: Mapping[tuple[str, str], int]) -> bytes:
    """OpenMetrics text with the gauge behind what is there already.

    Args:
        exposition: Whole, with its end mark.
        counts: (feed, reason) to open letters, as `count_dead_letters("open")` gives them.
    """
    return exposition.removesuffix(_END) + generate_latest(_registry(counts))


def write_open_letters(counts: Mapping[tuple[str, str], int], path: Path) -> None:
    """The gauge alone as a file for a node exporter; replaced as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(path), _registry(counts))


def _registry(counts: Mapping[tuple[str, str], int]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_OpenLetters(counts))
    return registry
