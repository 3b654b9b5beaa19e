"""The doctor beside processes that write: a sound log is never taken for a damaged one, a used one never moved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import apsw
import pytest

from replenish.cli.deployment import Deployment
from replenish.cli.doctor_visit import DoctorReport, DoctorTools, pay_visit, require_sound_journal
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EVENT_UPSERT, EventEntry
from replenish.stores.layout import RootLayout
from replenish.stores.locks import hold
from tests.faults.damaged_world import JOURNAL_DAMAGES, NOW, build_world


@pytest.fixture
def world(tmp_path: Path) -> Deployment:
    return build_world(tmp_path / "root")


def visit(world: Deployment) -> DoctorReport:
    return pay_visit(world, DoctorTools(lambda: None), depth="full", is_repairing=True, now=NOW)


@pytest.mark.parametrize("lock", ["serve", "door-till"])
def test_a_journal_that_somebody_writes_stays_in_its_place(world: Deployment, lock: str) -> None:
    JOURNAL_DAMAGES["a record deleted"][1](world.layout.root)
    before = world.layout.journal.stat().st_ino
    with hold(world.layout.locks / f"{lock}.lock", "write"):
        report = visit(world)
    assert report.needs_person == len(report.treatments) == 1
    assert "stop it" in report.treatments[0].advice
    assert world.layout.journal.stat().st_ino == before


def test_a_journal_that_died_while_its_wal_was_moved_into_it_is_whole(world: Deployment, tmp_path: Path) -> None:
    writer = world.journal
    body = json.dumps({"text": "x" * 1000}).encode()
    entries = [EventEntry("till", f"x{nr}", EVENT_UPSERT, "events.sales", "sales@1.0.0", body) for nr in range(500)]
    writer.append_events(entries, now=NOW)
    copy = RootLayout(tmp_path / "copy")
    shutil.copytree(world.layout.root, copy.root)
    # The first page is moved first: it says how many pages there will be.
    n_pages = apsw.Connection(str(world.layout.journal)).pragma("page_count")
    with copy.journal.open("r+b") as file:
        file.seek(28)
        file.write(n_pages.to_bytes(4, "big"))
    assert copy.journal.stat().st_size < n_pages * 4096
    require_sound_journal(copy)
    assert Journal(copy.journal).head() == writer.head()
