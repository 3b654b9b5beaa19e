"""The loop benchmark: CPU and memory of drop files -> bronze -> silver -> gold -> features, at two sizes.

The world grows as a retailer grows: the same days, more series, equally many lines per series and day. Files are daily,
as a till writes them; some lines arrive late, some are corrected by a later file.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from replenish.cli.deployment import CHECKOUT, Deployment, open_deployment, prepare_deployment
from replenish.cli.stages import build_gold_tables
from replenish.contracts.profile import read_profile
from replenish.errors import BrokenPromise
from replenish.features.demand import update_feat_demand
from replenish.history.bronze import append_bronze
from replenish.history.silver import update_silver
from replenish.ingest.door import ingest_folder

STAGES = ("ingest", "bronze", "silver", "gold", "features")
N_DAYS = 120
LINES_PER_SERIES_DAY = 10
N_STORES = 10
SHARE_LATE = 0.03
"""Lines that a till sends one to three days later."""
SHARE_CORRECTED = 0.01
"""Lines that the file of the next day corrects."""
FIRST_DAY = date(2025, 1, 1)
ARRIVAL = datetime(2025, 7, 1, tzinfo=UTC)

Figures = dict[str, object]


def run_loop_bench(
    n_small: int = 1_000_000, n_large: int = 10_000_000, repeats: int = 3, folder: Path | None = None
) -> Figures:
    """Measure both sizes, each run in a fresh process; writing the input files is not measured.

    Args:
        n_small: Sales lines of the small world.
        n_large: Sales lines of the large world.
        repeats: Runs per size; medians are reported.
        folder: Where worlds and roots are put for the time of the run; None = the system's temporary folder.

    Returns:
        Named figures: CPU microseconds per line of all stages and of each, peak memory, and ratios large to small.
    """
    figures: Figures = {"repeats": repeats}
    for size, n_lines in (("small", n_small), ("large", n_large)):
        figures |= {f"{name}_{size}": value for name, value in _measured(n_lines, repeats, folder).items()}
    # Stages beside the whole: starting dbt costs the same at any size and would hide one that grows.
    for name in ("cpu_us_per_line", *(f"cpu_us_per_line_{stage}" for stage in STAGES), "peak_mb"):
        figures[f"{name}_ratio"] = _ratio(figures[f"{name}_large"], figures[f"{name}_small"])
    return figures


def _ratio(large: object, small: object) -> float:
    if not isinstance(large, float) or not isinstance(small, float):
        raise BrokenPromise("a figure is no number", large=large, small=small)
    return large / small


def _measured(n_lines: int, repeats: int, folder: Path | None) -> dict[str, float]:
    """Medians over the runs of one size."""
    with tempfile.TemporaryDirectory(prefix="replenish-bench-", dir=folder) as scratch:
        data = Path(scratch) / "data"
        offered = write_sales_files(data, n_lines)
        runs = []
        for number in range(repeats):
            runs.append(_one_run(Path(scratch), data, number))
            spent, peak = runs[-1]["cpu_s"], runs[-1]["peak_mb"]
            # Minutes pass between runs; figures alone go to standard output.
            print(
                f"{offered:,} lines, run {number + 1} of {repeats}: {spent:.1f} CPU s, {peak:.0f} MB", file=sys.stderr
            )
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    cpu = {name: value for name, value in medians.items() if name.startswith("cpu_s")}
    per_line = {name.replace("cpu_s", "cpu_us_per_line", 1): 1e6 * value / offered for name, value in cpu.items()}
    return {"lines": float(offered), **per_line, **{n: v for n, v in medians.items() if n not in cpu}}


def _one_run(scratch: Path, data: Path, number: int) -> dict[str, float]:
    """One run in a fresh process on a root of its own, which is removed."""
    with tempfile.TemporaryDirectory(prefix=f"root-{number}-", dir=scratch) as root:
        command = [sys.executable, "-m", "replenish.cli.bench_loop", root, str(data)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BrokenPromise(f"a benchmark run failed:\n{done.stderr[-4000:]}")
    return {name: float(value) for name, value in json.loads(done.stdout.splitlines()[-1]).items()}


def write_sales_files(folder: Path, n_lines: int, seed: int = 1) -> int:
    """Write daily sales files of the built-in retailer's form; returns the number of lines, corrections included."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    per_day = n_lines // N_DAYS
    n_skus = max(1, n_lines // (N_DAYS * LINES_PER_SERIES_DAY * N_STORES))
    held_back: dict[int, list[pl.DataFrame]] = {}
    n_written = 0
    for day in range(N_DAYS):
        sold = _sales_of_day(rng, day, per_day, n_skus)
        delay = np.where(rng.random(per_day) < SHARE_LATE, rng.integers(1, 4, per_day), 0)
        corrected = sold.filter(pl.Series(rng.random(per_day) < SHARE_CORRECTED))
        held_back.setdefault(day + 4, []).append(corrected.with_columns(pl.col("qty") + 1))
        for days_late in range(1, 4):
            held_back.setdefault(day + days_late, []).append(sold.filter(pl.Series(delay == days_late)))
        prompt = sold.filter(pl.Series(delay == 0))
        rows = pl.concat([prompt, *held_back.pop(day, [])])
        file_day = FIRST_DAY + timedelta(days=day)
        recorded_at = f"{file_day.isoformat()}T22:00:00Z"
        rows.with_columns(recorded_at=pl.lit(recorded_at)).write_csv(folder / f"sales-{file_day.isoformat()}.csv")
        n_written += rows.height
    return n_written


def _sales_of_day(rng: np.random.Generator, day: int, n_lines: int, n_skus: int) -> pl.DataFrame:
    """Lines of one day in time order."""
    second = np.sort(rng.integers(8 * 3600, 20 * 3600, n_lines))
    midnight = ((FIRST_DAY - date(1970, 1, 1)).days + day) * 86_400
    quantity = rng.integers(1, 5, n_lines)
    return pl.DataFrame(
        {
            "store": pl.Series(rng.integers(1, N_STORES + 1, n_lines)),
            "receipt": pl.Series(day * n_lines + np.arange(n_lines)),
            "sold_at": pl.from_epoch(pl.Series(midnight + second), "s"),
            "article": pl.Series(rng.integers(1, n_skus + 1, n_lines)),
            "qty": quantity,
            "cents": quantity * rng.integers(99, 1999, n_lines),
        }
    ).select(
        pl.format("S{}", "store").alias("store"),
        pl.format("R{}", "receipt").alias("receipt"),
        pl.lit(1).alias("line"),
        pl.col("sold_at").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        pl.format("A{}", pl.col("article").cast(pl.String).str.zfill(5)).alias("article"),
        "qty",
        (pl.col("cents") / 100).round(2).alias("amount"),
        pl.lit("C1").alias("customer"),
        pl.lit("I").alias("op"),
    )


class _Meter:
    """CPU seconds of this process and the ones it started, by stage."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        before, started = _cpu_seconds(), time.monotonic()
        yield
        spent = _cpu_seconds() - before
        self.figures[f"cpu_s_{name}"] = self.figures.get(f"cpu_s_{name}", 0.0) + spent
        self.figures["wall_s"] = self.figures.get("wall_s", 0.0) + time.monotonic() - started


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak_mb() -> float:
    """Largest resident set of this process or of one that it started [MB]."""
    kilobytes = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return kilobytes / 1024


def measure_loop(root: Path, data: Path) -> dict[str, float]:
    """Run all stages from drop files to features once on an empty root; CPU seconds by stage and peak memory."""
    prepare_deployment(root, data, feed=CHECKOUT / "platform" / "feeds" / "retailer.yaml", assume=None)
    deployment = open_deployment(root)
    meter = _Meter()
    with meter.stage("ingest"):
        ingest_folder(
            *(deployment.layout.drop, deployment.dataset, deployment.contracts, deployment.journal, deployment.layout),
            now=ARRIVAL,
        )
    _measure_history(deployment, meter)
    with meter.stage("gold"):
        build_gold_tables(deployment.lake, root / "dbt")
    with meter.stage("features"):
        commit = update_feat_demand(deployment.lake, deployment.dataset, read_profile(deployment.dataset.profile))
    total = sum(value for name, value in meter.figures.items() if name.startswith("cpu_s"))
    return {**meter.figures, "cpu_s": total, "peak_mb": _peak_mb(), "feature_rows": float(commit.n_rows)}


def _measure_history(deployment: Deployment, meter: _Meter) -> None:
    for stream, contract in deployment.contracts.items():
        with meter.stage("bronze"):
            append_bronze(stream, contract, deployment.journal, deployment.layout, deployment.lake)
        with meter.stage("silver"):
            update_silver(contract, deployment.dataset, deployment.lake)


if __name__ == "__main__":
    print(json.dumps(measure_loop(Path(sys.argv[1]), Path(sys.argv[2]))))
