"""The panel benchmark in small: every form runs, and its sales are what it says."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from replenish.cli.bench_panel import FORMS, run_panel_bench
from replenish.cli.panel_sales import FIRST_DAY, N_DAYS, panel_sales


def test_every_form_runs_and_every_figure_is_there() -> None:
    figures = run_panel_bench(n_series=20, rounds=1)
    assert figures["rows"] == 20 * N_DAYS
    assert figures["features"] == 20
    for form in (*FORMS, "late"):
        assert all(float(str(figures[f"{form}_{name}"])) > 0 for name in ("wall_s", "cpu_s", "peak_mb"))
    assert "mlforecast" in figures or float(str(figures["values_compared"])) > 0


def test_sales_have_a_row_a_day_and_some_of_them_late() -> None:
    prompt, late = (panel_sales(64, 64, 3, is_late=is_late) for is_late in (False, True))
    assert prompt.equals(panel_sales(64, 64, 3, is_late=False))
    assert prompt.height == 64 * N_DAYS == prompt.select("series", "event_date").n_unique()
    assert prompt["event_date"].max() == FIRST_DAY + timedelta(days=N_DAYS - 1)
    assert 0.5 < (prompt["units"] == 0).mean() < 0.8
    delay = (pl.col("knowledge_date") - pl.col("event_date")).dt.total_days()
    assert prompt.select((delay == 1).all()).item()
    assert late["series"].is_sorted()
    assert late.height / prompt.height == pytest.approx(1.02, abs=0.002)
    assert late.select((delay > 1).mean()).item() == pytest.approx(0.07, abs=0.005)
    assert late.select((pl.col("lines") < 0).mean()).item() == pytest.approx(0.01, abs=0.002)
