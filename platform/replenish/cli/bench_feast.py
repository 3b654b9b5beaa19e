"""The as-of benchmark's other peer: Feast's point-in-time join beside a look-up in the stored state log.

Both sides have their events in a Parquet file, which they read while their time runs, and the spine in memory; each
runs in its own process. Both match events of the last 30 days only: Feast pairs each spine row with every event that
it may match, and without a time-to-live a million rows and ten million events are more than 20 GB of pairs.
Feast has an environment of its own, `feast_requirements.txt`, which the first run makes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import polars as pl

from replenish.bitemporal import state_log
from replenish.cli.deployment import CHECKOUT
from replenish.cli.known_time_data import known_time_postings, known_time_spine
from replenish.errors import BrokenPromise
from replenish.features.offline.log_lookup import packed_as_of_join

TIME_TO_LIVE_DAYS = 30
_HERE = Path(__file__).parent
REQUIREMENTS = _HERE / "feast_requirements.txt"


def run_feast_bench(
    n_events: int = 10_000_000,
    n_rows: int = 1_000_000,
    n_keys: int = 30_000,
    rounds: int = 3,
    seed: int = 1,
    environment: Path = CHECKOUT / ".venv-feast",
) -> dict[str, object]:
    """Measure both sides on the events and spine of the as-of benchmark.

    Args:
        n_events: Facts.
        n_rows: Spine rows.
        n_keys: Entities.
        rounds: Runs of each side; figures are medians.
        seed: Of the data.
        environment: Where Feast is installed, made where it is missing.

    Returns:
        Named figures: wall and processor seconds and peak memory of each side, how many times more processor time
        Feast takes, and the share of rows for which it gives another value than was known.

    Raises:
        BrokenPromise: A process failed, or a side answered other rows than were asked.
    """
    python = feast_python(environment)
    with tempfile.TemporaryDirectory(prefix="replenish-feast-") as name:
        folder = Path(name)
        ledger = known_time_postings(n_events, n_keys, seed)
        versions = ledger.filter(pl.col("posting_kind") == "version")
        versions.select("entity", "event_time", "knowledge_time", "units").write_parquet(folder / "events.parquet")
        log = state_log(ledger, key=["entity"], fact_key=["fact_id"], values=["units"])
        log.write_parquet(folder / "log.parquet")
        known_time_spine(n_rows, n_keys, seed).write_parquet(folder / "spine.parquet")
        words = [str(rounds), str(TIME_TO_LIVE_DAYS)]
        stored = _child([sys.executable, "-m", "replenish.cli.bench_feast", str(folder), *words])
        feast = _child([str(python), "-W", "ignore", str(_HERE / "feast_peer.py"), str(folder), *words])
        answers = [pl.read_parquet(folder / f"{side}.parquet").sort("row_nr") for side in ("stored", "feast")]
    if not answers[0]["row_nr"].equals(answers[1]["row_nr"]):
        raise BrokenPromise("Feast answered other rows than were asked", rows=answers[1].height, asked=n_rows)
    n_wrong = int(answers[0]["units"].ne_missing(answers[1]["units"].cast(pl.Int64)).sum())
    return {
        "spine_rows": n_rows,
        "events": versions.height,
        "rounds": rounds,
        "time_to_live_days": TIME_TO_LIVE_DAYS,
        **{f"stored_log_{name}": value for name, value in stored.items()},
        **{f"feast_{name}": value for name, value in feast.items()},
        "feast_to_stored_log_ratio": feast["cpu_s"] / stored["cpu_s"],
        "share_of_rows_where_feast_says_what_was_not_known": n_wrong / n_rows,
    }


def feast_python(environment: Path) -> Path:
    """The interpreter that has Feast, installed from the pinned list if it is not there yet."""
    python = environment / "bin" / "python"
    if not python.exists():
        _run([sys.executable, "-m", "venv", str(environment)])
    has_feast = subprocess.run([str(python), "-c", "import feast"], capture_output=True, check=False).returncode == 0
    if not has_feast:
        _run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(REQUIREMENTS)])
    return python


def _run(words: Sequence[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BrokenPromise("a process of the benchmark failed", words=words, error=done.stderr[-2000:])
    return done.stdout


def _child(words: Sequence[str]) -> dict[str, float]:
    """Medians of the rounds that a process prints as its last line; of memory the greatest."""
    rounds = json.loads(_run(words).splitlines()[-1])
    found = {name: statistics.median(one[name] for one in rounds) for name in ("wall_s", "cpu_s")}
    return {**found, "peak_mb": max(one["peak_mb"] for one in rounds)}


def measure_stored_log(folder: Path, rounds: int, days: int) -> list[dict[str, float]]:
    """Look the spine up in the stored log, in this process; the answer is kept beside. `days` is the time-to-live."""
    spine = pl.read_parquet(folder / "spine.parquet")
    figures = []
    found = spine
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        log = pl.read_parquet(folder / "log.parquet")
        options = {"key": ["entity"], "as_of": "as_of", "values": ["units"]}
        found = packed_as_of_join(spine, log, **options, time_to_live=timedelta(days=days))  # type: ignore[arg-type]
        seconds = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        figures.append({**seconds, "peak_mb": _resident_peak_mb()})
    found.select("row_nr", "units").write_parquet(folder / "stored.parquet")
    return figures


def _resident_peak_mb() -> float:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    print(json.dumps(measure_stored_log(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
