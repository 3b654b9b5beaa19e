"""The doctor beside processes that write: a sound log is never taken for a damaged one, a used one never moved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import apsw
import polars as pl
import pytest

from replenish.cli.deployment import Deployment
from replenish.cli.doctor_visit import DoctorReport, DoctorTools, pay_visit, require_sound_journal
from replenish.cli.mend_lake import LakeMender
from replenish.cli.rebuild import rebuild_root
from replenish.errors import AlreadyRunning
from replenish.history.bronze import append_bronze
from replenish.history.log_checks import check_bronze_rows
from replenish.ingest.settle import settle_events
from replenish.stores.doctor.findings import Finding
from replenish.stores.doctor.quarantine import Quarantine
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EVENT_UPSERT, EventEntry
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout
from replenish.stores.locks import hold
from tests.faults.damaged_world import JOURNAL_DAMAGES, LAKE_DAMAGES, NOW, SALES, build_world


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


def test_rows_that_are_appended_during_the_look_are_no_damage(world: Deployment) -> None:
    class Growing(DeltaLake):
        """Another process appends between the look at the offset and the look at the rows."""

        def scan(self, table: str, *, version: int | None = None) -> pl.LazyFrame:
            append_bronze("sales", SALES, world.journal, world.layout, world.lake)
            return super().scan(table, version=version)

    settle_one(world)
    assert check_bronze_rows("sales", world.journal, Growing(world.layout.lake)) == []
    assert world.lake.app_version("bronze/sales", "bronze") == world.journal.last_seq()


def settle_one(world: Deployment) -> None:
    """One more event becomes a fact that bronze has not taken."""
    body = {"location_id": "S1", "sku_id": "A1", "sold_at": "2025-01-20T12:00:00Z", "sale_id": "one", "units": 1}
    entry = EventEntry("till", "one", EVENT_UPSERT, "events.sales", "sales@1.0.0", json.dumps(body).encode())
    world.journal.append_events([entry], now=NOW)
    settle_events(world.dataset, world.contracts, world.journal, world.layout, now=NOW)


def test_damage_that_a_second_look_does_not_find_is_not_mended(world: Deployment) -> None:
    false = Finding("missing_file", "bronze/sales", "a file of a commit under way", "rebuild", None)
    mender = LakeMender(world, Quarantine(world.layout.root, world.layout.quarantine, "now"), lambda: None)
    version = world.lake.version("bronze/sales")
    (treatment,) = mender.mend([false])
    assert (treatment.is_mended, treatment.done) == (True, "nothing: it was whole at a second look")
    assert world.lake.version("bronze/sales") == version
    assert not world.layout.quarantine.exists()


def test_a_rebuild_waits_for_the_writer_of_a_table(world: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replenish.cli.rebuild_tables.WAIT_FOR_WRITER_SECONDS", 0)
    with hold(world.lake.lock_path("bronze/sales"), "write the table"), pytest.raises(AlreadyRunning):
        rebuild_root(world, is_from_raw=False, progress=lambda _: None)
    assert world.lake.has("bronze/sales")
    assert rebuild_root(world, is_from_raw=False, progress=lambda _: None).differs == ()


def test_stores_that_are_links_to_other_disks_are_mended(world: Deployment, tmp_path: Path) -> None:
    for name in ("lake", "archive"):
        (world.layout.root / name).rename(tmp_path / name)
        (world.layout.root / name).symlink_to(tmp_path / name)
    LAKE_DAMAGES["newest commit torn"][1](world.layout.lake / "bronze/sales")
    archived = next(path for path in (tmp_path / "archive").rglob("*") if path.is_file())
    archived.write_bytes(b"other")
    report = visit(world)
    assert report.needs_person == 0, report.treatments
    assert {t.finding.subject for t in report.treatments} == {"archive", "bronze/sales"}
