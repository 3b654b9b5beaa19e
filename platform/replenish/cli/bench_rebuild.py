"""The rebuild's benchmark: a million events, from files and single, dropped to the log and made again: equal digests.

Four in five come in daily files (late lines and corrections among them), the rest one by one through the event door, a
tenth of those repeated, some corrected, some refused. What is sealed is trimmed from the journal first, so that the
rebuild has to read journal, segments and archived files.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from replenish.cli.bench_loop import write_sales_files
from replenish.cli.deployment import CHECKOUT, Deployment, open_deployment, prepare_deployment
from replenish.cli.rebuild import rebuild_root
from replenish.cli.rebuild_tables import build_layers
from replenish.cli.stages import build_gold_tables
from replenish.errors import BrokenPromise
from replenish.ingest.door import ingest_folder
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import OfferedEvent
from replenish.ingest.settle import settle_events
from replenish.stores.group_commit import GroupCommit
from replenish.stores.segments import seal
from replenish.stores.trim import trim

ARRIVAL = datetime(2025, 7, 1, tzinfo=UTC)
SHARE_SINGLE = 0.2
SHARE_REPEATED, SHARE_CORRECTED, SHARE_REFUSED = 0.1, 0.03, 0.005
EVENTS_PER_OFFER = 1_000
FEED = "events.sales"


def run_rebuild_bench(n_events: int = 1_000_000, folder: Path | None = None) -> dict[str, object]:
    """Fill a root, rebuild it from the log alone, and compare the digests of every table.

    Args:
        n_events: Rows and single events offered, about.
        folder: Where the root lies for the time of the run; None = the system's temporary folder.

    Raises:
        BrokenPromise: A table is not what it was.
    """
    with tempfile.TemporaryDirectory(prefix="replenish-rebuild-", dir=folder) as scratch:
        deployment, figures = _filled_root(Path(scratch), n_events)
        offered = {name: value for name, value in figures.items() if name.startswith("offered")}
        report = rebuild_root(deployment, is_from_raw=True, progress=_say)
        if report.differs or report.grown:
            raise BrokenPromise("the rebuilt tables differ", tables=(*report.differs, *report.grown))
        rows = {
            f"rows_{name.replace('/', '_')}": deployment.lake.row_count(name)
            for name in ("bronze/sales", "silver/sales", "gold/fct_demand")
        }
        return {
            **figures,
            **rows,
            "tables": len(report.digests),
            "equal_digests": True,
            "rebuild_minutes": report.minutes,
            "events_per_s": sum(float(str(n)) for n in offered.values()) / (report.minutes * 60),
        }


def _filled_root(scratch: Path, n_events: int) -> tuple[Deployment, dict[str, object]]:
    """A root with everything in it, sealed and trimmed; and what was offered."""
    data = scratch / "data"
    n_rows = write_sales_files(data, int(n_events * (1 - SHARE_SINGLE)))
    root = scratch / "root"
    prepare_deployment(root, data, feed=CHECKOUT / "platform" / "feeds" / "retailer.yaml", assume=None)
    deployment = open_deployment(root)
    layout, journal = deployment.layout, deployment.journal
    started = time.monotonic()
    ingest_folder(layout.drop, deployment.dataset, deployment.contracts, journal, layout, now=ARRIVAL)
    n_single, n_dead = _offer_events(deployment, n_events - n_rows)
    settle_events(deployment.dataset, deployment.contracts, journal, layout, now=ARRIVAL, versions=deployment.versions)
    build_layers(deployment, lambda: build_gold_tables(deployment.lake, root / "dbt"), _say)
    segments = seal(journal, layout, min_records=1)
    n_trimmed = trim(journal, layout, now=ARRIVAL + timedelta(days=60))
    return deployment, {
        "offered_rows_in_files": n_rows,
        "offered_single_events": n_single,
        "refused_single_events": n_dead,
        "segments": len(segments),
        "trimmed_bodies": n_trimmed,
        "fill_minutes": (time.monotonic() - started) / 60,
    }


def _offer_events(deployment: Deployment, n_events: int) -> tuple[int, int]:
    """Through the event door; how many were offered and how many of them refused."""
    journal = deployment.journal
    group = GroupCommit(journal, lambda: ARRIVAL)
    n_offered = n_dead = 0
    try:
        door = EventDoor(deployment.dataset, deployment.contracts, group, lambda: ARRIVAL)
        events = list(_events(n_events))
        for start in range(0, len(events), EVENTS_PER_OFFER):
            verdicts = door.offer(events[start : start + EVENTS_PER_OFFER])
            n_offered += len(verdicts)
            n_dead += sum(verdict.outcome == "dead" for verdict in verdicts)
    finally:
        group.close()
        journal.close()
    return n_offered, n_dead


def _events(n_events: int, seed: int = 2) -> Iterator[OfferedEvent]:
    """Sales one by one; repetitions, corrections and faulty ones follow what they are about."""
    rng = np.random.default_rng(seed)
    kinds = rng.random(n_events)
    first = datetime(2025, 1, 1, 8, tzinfo=UTC)
    last: OfferedEvent | None = None
    for nr in range(n_events):
        if last is not None and kinds[nr] < SHARE_REPEATED:
            yield last
            continue
        sale, known_after = nr, 1
        if kinds[nr] > 1 - SHARE_CORRECTED and nr:
            sale, known_after = nr - 1, 2
        sold_at = first + timedelta(seconds=13 * sale)
        body = {
            "location_id": f"S{sale % 10}",
            "sku_id": f"A{sale % 97:05}",
            "sold_at": sold_at.isoformat(),
            "sale_id": f"E{sale}",
            "units": None if 0.5 < kinds[nr] < 0.5 + SHARE_REFUSED else int(1 + nr % 9),
            "knowledge_time": (sold_at + timedelta(days=known_after)).isoformat(),
        }
        last = OfferedEvent("till", f"e{nr}", FEED, "upsert", json.dumps(body).encode())
        yield last


def _say(text: str) -> None:
    # Minutes pass; figures alone go to standard output.
    print(text, file=sys.stderr)
