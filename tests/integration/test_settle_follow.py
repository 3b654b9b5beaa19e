"""`replenish settle --follow` as a process: beside a door, killed, started again, stopped, and told what is wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.reader import read_contracts
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import OfferedEvent
from replenish.ingest.settle import settled_positions
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EVENTS_SETTLED
from replenish.stores.layout import RootLayout
from tests.integration.http_process import PROGRAM, new_root


@pytest.fixture
def layout(tmp_path: Path) -> RootLayout:
    layout = new_root(tmp_path)
    Journal(layout.journal).close()
    return layout


@contextmanager
def settling(layout: RootLayout, *options: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "settle", "--follow", "--every", "0", *options],
        env={**os.environ, "REPLENISH_ROOT": str(layout.root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("settling events of ")
        yield process
    finally:
        process.kill()
        process.wait(60)


def sell(layout: RootLayout, first: int, n: int) -> None:
    """New sales, one request each."""
    journal = Journal(layout.journal)
    group = GroupCommit(journal, lambda: datetime.now(UTC))
    door = EventDoor(read_dataset(layout.dataset_file), read_contracts(), group, lambda: datetime.now(UTC))
    for nr in range(first, first + n):
        sale = {
            "location_id": "S1", "sold_at": "2026-03-01T12:00:00Z", "sale_id": f"r{nr}", "sku_id": "A1", "units": 1,
            "revenue_cents": 100,
        }  # fmt: skip
        (verdict,) = door.offer([OfferedEvent("till", f"e{nr}", "events.sales", "upsert", json.dumps(sale).encode())])
        assert verdict.outcome == "accepted"
    group.close()
    journal.close()


def settled(layout: RootLayout) -> tuple[int, int]:
    """Events that were settled, and how many of them became facts."""
    journal = Journal(layout.journal)
    counts = [(int(str(r.data["offered"])), int(str(r.data["accepted"]))) for r in journal.records(type=EVENTS_SETTLED)]
    journal.close()
    return sum(offered for offered, _ in counts), sum(accepted for _, accepted in counts)


def await_that(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_events_become_facts_as_they_come_also_after_a_kill(layout: RootLayout) -> None:
    with settling(layout):
        sell(layout, 0, 10)
        await_that(lambda: settled(layout) == (10, 10))
        sell(layout, 10, 30)
        # Killed somewhere in them.
    sell(layout, 40, 5)
    with settling(layout) as process:
        await_that(lambda: settled(layout)[0] >= 45)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert settled(layout) == (45, 45)
    journal = Journal(layout.journal)
    assert settled_positions(journal).through == max(e.seq for e in journal.event_bodies(0))
    journal.close()
    told = (layout.metrics / "settle.prom").read_text()
    assert float(told.partition("\nreplenish_settle_behind_seconds ")[2].split()[0]) < 5
    assert 'replenish_settled_events_total{feed="events.sales",outcome="accepted"}' in told


def test_a_second_one_is_refused_and_names_the_first(layout: RootLayout) -> None:
    with settling(layout) as first:
        second = subprocess.run(
            [sys.executable, "-c", PROGRAM, "settle", "--follow"],
            env={**os.environ, "REPLENISH_ROOT": str(layout.root)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert second.returncode == 2
        assert f"process {first.pid}" in second.stderr + second.stdout


def test_it_ends_where_the_journal_was_replaced(layout: RootLayout) -> None:
    with settling(layout) as process:
        kept = layout.journal.with_name("set-aside.sqlite")
        layout.journal.rename(kept)
        Journal(layout.journal).close()
        assert process.wait(60) != 0
        assert process.stdout is not None
        assert "journal was replaced" in process.stdout.read()


def test_once_settles_what_waits_and_says_what_it_was(layout: RootLayout) -> None:
    sell(layout, 0, 3)
    once = subprocess.run(
        [sys.executable, "-c", PROGRAM, "settle"],
        env={**os.environ, "REPLENISH_ROOT": str(layout.root), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert once.returncode == 0, once.stderr
    assert "events.sales" in once.stdout
    assert settled(layout) == (3, 3)
