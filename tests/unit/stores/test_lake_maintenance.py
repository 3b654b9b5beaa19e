"""Compaction, vacuum and the shelf for old log entries lose no row, no offset and no version that is kept."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest
from lake_child import TABLE, append_batches, batch

from replenish.digests import table_digest
from replenish.errors import StoreError, TableMissing
from replenish.stores import lake_log, lake_maintenance
from replenish.stores.lake import DeltaLake
from replenish.stores.lake_maintenance import (
    compact,
    compact_when_due,
    expire_log,
    maintain_lake,
    maintain_table,
    vacuum,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)


@pytest.fixture
def lake(tmp_path):
    made = DeltaLake(tmp_path / "lake")
    append_batches(made, 25)
    return made


def digest(lake, version=None):
    return table_digest(lake.read(TABLE, version=version), ["batch", "row"])


def test_compaction_keeps_rows_offsets_and_old_versions(lake):
    before, middle = digest(lake), digest(lake, 10)
    assert compact(lake, TABLE, every=1)
    assert len(lake.file_paths(TABLE)) == 3
    assert digest(lake) == before
    assert digest(lake, 10) == middle
    assert lake.app_version(TABLE, "child") == 25
    append_batches(lake, 26)
    assert lake.row_count(TABLE) == 78


def test_a_table_is_compacted_only_when_it_is_time(lake, monkeypatch):
    assert not compact(lake, TABLE)
    monkeypatch.setattr(lake_maintenance, "COMPACT_EVERY", 20)
    compact_when_due(lake, lake.state(TABLE))
    version = lake.version(TABLE)
    compact_when_due(lake, lake.state(TABLE))
    assert lake.version(TABLE) == version == 25


def test_a_vacuum_of_less_than_a_week_is_refused(lake):
    with pytest.raises(StoreError, match="seven days"):
        vacuum(lake, TABLE, retention=WEEK - timedelta(hours=1))


def test_a_vacuum_leaves_young_files_and_what_a_pin_needs(lake, monkeypatch):
    compact(lake, TABLE, every=1)
    assert vacuum(lake, TABLE) == []
    # The clock of a test cannot be turned on by a week: all replaced files are proposed instead.
    replaced = set(lake.file_paths(TABLE, version=24)) - set(lake.file_paths(TABLE))
    monkeypatch.setattr(lake_maintenance, "_proposed", lambda opened, retention: sorted(replaced))
    assert vacuum(lake, TABLE, pins=[10], dry_run=True) == []
    expected = digest(lake)
    assert len(vacuum(lake, TABLE)) == 25
    assert digest(lake) == expected


def test_a_vacuum_removes_nothing_that_the_newest_version_has(lake, monkeypatch):
    monkeypatch.setattr(lake_maintenance, "_proposed", lambda opened, retention: lake.file_paths(TABLE))
    assert vacuum(lake, TABLE) == []


def test_old_log_entries_are_shelved_and_come_back_for_old_versions(tmp_path, monkeypatch):
    monkeypatch.setattr(lake_log, "ENTRIES_IN_PLACE", 20)
    lake = DeltaLake(tmp_path / "lake")
    append_batches(lake, 130)
    log = lake.path(TABLE) / "_delta_log"
    assert len(list(log.glob("*.json"))) < 80
    for version in (5, 60, 129):
        assert lake.read(TABLE, version=version).height == 3 * (version + 1)
    append_batches(lake, 225)
    assert not (log / f"{5:020}.json").exists()
    assert lake.read(TABLE, version=5).height == 18
    assert DeltaLake(tmp_path / "lake").row_count(TABLE) == 675


def test_shelved_entries_stay_thirty_days_and_for_pins(tmp_path, monkeypatch):
    monkeypatch.setattr(lake_log, "ENTRIES_IN_PLACE", 20)
    lake = DeltaLake(tmp_path / "lake")
    append_batches(lake, 130)
    with pytest.raises(StoreError, match="thirty days"):
        expire_log(lake, TABLE, now=NOW, retention=timedelta(days=29))
    shelf = lake.path(TABLE) / "_kept_log"
    assert expire_log(lake, TABLE, now=datetime.now(UTC)) == 0
    for path in shelf.iterdir():
        os.utime(path, (0, 0))
    assert expire_log(lake, TABLE, now=NOW, pins=[3]) == 0
    assert expire_log(lake, TABLE, now=NOW) > 0
    assert lake.read(TABLE).height == 390
    assert lake.read(TABLE, version=129).height == 390


def test_maintenance_reports_each_table_and_goes_on_after_a_fault(lake, monkeypatch):
    lake.append("silver/sales", batch(1))
    monkeypatch.setattr(lake_maintenance, "COMPACT_EVERY", 20)
    (first, second) = maintain_lake(lake, now=NOW)
    assert (first.table, first.files_before, first.files_after) == (TABLE, 25, 3)
    assert (second.table, second.files_after, second.fault) == ("silver/sales", 1, None)

    def refuse(*_, **__):
        raise StoreError("no")

    monkeypatch.setattr(lake_maintenance, "compact", refuse)
    assert maintain_table(lake, TABLE, now=NOW).fault == "compaction: no"


def test_a_version_that_nobody_has_says_so(lake):
    with pytest.raises(TableMissing, match="never made"):
        lake.read(TABLE, version=99)


@pytest.mark.parametrize("left", ["no pointer", "the pointer before"])
def test_a_checkpoint_is_finished_that_a_dead_process_left_without_its_pointer(lake, left):
    folder = lake.path(TABLE)
    pointer = folder / "_delta_log" / "_last_checkpoint"
    before = pointer.read_bytes()
    expected, version = digest(lake), lake.version(TABLE)
    assert lake_log.checkpoint_version(folder) != version
    assert lake_log.write_checkpoint(folder) == version
    if left == "no pointer":
        pointer.unlink()
    else:
        pointer.write_bytes(before)
    assert lake_log.write_checkpoint(folder) == version
    assert lake_log.checkpoint_version(folder) == version
    assert sorted(path.name for path in pointer.parent.glob("_last*")) == ["_last_checkpoint"]
    for entry in range(version + 1):
        lake_log.entry_path(folder, entry).unlink(missing_ok=True)
    assert digest(DeltaLake(folder.parents[1])) == expected
