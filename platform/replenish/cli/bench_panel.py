"""The panel benchmark: twenty features of every series on every day, beside mlforecast on the same sales.

Sales are intermittent, as in the M5 competition, and one row a (series, day), since mlforecast needs the days without
a sale too. Each side runs in its own process; its memory is the process's peak, its time begins once everything is
imported. mlforecast has its frame in memory by then; ours reads Parquet while its time runs.

mlforecast takes a series as it is today. For that all rows are known on time; a last run shows what it costs ours to
answer from rows of which some came late or corrected others.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import time as wall_time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from replenish.cli.allocator import tune_allocators
from replenish.cli.panel_sales import FIRST_DAY, N_DAYS, panel_sales
from replenish.errors import BrokenPromise
from replenish.features.definitions.model import FeatureDefinition, FeatureSet, FeatureSource, SourceColumn
from replenish.features.panel.evaluator import evaluate_panel
from replenish.features.panel.grid import PanelBlock, PanelGrid

M5_SERIES = 30_490
LAGS, WINDOWS = (1, 7, 14, 28), (7, 14, 28, 56)
STATISTICS = ("mean", "std", "min", "max")
SERIES_PER_BLOCK = 128
SERIES_PER_ROW_GROUP = 512
N_SAMPLES = 40
"""Series whose every value is compared."""
FORMS = ("blocks", "kept", "one_thread")
_TOLERANCE = 1e-4
"""Of means and variances, plus 1: mlforecast computes in 32 bits. Integers are equal."""
_PEER = Path(__file__).with_name("panel_peer.py")

_Values = dict[str, npt.NDArray[Any]]


def run_panel_bench(n_series: int = M5_SERIES, rounds: int = 2, seed: int = 1) -> dict[str, object]:
    """Measure both sides on the same rows, taking turns.

    Args:
        n_series: Series of 1,941 days each; 30,490 are as many as M5 has.
        rounds: Runs of each form; figures are those of its fastest.
        seed: Of the sales.

    Returns:
        Named figures: wall and processor seconds and peak memory of each form; how many times faster than mlforecast
        ours is, and its share of mlforecast's memory.

    Raises:
        BrokenPromise: Values that both sides have differ, or a process failed.
    """
    with tempfile.TemporaryDirectory(prefix="replenish-panel-") as name:
        folder = Path(name)
        _write_sales(folder / "prompt.parquet", n_series, seed, is_late=False)
        _write_sales(folder / "late.parquet", n_series, seed, is_late=True)
        runs: dict[str, Callable[[], dict[str, float]]] = {
            form: lambda form=form: _ours(folder, "prompt", form, n_series)  # type: ignore[misc]
            for form in FORMS
        }
        runs["late"] = lambda: _ours(folder, "late", "blocks", n_series)
        has_peer = importlib.util.find_spec("mlforecast") is not None
        if has_peer:
            runs["mlforecast"] = lambda: _child(folder, [str(_PEER), str(folder / "prompt.parquet"), *_peer_words()])
        found: dict[str, list[dict[str, float]]] = {form: [] for form in runs}
        for _ in range(rounds):
            for form, run in runs.items():
                found[form].append(run())
        best = {form: min(some, key=lambda figures: figures["wall_s"]) for form, some in found.items()}
        figures: dict[str, object] = {"series": n_series, "rows": n_series * N_DAYS, "features": len(_features())}
        figures |= {f"{form}_{name}": value for form, some in best.items() for name, value in some.items()}
        if not has_peer:
            return figures | {"mlforecast": "skipped: not installed (extra `bench`)"}
        return figures | _beside(best) | {"values_compared": _compare(folder)}


def _beside(best: dict[str, dict[str, float]]) -> dict[str, float]:
    peer = best["mlforecast"]
    return {
        f"{form}_{name}": value
        for form in ("blocks", "kept", "late")
        for name, value in (
            ("times_faster_than_mlforecast", peer["wall_s"] / best[form]["wall_s"]),
            ("share_of_mlforecast_memory", best[form]["peak_mb"] / peer["peak_mb"]),
        )
    }


def _write_sales(path: Path, n_series: int, seed: int, *, is_late: bool) -> None:
    writer: pq.ParquetWriter | None = None
    for start in range(0, n_series, SERIES_PER_ROW_GROUP):
        size = min(SERIES_PER_ROW_GROUP, n_series - start)
        table = panel_sales(start, size, seed, is_late=is_late).to_arrow()
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=table.num_rows)
    if writer is not None:
        writer.close()


def _features() -> tuple[FeatureDefinition, ...]:
    def defined(name: str, aggregation: str, **fields: object) -> FeatureDefinition:
        return FeatureDefinition(name, aggregation, "units", name, "sales", "units", **fields)  # type: ignore[arg-type]

    lags = [defined(f"lag_{days}", "lag", lag_days=days) for days in LAGS]
    windows = [
        defined(f"{kind}_{days}", kind, window_days=days, denominator="calendar" if kind in ("mean", "std") else None)
        for days in WINDOWS
        for kind in STATISTICS
    ]
    return (*lags, *windows)


def _panel_set() -> FeatureSet:
    source = FeatureSource(
        "sales",
        "gold/fct_panel",
        "sales",
        ("series", "event_date"),
        (SourceColumn("units", "units", "units"),),
        grain="increments",
        lines="lines",
    )
    return FeatureSet("bench_panel", "1.0.0", "Benchmark", "bench", "daily", ("series",), (source,), _features())


def _peer_words() -> list[str]:
    return [",".join(map(str, LAGS)), ",".join(map(str, WINDOWS)), str(os.cpu_count() or 1), str(N_SAMPLES)]


def _ours(folder: Path, rows: str, form: str, n_series: int) -> dict[str, float]:
    return _child(folder, ["-m", "replenish.cli.bench_panel", str(folder / f"{rows}.parquet"), form, str(n_series)])


def _child(folder: Path, words: Sequence[str]) -> dict[str, float]:
    """The figures that a process prints as its last line."""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise BrokenPromise("a side of the benchmark failed", words=words, error=done.stderr[-2000:])
    return {name: float(value) for name, value in json.loads(done.stdout.splitlines()[-1]).items()}


def _compare(folder: Path) -> int:
    """How many values were held against mlforecast's; those of windows that begin before the first day are not its."""
    ours, theirs = np.load(folder / "sample-blocks.npz"), np.load(folder / "sample-mlforecast.npz")
    n_values = 0
    for feature in _features():
        own, other = ours[feature.name].astype(np.float64), theirs[feature.name].astype(np.float64)
        if feature.aggregation == "std":
            # Theirs divides by n - 1.
            days = feature.window_days or 1
            other = other * np.sqrt((days - 1) / days)
        is_there = ~np.isnan(other)
        if feature.aggregation == "std":
            # What 32 bits leave of a deviation of 0 is small only as a variance.
            own, other = own**2, other**2
        allowed = 0 if feature.aggregation in ("lag", "min", "max") else _TOLERANCE * (1 + np.abs(own))
        is_wrong = np.abs(own - other) > allowed
        if np.any(is_wrong & is_there) or not is_there.any():
            raise BrokenPromise("values differ from mlforecast's", feature=feature.name, n=int(np.sum(is_wrong)))
        n_values += int(is_there.sum())
    return n_values


def measure_panel_form(path: Path, form: str, n_series: int) -> dict[str, float]:
    """One run of ours in this process, with the sample's values beside the rows.

    Args:
        path: The rows.
        form: `blocks` lets each block go once it is made, `one_thread` too; `kept` keeps all values, as mlforecast
            does: integers as narrow as they are, others in 32 bits.
        n_series: Series of the file.
    """
    grid = PanelGrid(pl.DataFrame({"series": np.arange(n_series, dtype=np.int32)}), FIRST_DAY, N_DAYS)
    sampled = _sampled_series(n_series)
    sample: _Values = {f.name: np.empty((len(sampled), N_DAYS)) for f in _features()}
    kept: _Values = {}
    workers = 1 if form == "one_thread" else os.cpu_count() or 1
    wall, cpu = time.perf_counter(), time.process_time()
    blocks = evaluate_panel(
        _panel_set(),
        grid,
        {"sales": pl.scan_parquet(path)},
        "Europe/Berlin",
        wall_time(6),
        series_per_block=SERIES_PER_BLOCK,
        workers=workers,
    )
    start = 0
    for block in blocks:
        inside = np.flatnonzero((sampled >= start) & (sampled < start + block.series.height))
        for name, values in sample.items():
            values[inside] = block.features[name].values[sampled[inside] - start]
        if form == "kept":
            _keep(kept, block, start, n_series)
        start += block.series.height
    figures = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "peak_mb": _peak_mb()}
    if path.stem == "prompt":
        np.savez(path.with_name(f"sample-{form}.npz"), **sample)  # type: ignore[arg-type]
    return figures


def _keep(kept: _Values, block: PanelBlock, start: int, n_series: int) -> None:
    for name, found in block.features.items():
        values = found.values
        dtype = np.dtype(np.float32) if values.dtype == np.float64 else values.dtype
        if name not in kept:
            kept[name] = np.empty((n_series, N_DAYS), dtype)
            # Filled in one go, pages come from the system several times as fast as block by block.
            kept[name].fill(0)
        if not np.can_cast(dtype, kept[name].dtype):
            kept[name] = kept[name].astype(dtype)
        kept[name][start : start + block.series.height] = values


def _sampled_series(n_series: int) -> npt.NDArray[np.int64]:
    """The series whose values are compared, the same on both sides."""
    return np.linspace(0, n_series - 1, min(N_SAMPLES, n_series)).astype(np.int64)


def _peak_mb() -> float:
    """The greatest resident memory that this process ever had; `getrusage` would count what started it as well."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    tune_allocators()
    print(json.dumps(measure_panel_form(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
