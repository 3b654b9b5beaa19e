"""A table whose writer died, met a late error or a full disk, or was one of two: whole batches, each once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import polars as pl
import pytest
from lake_child import TABLE, append_batches, batch

from replenish.errors import AlreadyRunning, Fenced, StoreFull, WriteConflict
from replenish.stores import lake as lake_module
from replenish.stores import lake_commit
from replenish.stores.fence import fence_of
from replenish.stores.lake import DeltaLake
from replenish.stores.lake_maintenance import compact
from replenish.stores.locks import hold

CHILD = Path(__file__).with_name("lake_child.py")
WRITE_POINTS = ["before_write", "written", "data_synced", "log_synced", "done", "checkpoint_before", "checkpoint_after"]
MAINTAIN_POINTS = ["compact_before", "compact_after", "vacuum_before", "vacuum_after"]
N_BATCHES = 25
"""Enough for a checkpoint."""


def run_child(root: Path, *words: str, failpoint: str | None = None) -> subprocess.CompletedProcess[str]:
    log = root / "fired"
    environment = os.environ | {"REPLENISH_FAILPOINT_LOG": str(log)}
    if failpoint is not None:
        environment |= {"REPLENISH_FAILPOINT": failpoint}
    command = [sys.executable, str(CHILD), str(root), str(N_BATCHES), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    if failpoint is not None:
        assert log.exists(), f"{failpoint} did not fire: {done.stderr[-2000:]}"
    return done


def assert_exact_prefix(root: Path, *, whole: bool) -> None:
    lake = DeltaLake(root / "lake")
    n_inside = (lake.app_version(TABLE, "child") or 0) if lake.has(TABLE) else 0
    assert not whole or n_inside == N_BATCHES
    expected = [(number, row) for number in range(1, n_inside + 1) for row in (1, 2, 3)]
    found = lake.read(TABLE).select("batch", "row").sort("batch", "row").rows() if lake.has(TABLE) else []
    assert found == expected


@pytest.mark.parametrize("point", WRITE_POINTS)
def test_a_killed_writer_leaves_whole_batches_and_goes_on(tmp_path, point):
    nth = 1 if point.startswith("checkpoint") else 4
    done = run_child(tmp_path, failpoint=f"lake.{point}:kill:{nth}")
    assert done.returncode == -9
    assert_exact_prefix(tmp_path, whole=False)
    assert "done" in run_child(tmp_path).stdout
    assert_exact_prefix(tmp_path, whole=True)


@pytest.mark.parametrize("point", MAINTAIN_POINTS)
def test_killed_maintenance_changes_no_row_and_can_be_run_again(tmp_path, point):
    done = run_child(tmp_path, "maintain", failpoint=f"lake.{point}:kill:1")
    assert done.returncode == -9
    assert_exact_prefix(tmp_path, whole=True)
    assert "done" in run_child(tmp_path, "maintain").stdout
    assert_exact_prefix(tmp_path, whole=True)


@pytest.mark.parametrize("action", ["raise", "enospc", "eio"])
def test_an_error_after_the_commit_is_no_second_commit(tmp_path, action):
    done = run_child(tmp_path, failpoint=f"lake.written:{action}:3")
    assert "done" in done.stdout, done.stderr[-2000:]
    assert_exact_prefix(tmp_path, whole=True)
    assert DeltaLake(tmp_path / "lake").version(TABLE) == N_BATCHES - 1


def test_an_error_without_an_offset_is_decided_by_the_mark(tmp_path, monkeypatch):
    lake = DeltaLake(tmp_path / "lake")
    lake.append(TABLE, batch(1))
    real = lake_commit._write_delta

    def write_and_fail(*args, **kwargs):
        real(*args, **kwargs)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lake_commit, "_write_delta", write_and_fail)
    assert lake.append(TABLE, batch(2)).n_rows == 6
    assert lake.overwrite(TABLE, batch(3)).n_rows == 3


def test_an_error_before_the_commit_says_that_the_disk_is_full(tmp_path, monkeypatch):
    lake = DeltaLake(tmp_path / "lake")
    lake.append(TABLE, batch(1), app=("child", 1))
    with monkeypatch.context() as broken:
        broken.setattr(lake_commit, "_write_delta", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(StoreFull, match="make room"):
            lake.append(TABLE, batch(2), app=("child", 2))
    assert lake.append(TABLE, batch(2), app=("child", 2)).n_rows == 6


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here: not root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_on_a_full_disk_the_table_stays_readable_and_goes_on_with_space(small_disk):
    lake = DeltaLake(small_disk / "lake")
    append_batches(lake, 1)
    filler = small_disk / "filler"
    n_full = 0
    for kilobytes in range(0, 24, 2):
        # Full at another step each time: the data file, the log entry, the checkpoint.
        _fill(filler, leave=kilobytes << 10)
        number = (lake.app_version(TABLE, "child") or 0) + 1
        try:
            append_batches(lake, number)
        except StoreFull:
            n_full += 1
        assert lake.read(TABLE).height == 3 * (lake.app_version(TABLE, "child") or 0)
        filler.unlink()
    assert n_full
    append_batches(lake, N_BATCHES)
    assert_exact_prefix(small_disk, whole=True)


def _fill(filler: Path, leave: int) -> None:
    free = os.statvfs(filler.parent)
    filler.write_bytes(b"x" * max(free.f_bavail * free.f_bsize - leave, 0))


def test_a_second_writer_is_refused_while_the_first_holds_the_table(tmp_path, monkeypatch):
    lake = DeltaLake(tmp_path / "lake")
    monkeypatch.setattr(lake_module, "WAIT_FOR_WRITER_SECONDS", 0.1)
    with hold(tmp_path / "locks" / "lake-bronze.sales.lock", "write"), pytest.raises(AlreadyRunning):
        lake.append(TABLE, batch(1))
    assert not lake.has(TABLE)
    assert lake.append(TABLE, batch(1)).n_rows == 3


def test_writers_of_one_table_take_turns(tmp_path):
    lakes = [DeltaLake(tmp_path / "lake") for _ in range(2)]
    lakes[0].append(TABLE, batch(0))
    threads = [
        threading.Thread(
            target=lambda lake=lake, start=10 * nr: [lake.append(TABLE, batch(start + i)) for i in range(5)]
        )
        for nr, lake in enumerate(lakes, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    batches = lakes[0].read(TABLE)["batch"].unique().sort().to_list()
    assert batches == [0, *range(10, 15), *range(20, 25)]
    assert lakes[1].row_count(TABLE) == 33


def _append_five(lake: DeltaLake, first: int) -> None:
    for number in range(first, first + 5):
        lake.append(TABLE, batch(number))


def test_rows_that_were_made_from_an_older_state_are_refused(tmp_path):
    lake = DeltaLake(tmp_path / "lake")
    lake.append(TABLE, batch(1), app=("child", 1), app_from=0)
    DeltaLake(tmp_path / "lake").append(TABLE, batch(2), app=("child", 2), app_from=1)
    both = pl.concat([batch(2), batch(3)])
    with pytest.raises(WriteConflict):
        lake.append(TABLE, both, app=("child", 3), app_from=1)
    assert lake.row_count(TABLE) == 6


def test_a_root_whose_standby_was_promoted_writes_no_table(tmp_path):
    lake = DeltaLake(tmp_path / "lake")
    lake.append(TABLE, batch(1))
    fence_of(tmp_path).raise_to(2, "the other region")
    with pytest.raises(Fenced):
        lake.append(TABLE, batch(2))
    with pytest.raises(Fenced):
        compact(lake, TABLE, every=1)
    assert lake.read(TABLE).height == 3
