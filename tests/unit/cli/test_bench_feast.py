"""Feast's benchmark in small: our side's look-up, and the pinned list. Feast itself runs in `replenish bench feast`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl

from replenish.bitemporal import as_of_join, state_log
from replenish.cli.bench_feast import REQUIREMENTS, measure_stored_log
from replenish.cli.known_time_data import known_time_postings, known_time_spine


def test_the_measured_look_up_gives_what_was_known(tmp_path: Path) -> None:
    log = state_log(known_time_postings(5_000, 40, 1), key=["entity"], fact_key=["fact_id"], values=["units"])
    spine = known_time_spine(700, 40, 1)
    log.write_parquet(tmp_path / "log.parquet")
    spine.write_parquet(tmp_path / "spine.parquet")
    figures = measure_stored_log(tmp_path, 2, 3)
    assert len(figures) == 2
    assert all(value > 0 for one in figures for value in one.values())
    expected = as_of_join(spine, log, key=["entity"], as_of="as_of", values=["units"], time_to_live=timedelta(days=3))
    assert pl.read_parquet(tmp_path / "stored.parquet").equals(expected.select("row_nr", "units"))


def test_every_requirement_of_feast_is_pinned() -> None:
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if not line.startswith("#")]
    assert any(line.startswith("feast==") for line in lines)
    assert all(line.count("==") == 1 for line in lines)
