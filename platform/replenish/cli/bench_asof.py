"""The as-of benchmark: latest values and window sums as known at each spine row, beside DuckDB's joins in the same run.

The bare ASOF join takes event times only, so it reads what nobody knew yet; it is the measure of speed, not of truth.
The range join over postings gives the true window sums, and every row of ours is held against it; latest values from
raw postings and from the stored log are held against one another. Forms take turns, a first round warms up.
Figures are processor time of all threads; peak memory is what a form added to the process.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from datetime import date, timedelta
from datetime import time as wall_time
from pathlib import Path
from typing import NamedTuple

import duckdb
import polars as pl

from replenish.bitemporal import origin_instant, state_log
from replenish.cli.known_time_data import known_time_postings, known_time_spine
from replenish.errors import BrokenPromise
from replenish.features.definitions.model import FeatureDefinition, FeatureSet, FeatureSource, SourceColumn
from replenish.features.offline.evaluator import evaluate
from replenish.features.offline.log_lookup import packed_as_of_join

_ZONE, _CUTOFF = "Europe/Berlin", wall_time(6)
_PAGE_BYTES = 4096
_ASOF = """
select spine.row_nr, events.units from spine asof left join events
on spine.entity = events.entity and spine.as_of >= events.event_time
"""
_RANGE_JOIN = """
select row_nr, coalesce(sum(delta) filter (where event_date >= origin - 7), 0)::bigint as sum__7,
       coalesce(sum(delta), 0)::bigint as sum__28
from queries left join postings on queries.entity = postings.entity and postings.knowledge_time <= queries.as_of
     and postings.event_date between queries.origin - 28 and queries.origin - 1
group by row_nr order by row_nr
"""
_TABLES = """
create table spine as select * from spine_frame;
create table events as select entity, event_time, units from ledger_frame where posting_kind = 'version';
create table postings as select entity, event_date, knowledge_time, posting_sign * units as delta from ledger_frame;
create table queries as
    select row_nr, entity, as_of, origin from spine asof join cutoff_frame on spine.as_of >= cutoff_frame.instant;
"""


def run_asof_bench(
    n_events: int = 10_000_000, n_rows: int = 1_000_000, n_keys: int = 30_000, rounds: int = 3, seed: int = 1
) -> dict[str, object]:
    """Measure each form on the same postings and spine.

    Returns:
        Named figures: processor seconds (median of the rounds) and peak memory of each form; ratios to the bare ASOF
        join (smaller is better), and how many times faster the windows are than the range join.

    Raises:
        BrokenPromise: Two forms that must agree do not.
    """
    ledger, spine = known_time_postings(n_events, n_keys, seed), known_time_spine(n_rows, n_keys, seed)
    connection = _duckdb_with(ledger, spine)
    log, built = _timing(lambda: state_log(ledger, key=["entity"], fact_key=["fact_id"], values=["units"]))
    look_up = {"key": ["entity"], "as_of": "as_of", "values": ["units"]}
    forms: dict[str, Callable[[], pl.DataFrame]] = {
        "duckdb_asof": lambda: _answer(connection, _ASOF),
        "stored_log": lambda: packed_as_of_join(spine, log, **look_up),  # type: ignore[arg-type]
        "raw_events": lambda: evaluate(_feature_set("last"), spine, {"sales": ledger}, _ZONE, _CUTOFF),
        "windows": lambda: evaluate(_feature_set("sum"), spine, {"sales": ledger}, _ZONE, _CUTOFF),
        "duckdb_range_join": lambda: _answer(connection, _RANGE_JOIN),
    }
    timings: dict[str, list[_Cost]] = {name: [] for name in forms}
    for number in range(rounds + 1):
        answers = {}
        for name, form in forms.items():
            answers[name], cost = _timing(form)
            timings[name] += [cost] if number else []
        _check(answers)
    cpu = {name: statistics.median(cost.cpu_seconds for cost in costs) for name, costs in timings.items()}
    peak = {name: max(cost.peak_mb for cost in costs) for name, costs in timings.items()}
    return {
        "spine_rows": n_rows,
        "postings": ledger.height,
        "log_rows": log.height,
        "rounds": rounds,
        **{f"{name}_cpu_s": seconds for name, seconds in cpu.items()},
        **{f"{name}_peak_mb": megabytes for name, megabytes in peak.items()},
        "build_log_cpu_s": built.cpu_seconds,
        "build_log_peak_mb": built.peak_mb,
        "stored_log_to_asof_ratio": cpu["stored_log"] / cpu["duckdb_asof"],
        "raw_events_to_asof_ratio": cpu["raw_events"] / cpu["duckdb_asof"],
        "windows_times_faster_than_range_join": cpu["duckdb_range_join"] / cpu["windows"],
        "feast": "skipped: `replenish bench feast` makes it an environment of its own",
    }


class _Cost(NamedTuple):
    cpu_seconds: float
    peak_mb: float


def _feature_set(aggregation: str) -> FeatureSet:
    source = FeatureSource("sales", "gold/sales", "sales", ("fact_id",), (SourceColumn("units", "units", "units"),))
    last = FeatureDefinition("units", "last", "units", "Latest units", "sales", "units")
    sums = [
        FeatureDefinition(f"sum__{days}", "sum", "units", "Units", "sales", "units", window_days=days)
        for days in (7, 28)
    ]
    features = (last,) if aggregation == "last" else tuple(sums)
    return FeatureSet("bench", "1.0.0", "Benchmark", "bench", "instant", ("entity",), (source,), features)


def _duckdb_with(ledger: pl.DataFrame, spine: pl.DataFrame) -> duckdb.DuckDBPyConnection:
    """DuckDB with the postings, the spine and its origin dates as its own tables, so that no form pays for reading."""
    connection = duckdb.connect()
    # Registered frames are estimated at about one row, which turns ASOF into a nested loop.
    connection.execute("set asof_loop_join_threshold = 0; set timezone = 'UTC'")
    days = [date(2024, 12, 1) + timedelta(days=day) for day in range(500)]
    instants = [origin_instant(day, _ZONE, _CUTOFF) for day in days]
    frames = {
        "ledger_frame": ledger,
        "spine_frame": spine,
        "cutoff_frame": pl.DataFrame({"origin": days, "instant": instants}),
    }
    for name, frame in frames.items():
        connection.register(name, frame.to_arrow())
    connection.execute(_TABLES)
    for name in frames:
        connection.unregister(name)
    return connection


def _answer(connection: duckdb.DuckDBPyConnection, query: str) -> pl.DataFrame:
    frame = pl.from_arrow(connection.sql(query).to_arrow_table())
    if not isinstance(frame, pl.DataFrame):
        raise BrokenPromise("a query gave no table")
    return frame


def _check(answers: dict[str, pl.DataFrame]) -> None:
    if not answers["raw_events"]["units"].equals(answers["stored_log"]["units"], null_equal=True):
        raise BrokenPromise("latest values from postings and from the stored log differ")
    for name in ("sum__7", "sum__28"):
        if not answers["windows"][name].equals(answers["duckdb_range_join"][name]):
            raise BrokenPromise("window sums differ from the range join", feature=name)


def _timing(form: Callable[[], pl.DataFrame]) -> tuple[pl.DataFrame, _Cost]:
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
    answer = form()
    seconds = time.process_time() - started
    is_over.set()
    watcher.join()
    return answer, _Cost(seconds, max(highest, _resident_mb()) - before)


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES / 1e6
