from __future__ import annotations

import subprocess
import sys
import time

import polars as pl
import pytest

from replenish.stores.dbt_delta import commit_staged
from replenish.stores.lake import DeltaLake

SCHEMA = {"sku_id": pl.String(), "units": pl.Int64()}


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([{"sku_id": None, "units": None}], 0),
        ([{"sku_id": "A", "units": None}], 1),
        ([{"sku_id": "A", "units": 1}, {"sku_id": None, "units": None}], 2),
    ],
    ids=["dbt's stand-in for no rows", "one row", "a null row among others"],
)
def test_only_the_stand_in_row_of_an_empty_model_is_left_out(tmp_path, rows, kept):
    staged = tmp_path / "fct.parquet"
    pl.DataFrame(rows, schema=SCHEMA).write_parquet(staged)
    lake = DeltaLake(tmp_path / "lake")
    commit = commit_staged(lake, "gold/fct", staged)
    assert commit.n_rows == kept
    assert lake.schema("gold/fct") == SCHEMA


def test_a_second_build_replaces_the_rows_of_the_first(tmp_path):
    staged = tmp_path / "fct.parquet"
    lake = DeltaLake(tmp_path / "lake")
    for units in (1, 2):
        pl.DataFrame([{"sku_id": "A", "units": units}], schema=SCHEMA).write_parquet(staged)
        commit_staged(lake, "gold/fct", staged)
    assert lake.read("gold/fct")["units"].to_list() == [2]


ORPHAN = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
from replenish.stores.dbt_delta import Plugin
lake, staged, told, is_orphan = sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4] == "orphan"
if os.fork():
    if is_orphan:
        while not told.exists():
            time.sleep(0.01)
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
plugin = object.__new__(Plugin)
plugin.initialize({"lake": lake, "staged": staged})
parent = os.getppid()
told.touch()
while is_orphan and os.getppid() == parent:
    time.sleep(0.01)
relation = SimpleNamespace(schema="gold", identifier="fct", name="fct")
target = SimpleNamespace(location=SimpleNamespace(path=staged + "/fct.parquet"), relation=relation)
try:
    plugin.store(target)
except Exception as error:
    Path(staged, "error").write_text(f"{type(error).__name__}: {error}")
Path(staged, "done").touch()
"""


@pytest.mark.parametrize(("role", "is_written"), [("child", True), ("orphan", False)])
def test_a_build_whose_run_was_killed_writes_nothing_more(tmp_path, role, is_written):
    staged = tmp_path / "staged"
    staged.mkdir()
    pl.DataFrame([{"sku_id": "A", "units": 1}], schema=SCHEMA).write_parquet(staged / "fct.parquet")
    arguments = [str(tmp_path / "lake"), str(staged), str(tmp_path / "told"), role]
    subprocess.run([sys.executable, "-c", ORPHAN, *arguments], check=True, timeout=60)
    deadline = time.monotonic() + 60
    while not (staged / "done").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (staged / "done").exists()
    assert DeltaLake(tmp_path / "lake").has("gold/fct") == is_written
    assert (staged / "error").exists() == (not is_written)
    if not is_written:
        assert "the run that started dbt has ended" in (staged / "error").read_text()
