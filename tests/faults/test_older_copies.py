"""An older copy of the journal is put back, or segments go: what was acknowledged is found again, or missed aloud."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import apsw
import pytest

from replenish.cli.deployment import Deployment
from replenish.cli.doctor_visit import Depth, DoctorReport, DoctorTools, pay_visit, require_sound_journal
from replenish.cli.rebuild import rebuild_root
from replenish.errors import DamagedLog, StoreError
from replenish.history.bronze import append_bronze
from replenish.ingest.settle import settle_events
from replenish.stores.doctor.journal_file import check_journal_file
from replenish.stores.journal_entry import EVENT_UPSERT, EventEntry
from replenish.stores.layout import RootLayout
from replenish.stores.segments import log_records, seal
from replenish.stores.standby import ship
from replenish.stores.trim import trim
from tests.faults.damaged_world import NOW, SALES, build_world


@pytest.fixture
def world(tmp_path: Path) -> Deployment:
    return build_world(tmp_path / "root")


def take(world: Deployment, tag: str) -> None:
    """Forty more events, acknowledged and settled."""
    row = {"location_id": "S1", "sku_id": "A1", "units": 1, "knowledge_time": "2025-01-21T22:00:00Z"}
    bodies = [row | {"sold_at": f"2025-01-21T10:{nr:02}:00Z", "sale_id": f"{tag}{nr}"} for nr in range(40)]
    entries = [
        EventEntry("till", str(body["sale_id"]), EVENT_UPSERT, "events.sales", "sales@1.0.0", json.dumps(body).encode())
        for body in bodies
    ]
    world.journal.append_events(entries, now=NOW)
    settle_events(world.dataset, world.contracts, world.journal, world.layout, now=NOW)


def put_older_copy_back(world: Deployment, copy: Path) -> None:
    """Sealed after the copy was made; then the copy takes the journal's place."""
    journal = world.journal
    journal.connection.execute("pragma wal_checkpoint(truncate)")
    journal.close()
    shutil.copy(world.layout.journal, copy)
    take(world, "a")
    seal(world.journal, world.layout, min_records=1)
    for path in world.layout.root.glob("journal.sqlite*"):
        path.unlink()
    shutil.copy(copy, world.layout.journal)


def visit(world: Deployment, depth: Depth = "full", *helpers: Path) -> DoctorReport:
    return pay_visit(world, DoctorTools(lambda: None, None, helpers), depth=depth, is_repairing=True, now=NOW)


@pytest.mark.parametrize("depth", ["quick", "full"])
def test_what_was_sealed_comes_back_into_an_older_copy(world: Deployment, tmp_path: Path, depth: Depth) -> None:
    put_older_copy_back(world, tmp_path / "copy")
    with pytest.raises(DamagedLog, match="older copy"):
        require_sound_journal(world.layout)
    report = visit(world, depth)
    assert (report.exit_code, [t.finding.kind for t in report.treatments]) == (1, ["journal_behind"])
    assert world.journal.find("till", "a39") is not None
    assert visit(world).exit_code == 0


def test_two_logs_of_the_same_places_are_both_kept(world: Deployment, tmp_path: Path) -> None:
    put_older_copy_back(world, tmp_path / "copy")
    # As if it had been put back before anybody could know.
    world.layout.segments.rename(tmp_path / "segments")
    take(world, "b")
    (tmp_path / "segments").rename(world.layout.segments)
    with pytest.raises(DamagedLog, match="other entries"):
        trim(world.journal, world.layout, now=NOW + timedelta(days=90))
    assert len(list(log_records(world.journal, world.layout))) == world.journal.last_seq()
    sealed = set(world.layout.segments.iterdir())
    report = visit(world)
    assert [(t.finding.kind, t.is_mended) for t in report.treatments] == [("segment_forked", False)]
    assert set(world.layout.segments.iterdir()) == sealed


@pytest.mark.parametrize("depth", ["quick", "full"])
def test_segments_that_hold_trimmed_bodies_are_missed(world: Deployment, depth: Depth) -> None:
    take(world, "a")
    seal(world.journal, world.layout, min_records=1)
    assert trim(world.journal, world.layout, now=NOW + timedelta(days=90)) > 0
    shutil.rmtree(world.layout.segments)
    report = visit(world, depth)
    assert report.exit_code == 2
    assert {t.finding.kind for t in report.treatments} == {"segment_missing"}


def test_a_journal_of_the_first_release_is_no_damage(world: Deployment) -> None:
    world.journal.close()
    for path in world.layout.root.glob("journal.sqlite*"):
        path.unlink()
    shutil.rmtree(world.layout.segments)
    file = apsw.Connection(str(world.layout.journal))
    file.execute(
        "create table records (seq integer primary key, source text not null, id text not null, type text not null,"
        " subject text not null, time text not null, dataschema text not null, data text not null,"
        " unique (source, id));"
        "create table dead_letters (nr integer primary key, seq integer not null references records (seq),"
        " feed_id text not null, file text not null, row_nr integer, reason text not null, field text, rule text,"
        " raw text)"
    )
    row = ("shop.sales", "x", "replenish.file.dead", "a.csv", NOW.isoformat(), "sales@1.0.0", "{}")
    file.execute("insert into records values (1, ?, ?, ?, ?, ?, ?, ?)", row)
    file.close()
    assert check_journal_file(world.layout.journal, is_expected=True, is_thorough=True) == []
    require_sound_journal(world.layout)
    assert world.journal.head().seq == 1


def test_a_journal_of_a_newer_release_is_left_alone(world: Deployment) -> None:
    world.journal.connection.execute("pragma user_version = 99")
    before = world.layout.journal.stat().st_ino
    with pytest.raises(StoreError, match="newer release"):
        visit(world)
    assert world.layout.journal.stat().st_ino == before


def test_no_empty_log_takes_the_place_of_one_that_is_gone(world: Deployment) -> None:
    world.journal.close()
    for path in world.layout.root.glob("journal.sqlite*"):
        path.unlink()
    shutil.rmtree(world.layout.segments)
    report = visit(world)
    assert [(t.finding.kind, t.is_mended) for t in report.treatments] == [("journal_missing", False)]
    with pytest.raises(DamagedLog):
        rebuild_root(world, is_from_raw=False, progress=lambda _: None)
    assert not world.layout.journal.exists()
    assert world.lake.row_count("bronze/sales") > 0


@pytest.mark.parametrize("depth", ["quick", "full"])
def test_a_table_ahead_of_the_log_is_kept_and_named(world: Deployment, tmp_path: Path, depth: Depth) -> None:
    put_older_copy_back(world, tmp_path / "copy")
    shutil.rmtree(world.layout.segments)
    append_bronze("sales", SALES, world.journal, world.layout, world.lake)
    take(world, "c")
    append_bronze("sales", SALES, world.journal, world.layout, world.lake)
    rows = world.lake.row_count("bronze/sales")
    for path in world.layout.root.glob("journal.sqlite*"):
        path.unlink()
    shutil.copy(tmp_path / "copy", world.layout.journal)
    report = visit(world, depth)
    assert [(t.finding.kind, t.is_mended) for t in report.treatments] == [("journal_behind_tables", False)]
    assert world.lake.row_count("bronze/sales") == rows


def test_what_an_older_copy_lacks_comes_from_a_standby(world: Deployment, tmp_path: Path) -> None:
    standby = RootLayout(tmp_path / "standby")
    put_older_copy_back(world, tmp_path / "copy")
    shutil.rmtree(world.layout.segments)
    take(world, "c")
    ship(world.layout, standby, now=NOW)
    for path in world.layout.root.glob("journal.sqlite*"):
        path.unlink()
    shutil.copy(tmp_path / "copy", world.layout.journal)
    report = visit(world, "full", standby.root)
    assert [(t.finding.kind, t.is_mended) for t in report.treatments] == [("journal_behind", True)]
    assert world.journal.find("till", "c39") is not None
    # The restored one is no standby for having come from one.
    take(world, "d")
