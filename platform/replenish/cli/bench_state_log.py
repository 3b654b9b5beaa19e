"""The benchmarks of stored state logs and grids: what a day of news costs beside a build, and what growth costs.

Every measured step runs in a process of its own that has warmed up on a small history, so that neither imports nor the
memory of what went before are counted. Figures are processor time of all threads, and memory added at the peak.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date, datetime, timedelta
from datetime import time as wall_time
from pathlib import Path
from typing import NamedTuple, TypeVar

import polars as pl

from replenish.bitemporal import origin_instant
from replenish.cli.known_time_data import FIRST_DAY, N_DAYS, known_time_postings, known_time_spine
from replenish.errors import BrokenPromise
from replenish.features.definitions.model import (
    FeatureClock,
    FeatureDefinition,
    FeatureSet,
    FeatureSource,
    SourceColumn,
)
from replenish.features.offline.evaluator import evaluate_partitions
from replenish.features.state_logs.grid_definition import FeatureGrid, grid_on_silver
from replenish.features.state_logs.grid_update import read_feature_grid, update_feature_grid
from replenish.features.state_logs.look_up import read_state_log
from replenish.features.state_logs.update import StateLogUpdate, update_state_log
from replenish.stores.lake import DeltaLake

T = TypeVar("T")
GROWTH_MILLIONS = (1, 3, 10, 30)
EVENTS_PER_KEY = 333
SHARE_LATE_OF_A_DAY = 0.001

_ZONE, _CUTOFF = "Europe/Berlin", wall_time(6)
_TABLE = "silver/sales"
_FIRST_DATE = date(1970, 1, 1) + timedelta(days=FIRST_DAY)
_NEW_ORIGIN = _FIRST_DATE + timedelta(days=N_DAYS - 1)
_PAGE_BYTES = 4096
_EVENTS_AT_ONCE = 10_000_000


class StepCost(NamedTuple):
    """What a step took."""

    cpu_seconds: float
    peak_mb: float


def run_incremental_bench(n_events: int = 10_000_000, n_keys: int = 30_000, seed: int = 1) -> dict[str, object]:
    """One day of news on a year of history: the update of log and grid beside a build from nothing, equal in every row.

    Raises:
        BrokenPromise: The updated log or grid is not the one built from nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _apart(_write_history, root / "grown" / "lake", n_events, n_keys, seed, day_too=False)
        built = _apart(_update, root / "grown" / "lake", n_keys, _NEW_ORIGIN - timedelta(days=1))
        _apart(_write_day, root / "grown" / "lake", n_events, n_keys, seed)
        shutil.copytree(root / "grown" / "lake" / _TABLE, root / "anew" / "lake" / _TABLE)
        updated = _apart(_update, root / "grown" / "lake", n_keys, _NEW_ORIGIN)
        anew = _apart(_update, root / "anew" / "lake", n_keys, _NEW_ORIGIN)
        n_rows = _apart(_compare, root / "grown" / "lake", root / "anew" / "lake")
    return {
        "events": n_events,
        **n_rows,
        "history_build_cpu_s": built["log_cpu_s"] + built["grid_cpu_s"],
        **{f"update_{name}": value for name, value in updated.items()},
        **{f"full_{name}": value for name, value in anew.items()},
        "log_update_to_full_ratio": updated["log_cpu_s"] / anew["log_cpu_s"],
        "grid_update_to_full_ratio": updated["grid_cpu_s"] / anew["grid_cpu_s"],
        "update_to_full_ratio": (updated["log_cpu_s"] + updated["grid_cpu_s"])
        / (anew["log_cpu_s"] + anew["grid_cpu_s"]),
    }


def run_growth_bench(millions: Sequence[int] = GROWTH_MILLIONS, seed: int = 1) -> dict[str, object]:
    """Processor time per event of building a state log and of windows, for histories of so many million events.

    Keys grow with the events. Windows are 7- and 28-day sums at one random instant per ten events.
    """
    figures: dict[str, object] = {}
    per_event: list[float] = []
    for million in millions:
        with tempfile.TemporaryDirectory() as folder:
            lake, n_events = Path(folder) / "lake", million * 1_000_000
            _apart(_write_history, lake, n_events, n_events // EVENTS_PER_KEY, seed, day_too=True)
            found = _apart(_build_and_sum, lake, n_events, n_events // EVENTS_PER_KEY, seed)
        per_event.append((found["log_cpu_s"] + found["windows_cpu_s"]) / million)
        figures |= {f"{million}m_{name}": value for name, value in found.items()}
        figures[f"{million}m_cpu_us_per_event"] = per_event[-1]
    figures["growth_of_cpu_per_event"] = per_event[-1] / per_event[0]
    return figures


def _apart(step: Callable[..., T], *arguments: object, **options: object) -> T:
    """Run a step in a process of its own."""
    # Spawned: a forked polars may wait for a thread that does not exist.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(step, *arguments, **options).result()


def _write_history(folder: Path, n_events: int, n_keys: int, seed: int, *, day_too: bool) -> None:
    """Write postings as silver has them, by month of the event date; without the news of the last origin."""
    lake = DeltaLake(folder)
    for nr, start in enumerate(range(0, n_events, _EVENTS_AT_ONCE)):
        share = min(_EVENTS_AT_ONCE, n_events - start) / n_events
        keys, first_key = round(n_keys * share), round(n_keys * start / n_events)
        rows = known_time_postings(round(n_events * share), max(1, keys), seed + nr, SHARE_LATE_OF_A_DAY)
        rows = rows.with_columns(pl.col("entity") + first_key, pl.col("fact_id") + start)
        rows = rows if day_too else rows.filter(pl.col("knowledge_time") <= _instant(_NEW_ORIGIN - timedelta(days=1)))
        lake.append(_TABLE, _with_month(rows), partition_by=["event_month"])


def _write_day(folder: Path, n_events: int, n_keys: int, seed: int) -> None:
    rows = known_time_postings(n_events, n_keys, seed, SHARE_LATE_OF_A_DAY)
    known = pl.col("knowledge_time")
    day = rows.filter(known > _instant(_NEW_ORIGIN - timedelta(days=1)), known <= _instant(_NEW_ORIGIN))
    DeltaLake(folder).append(_TABLE, _with_month(day))


def _with_month(rows: pl.DataFrame) -> pl.DataFrame:
    day = pl.col("event_date").dt
    return rows.with_columns(event_month=(day.year() * 100 + day.month().cast(pl.Int32)).cast(pl.Int32))


def _instant(origin: date) -> datetime:
    return origin_instant(origin, _ZONE, _CUTOFF)


def _update(folder: Path, n_keys: int, through: date) -> dict[str, float]:
    """Bring log and grid up to date; what each took."""
    _warm_up()
    lake, grid = DeltaLake(folder), _grid()
    log, source = grid.logs()["sales"][0]
    done, of_log = _timed(lambda: update_state_log(lake, log, source))
    keys = pl.DataFrame({"entity": range(n_keys)}, schema={"entity": pl.Int64()})
    rows, of_grid = _timed(lambda: update_feature_grid(lake, grid, keys, through))
    return {**_log_figures(done, of_log), "grid_cpu_s": of_grid.cpu_seconds, "grid_peak_mb": of_grid.peak_mb} | {
        "grid_new_rows": float(rows.n_new_rows),
        "grid_rows_taken_again": float(rows.n_taken_again),
    }


def _log_figures(done: StateLogUpdate, cost: StepCost) -> dict[str, float]:
    return {
        "log_cpu_s": cost.cpu_seconds,
        "log_peak_mb": cost.peak_mb,
        "log_changed_postings": float(done.n_changed_postings),
        "log_changed_entities": float(done.n_changed_entities),
        "log_entities_from_postings": float(done.n_entities_from_postings),
        "log_rows_added": float(done.n_rows_added),
        "log_rows_removed": float(done.n_rows_removed),
        "log_partitions": float(done.n_partitions),
    }


def _compare(grown: Path, anew: Path) -> dict[str, float]:
    """Hold both logs and both grids against one another, row for row."""
    lakes, grid = (DeltaLake(grown), DeltaLake(anew)), _grid()
    first, second = (read_state_log(lake, grid.logs()["sales"][0][0]) for lake in lakes)
    if not first.equals(second, null_equal=True):
        raise BrokenPromise("an updated state log is not the one built from nothing")
    n_log = first.height
    del first, second
    one, other = (read_feature_grid(lake, grid) for lake in lakes)
    if not one.equals(other, null_equal=True):
        raise BrokenPromise("an updated grid is not the one built from nothing")
    return {"log_rows_equal": float(n_log), "grid_rows_equal": float(one.height)}


def _build_and_sum(folder: Path, n_events: int, n_keys: int, seed: int) -> dict[str, float]:
    """Build the log, then window sums over the ledger as it is stored."""
    _warm_up()
    lake, grid = DeltaLake(folder), _grid()
    log, source = grid.logs()["sales"][0]
    done, of_log = _timed(lambda: update_state_log(lake, log, source))
    sums = _feature_set([_feature(f"sum__{days}", "sum", window_days=days) for days in (7, 28)])
    spine = known_time_spine(n_events // 10, n_keys, seed)

    def evaluated() -> int:
        ledgers = {"sales": lake.scan(_TABLE)}
        spill = folder / "staged"
        return sum(len(rows) for rows, _ in evaluate_partitions(sums, spine, ledgers, _ZONE, _CUTOFF, spill=spill))

    n_rows, of_sums = _timed(evaluated)
    return {
        "log_cpu_s": of_log.cpu_seconds,
        "log_peak_mb": of_log.peak_mb,
        "log_rows": float(done.n_rows_added),
        "log_cpu_us_per_event": of_log.cpu_seconds / n_events * 1e6,
        "windows_cpu_s": of_sums.cpu_seconds,
        "windows_peak_mb": of_sums.peak_mb,
        "windows_rows": float(n_rows),
        "windows_cpu_us_per_event": of_sums.cpu_seconds / n_events * 1e6,
    }


def _warm_up() -> None:
    """Build and update small tables once, so that what is loaded at first use is loaded."""
    with tempfile.TemporaryDirectory() as folder:
        _write_history(Path(folder) / "lake", 20_000, 60, 1, day_too=False)
        lake, grid, keys = DeltaLake(Path(folder) / "lake"), _grid(), pl.DataFrame({"entity": range(60)})
        update_feature_grid(lake, grid, keys, _NEW_ORIGIN - timedelta(days=1))
        _write_day(Path(folder) / "lake", 20_000, 60, 1)
        update_feature_grid(lake, grid, keys, _NEW_ORIGIN)


def _grid() -> FeatureGrid:
    features = [
        _feature("latest_units", "last"),
        _feature("units_lag_1", "lag", lag_days=1, denominator="calendar"),
        _feature("units_lag_7", "lag", lag_days=7, denominator="calendar"),
        *[_feature(f"units_sum__{days}", "sum", window_days=days) for days in (7, 28)],
        *[_feature(f"units_mean__{days}", "mean", window_days=days, denominator="since_first") for days in (7, 28)],
        _feature("units_sd__28", "std", window_days=28, denominator="calendar"),
        _feature("active_days__28", "count_nonzero", window_days=28),
        _feature("units_day_min__28", "min", window_days=28),
        _feature("units_day_max__28", "max", window_days=28),
        _feature("days_since_last_sale", "days_since"),
        _feature("days_since_first_sale", "days_since_first"),
        FeatureDefinition(
            "trend", "ratio", "share", "", numerator="units_mean__7", denominator_feature="units_mean__28"
        ),
    ]
    return grid_on_silver(_feature_set(features), _ZONE, _CUTOFF, _FIRST_DATE + timedelta(days=30))


def _feature(name: str, aggregation: str, **fields: object) -> FeatureDefinition:
    return FeatureDefinition(name, aggregation, "units", "", "sales", "units", **fields)  # type: ignore[arg-type]


def _feature_set(features: Sequence[FeatureDefinition]) -> FeatureSet:
    source = FeatureSource("sales", "gold/sales", "sales", ("fact_id",), (SourceColumn("units", "units", "units"),))
    clock: FeatureClock = "daily" if any(feature.aggregation == "last" for feature in features) else "instant"
    return FeatureSet("bench", "1.0.0", "Benchmark", "bench", clock, ("entity",), (source,), tuple(features))


def _timed(step: Callable[[], T]) -> tuple[T, StepCost]:
    """What a call gives, its processor time and the resident memory that it added; memory is sampled every 10 ms."""
    before = highest = _resident_mb()
    is_over = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not is_over.wait(0.01):
            highest = max(highest, _resident_mb())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    started = time.process_time()
    answer = step()
    seconds = time.process_time() - started
    is_over.set()
    watcher.join()
    return answer, StepCost(seconds, max(highest, _resident_mb()) - before)


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES / 1e6
