"""A full disk at the command line: one line and an exit code, no traceback."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from replenish.cli import main
from replenish.cli.stages import build_gold_tables
from replenish.errors import StoreFull
from replenish.stores.lake import DeltaLake


def test_an_error_of_a_full_disk_is_one_line_and_exit_code_two(monkeypatch, capsys):
    def fill_up() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/disk/scratch/sound-1.parquet")

    monkeypatch.setattr(main, "app", fill_up)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    line = " ".join(capsys.readouterr().err.split())
    assert line.startswith("StoreFull: the disk is full")
    assert "make room" in line and "/disk/scratch/sound-1.parquet" in line


def test_dbt_that_ends_for_want_of_space_is_a_full_disk_too(tmp_path: Path, monkeypatch):
    dbt = tmp_path / "bin" / "dbt"
    dbt.parent.mkdir()
    dbt.write_text("#!/bin/sh\necho 'OSError: [Errno 28] No space left on device' >&2\nexit 2\n")
    dbt.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(dbt.parent / "python"))
    with pytest.raises(StoreFull, match=r"could not build gold.*No space left"):
        build_gold_tables(DeltaLake(tmp_path / "lake"), tmp_path / "scratch")
