"""The online benchmark: vectors from a twin of many keys while other processes journal and settle events.

All in one run: a history is taken in, then for some seconds a writer offers events (late, corrected and retracted ones
among them) to a door, `replenish settle --follow` judges them, and this process follows the log, writes a snapshot, and
asks for vectors of random keys. An event is visible once a vector is answered at the place of the record that settled
it, or behind it. Its time begins when the event comes: waiting for the others of its request, the journal, the wait for
the settler, judging and the twin are all in it.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from replenish.cli.bench_online_load import LoadSize, sku_of, write_history, write_load
from replenish.cli.deployment import now_utc, open_deployment
from replenish.cli.process_cpu import cpu_seconds_of
from replenish.cli.twin import KEPT_DAYS, KEPT_VERSIONS, SWITCH_SECONDS, collect_seldom
from replenish.cli.twin_follower import SnapshotPace, TwinFollower
from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.dataset_writer import write_dataset
from replenish.contracts.reader import PLATFORM_FOLDER
from replenish.errors import BrokenPromise
from replenish.features.definitions.model import FeatureSet
from replenish.features.definitions.reader import read_feature_sets
from replenish.features.online.feature_twin import FeatureTwin
from replenish.features.online.twin_plan import KeptHistory
from replenish.ingest.settle import SETTLED_TYPES, Positions
from replenish.stores.journal_entry import EVENTS_SETTLED, JournalRecord
from replenish.stores.journal_reader import JournalReader
from replenish.stores.layout import RootLayout

N_FEATURES = 40
QUESTIONS_PER_SECOND = 500
_DAYS_OF_HISTORY = 60
_LAST_SECONDS = 10.0
"""How long the twin may take to come up with the log once the writer is done."""


def run_online_bench(
    n_keys: int = 100_000, events_per_second: int = 2_000, seconds: float = 60.0, sales_per_key_day: float = 0.5
) -> dict[str, object]:
    """Measure answers, visibility and memory under load.

    Returns:
        Named figures: the load as it was, milliseconds of one vector and from event to visible vector (p50, p99, max),
        memory, snapshots and their size, and what catching up with the history took.

    Raises:
        BrokenPromise: An event did not become visible.
    """
    size = LoadSize(n_keys, _DAYS_OF_HISTORY, sales_per_key_day)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        layout = RootLayout(root)
        root.mkdir()
        dataset = read_dataset(PLATFORM_FOLDER / "feeds" / "retailer.yaml")
        write_dataset(replace(dataset, zone="UTC"), layout.dataset_file)
        n_rows = write_history(layout, size, datetime.now(UTC))
        before = _resident_mb()
        began, cpu = time.perf_counter(), time.process_time()
        pace = SnapshotPace(seconds=seconds / 3, records=1_000_000_000)
        feature_set = forty_features()
        limits = KeptHistory(KEPT_DAYS, KEPT_VERSIONS)
        follower = TwinFollower(open_deployment(root), [feature_set], limits, now_utc, pace)
        follower.take_in()
        caught_up = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
        collect_seldom()
        switch, memory = sys.getswitchinterval(), _resident_mb()
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            measured = _under_load(follower, size, seconds, events_per_second, Path(folder) / "told.jsonl")
        finally:
            sys.setswitchinterval(switch)
            gc.unfreeze()
            follower.stop()
        snapshots = sorted((layout.twin / feature_set.name).glob("*.snapshot"))
        return {
            "keys": len(follower.twins[feature_set.name]),
            "features": len(feature_set.features),
            "history_rows": n_rows,
            **{f"history_{name}": value for name, value in caught_up.items()},
            "states_mb": memory - before,
            "states_kb_per_key": (memory - before) * 1024 / n_keys,
            "snapshot_mb": snapshots[-1].stat().st_size / 2**20,
            "records_mb": (layout.twin / "records.sqlite").stat().st_size / 2**20,
            **measured,
            "resident_mb_at_end": _resident_mb(),
        }


def forty_features() -> FeatureSet:
    """Forty features of `demand_daily`, of every kind, asked at any instant: a late event is visible at once."""
    demand = read_feature_sets()["demand_daily"].on_postings()
    dropped = {f"units_lag_{days}" for days in (*range(15, 29), 35, 42)}
    dropped |= {f"{name}__{days}" for name in ("revenue_cents_sum", "unit_revenue_cents") for days in (56, 112)}
    dropped |= {"units_sd__112", "active_days__112", "units_sd__14", "active_days__14"}
    kept = tuple(f for f in demand.features if f.name not in dropped)
    while len(kept) > N_FEATURES:
        last = max(nr for nr, f in enumerate(kept) if f.name.startswith("units_lag_"))
        kept = kept[:last] + kept[last + 1 :]
    return replace(demand, name="bench_online", clock="instant", features=kept)


def _under_load(
    follower: TwinFollower, size: LoadSize, seconds: float, events_per_second: int, told: Path
) -> dict[str, object]:
    """Ask and watch while the writer writes; figures of the answers and of visibility."""
    twin = next(iter(follower.twins.values()))
    began_seq, done = twin.seq, threading.Event()
    arguments = (str(follower.root), size, seconds, events_per_second, str(told), 1)
    writer = multiprocessing.get_context("spawn").Process(target=write_load, args=arguments)
    follower.start(done.set)
    with _settling(follower.root) as settler:
        cpu, of_settler = time.process_time(), cpu_seconds_of(settler)
        writer.start()
        answers, seen = _ask(follower, twin, size, writer, done)
        writer.join()
        cpu, of_settler = time.process_time() - cpu, cpu_seconds_of(settler) - of_settler
    if follower.failure is not None:
        raise BrokenPromise("the twin could not follow the log") from follower.failure
    records = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
    settled = list(JournalReader(RootLayout(follower.root).journal).records(began_seq, EVENTS_SETTLED))
    waits, taken = _waits(records, settled, seen)
    span = records[-1]["acknowledged"] - records[0]["came"][0]
    return {
        "seconds": span,
        "events": len(waits),
        "events_per_second": len(waits) / span,
        "requests": len(records),
        "settlings": len(settled),
        "snapshots_begun_under_load": follower.n_snapshots,
        "process_cpu_share": cpu / span,
        "settler_cpu_share": of_settler / span,
        **_spread("vector_ms", answers),
        "vectors": len(answers),
        **_spread("event_to_visible_ms", waits),
        **_spread("acknowledged_to_visible_ms", taken),
    }


@contextmanager
def _settling(root: Path) -> Iterator[int]:
    """`replenish settle --follow` beside us, without a pause between settlings; its process id."""
    program = "from replenish.cli.entry import start; start()"
    command = [sys.executable, "-c", program, "settle", "--follow", "--every", "0"]
    environment = {**os.environ, "REPLENISH_ROOT": str(root)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        first = process.stdout.readline() if process.stdout is not None else ""
        if not first.startswith("settling "):
            raise BrokenPromise(f"the settler did not start: {first}")
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


def _ask(
    follower: TwinFollower, twin: FeatureTwin, size: LoadSize, writer: Any, done: threading.Event
) -> tuple[list[float], list[tuple[int, float]]]:
    """Milliseconds of each answer, and (place, instant) whenever an answer was at a new place of the log."""
    chooser, answers, seen = np.random.default_rng(2), list[float](), list[tuple[int, float]]()
    until, last_seq, settled = float("inf"), 0, Positions(0, {})
    reader = JournalReader(RootLayout(follower.root).journal)
    pause = 1 / QUESTIONS_PER_SECOND
    while time.monotonic() < until and not done.is_set():
        key = sku_of(int(chooser.integers(size.n_keys)))
        began = time.perf_counter()
        answer = twin.answer(key, datetime.now(UTC))
        answers.append((time.perf_counter() - began) * 1000)
        # A key may be ahead of the others while a record is taken in.
        place = min(answer.seq, twin.seq)
        if place > last_seq:
            last_seq = place
            seen.append((place, time.monotonic()))
        if until == float("inf") and not writer.is_alive():
            until = time.monotonic() + _LAST_SECONDS
        if until < float("inf") and twin.seq >= follower.log_seq():
            settled.take_in(reader)
            if next(reader.event_bodies(settled.through, types=SETTLED_TYPES), None) is None:
                break
        time.sleep(pause)
    return answers, seen


def _waits(
    requests: Sequence[dict[str, Any]], settled: Sequence[JournalRecord], seen: Sequence[tuple[int, float]]
) -> tuple[list[float], list[float]]:
    """Milliseconds to the first answer that holds an event: since it came, and since it was acknowledged."""
    since_it_came, since_acknowledged = [], []
    batches: dict[str, list[tuple[int, int]]] = {}
    for record in settled:
        batches.setdefault(record.subject, []).append((int(str(record.data["to_seq"])), record.seq or 0))
    for request in requests:
        for feed, seq, came in zip(request["feeds"], request["seqs"], request["came"], strict=True):
            of_feed = batches[feed]
            batch = bisect_left(of_feed, (seq, 0))
            place = len(seen) if batch == len(of_feed) else bisect_left(seen, (of_feed[batch][1], 0.0))
            if place == len(seen):
                raise BrokenPromise("an event did not become visible", seq=seq)
            since_it_came.append((seen[place][1] - came) * 1000)
            since_acknowledged.append((seen[place][1] - request["acknowledged"]) * 1000)
    return since_it_came, since_acknowledged


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    places = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    found = {f"{name}_{word}": ordered[int(share * (len(ordered) - 1))] for word, share in places.items()}
    return found | {f"{name}_max": ordered[-1]}


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
