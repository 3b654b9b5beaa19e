"""The as-of benchmark in small: its forms agree, and its data are as late and as corrected as it says."""

import polars as pl
import pytest

from replenish.cli.bench_asof import run_asof_bench
from replenish.cli.known_time_data import known_time_postings


def test_the_forms_agree_and_every_figure_is_there() -> None:
    figures = run_asof_bench(n_events=20_000, n_rows=2_000, n_keys=60, rounds=1)
    assert figures["spine_rows"] == 2_000
    for name in ("stored_log_to_asof_ratio", "raw_events_to_asof_ratio", "windows_times_faster_than_range_join"):
        assert float(str(figures[name])) > 0
    assert str(figures["feast"]).startswith("skipped: ")


def test_the_data_are_late_corrected_moved_and_retracted_as_told() -> None:
    n_events = 50_000
    ledger = known_time_postings(n_events, 100, seed=3)
    assert ledger.equals(known_time_postings(n_events, 100, seed=3))
    first = ledger.filter(pl.col("version_nr") == 1, pl.col("posting_sign") == 1)
    delay = pl.col("knowledge_time") - pl.col("event_time")
    assert first.filter(delay > pl.duration(hours=1)).height / n_events == pytest.approx(0.20, abs=0.01)
    assert ledger.filter(pl.col("version_nr") == 2).height / n_events == pytest.approx(0.04, abs=0.005)
    assert ledger.filter(pl.col("posting_sign") == -1).height / n_events == pytest.approx(0.05, abs=0.005)
