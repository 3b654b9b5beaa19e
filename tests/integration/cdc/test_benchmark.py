"""The benchmark of the door runs, and every loop of it reads every change (it refuses to report otherwise)."""

from __future__ import annotations

import pytest

from replenish.cli.bench_cdc import run_cdc_bench
from replenish.cli.postgres_server import postgres_binaries
from replenish.errors import NotApplicable


def test_the_benchmark_reports_rates_and_ratios() -> None:
    try:
        postgres_binaries()
    except NotApplicable as reason:
        pytest.skip(str(reason))
    figures = run_cdc_bench(2_000, rounds=1)
    assert figures["changes"] == 2_000
    for loop in ("messages", "rows", "door"):
        assert figures[f"{loop}_changes_per_s"] > 0
    assert {"door_to_messages_ratio", "door_to_rows_ratio"} <= figures.keys()
