"""`replenish bench`: named benchmarks; figures are ratios to a peer or limit measured in the same run."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from replenish.cli.tables import open_console
from replenish.errors import ReplenishError


def _loop() -> dict[str, object]:
    from replenish.cli.bench_loop import run_loop_bench

    return run_loop_bench()


def _drift() -> dict[str, object]:
    from replenish.cli.bench_drift import drift_study

    return drift_study()


def _coverage() -> dict[str, object]:
    from replenish.cli.bench_coverage import coverage_study

    return coverage_study()


def _bronze() -> dict[str, object]:
    from replenish.cli.bench_bronze import measure_commits

    return measure_commits()


def _file_door() -> dict[str, object]:
    from replenish.cli.bench_file_door import measure

    return measure()


def _cdc() -> dict[str, object]:
    from replenish.cli.bench_cdc import run_cdc_bench

    return run_cdc_bench()


def _asof() -> dict[str, object]:
    from replenish.cli.bench_asof import run_asof_bench

    return run_asof_bench()


def _online() -> dict[str, object]:
    from replenish.cli.bench_online import run_online_bench

    return run_online_bench()


def _rebuild() -> dict[str, object]:
    from replenish.cli.bench_rebuild import run_rebuild_bench

    return run_rebuild_bench()


def _panel(n_series: int | None = None) -> dict[str, object]:
    from replenish.cli.bench_panel import M5_SERIES, run_panel_bench

    return run_panel_bench(n_series or M5_SERIES)


def _feast() -> dict[str, object]:
    from replenish.cli.bench_feast import run_feast_bench

    return run_feast_bench()


def _leakage(data: Path | None = None) -> dict[str, object]:
    from replenish.cli.bench_leakage import run_leakage_bench

    return run_leakage_bench(data)


def _incremental() -> dict[str, object]:
    from replenish.cli.bench_state_log import run_incremental_bench

    return run_incremental_bench()


def _growth(millions: int | None = None) -> dict[str, object]:
    from replenish.cli.bench_state_log import GROWTH_MILLIONS, run_growth_bench

    return run_growth_bench([*GROWTH_MILLIONS, millions] if millions is not None else GROWTH_MILLIONS)


def _ingest() -> dict[str, object]:
    from replenish.cli.bench_ingest import run_ingest_bench

    return run_ingest_bench()


BENCHES: dict[str, tuple[str, Callable[[], dict[str, object]]]] = {
    "loop": ("CPU per sales line of ingest to features, 10 million lines against 1 million", _loop),
    "ingest": ("1 KB events through the HTTP door, against a bare SQLite commit loop in the same run", _ingest),
    "bronze": ("time of a bronze commit at 5,000 table versions against 10", _bronze),
    "file-door": ("a million sales rows through the file door into bronze, against a bare load", _file_door),
    "cdc": ("changes per second through the CDC door, beside a bare loop of peek and decode", _cdc),
    "asof": ("latest values and window sums as known at a million instants, beside DuckDB's joins", _asof),
    "incremental": ("one day of news on ten million events of history, against a build from nothing", _incremental),
    "growth": ("CPU per event of state logs and windows, from 1 to 30 million events (100 with --millions)", _growth),
    "feast": ("latest values from the stored log, beside Feast's point-in-time join on DuckDB", _feast),
    "leakage": ("forecast errors with features joined by event time, against those known at the time", _leakage),
    "panel": ("twenty features of 30,490 series over 1,941 days, beside mlforecast in the same run", _panel),
    "online": ("vectors of 100,000 keys and the way of an event to them, while 2,000 events/s come in", _online),
    "rebuild": ("a million events made again from the log, with equal digests, in minutes", _rebuild),
    "drift": ("retraining requests over 20 shifted and 20 unshifted seeds", _drift),
    "coverage": ("coverage of the 0.9 quantile of protection-interval demand on true demand", _coverage),
}


def run_bench(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(sorted(BENCHES))}.")],
    data: Annotated[Path | None, typer.Option(help="Folder of the SCMS data, for leakage: lead times, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object of named figures.")] = False,
    series: Annotated[int | None, typer.Option(min=1, help="Of panel: how many series, for a smaller run.")] = None,
    millions: Annotated[int | None, typer.Option(min=1, help="Of growth: one more size, in million events.")] = None,
) -> None:
    """Run a benchmark and print its figures."""
    if name not in BENCHES:
        raise ReplenishError(f"no benchmark is called {name}; there are: {', '.join(sorted(BENCHES))}")
    if series is not None and name != "panel":
        raise ReplenishError(f"benchmark {name} has no series: leave out --series")
    if millions is not None and name != "growth":
        raise ReplenishError(f"benchmark {name} has no sizes: leave out --millions")
    what, bench = BENCHES[name]
    if data is not None and name != "leakage":
        raise ReplenishError(f"benchmark {name} reads no data: leave out --data")
    console = open_console()
    if not as_json:
        console.print(f"[bold]{name}[/]: {what}")
    if series is not None:
        bench = partial(_panel, series)
    if millions is not None:
        bench = partial(_growth, millions)
    figures = bench() if data is None else _leakage(data)
    if as_json:
        print(json.dumps(figures, sort_keys=True))
        return
    for figure, value in figures.items():
        console.print(f"  {figure:<48} {value:,.4g}" if isinstance(value, float) else f"  {figure:<48} {value}")
