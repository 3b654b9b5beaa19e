"""The file door's benchmark: one sales file of a million rows through the door into bronze, against a bare load.

Ours: sha256 of the file, a durable copy in the archive, parsing as text, mapping, the contract's row checks, judgement
against earlier facts, accepted parts with digests, the journal's commit, then the append to bronze with its barrier.
Bare: `polars.read_csv` with types, `write_deltalake`, and the same barrier; nothing is checked, kept or remembered.
Both run by turns in one process on the same disk, so that neither has the quieter machine.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from deltalake import write_deltalake

from replenish.cli.bench_loop import write_sales_files
from replenish.cli.deployment import CHECKOUT, open_deployment, prepare_deployment
from replenish.errors import BrokenPromise
from replenish.history.bronze import append_bronze
from replenish.ingest.door import ingest_folder
from replenish.stores.durable import fsync_commit

ARRIVAL = datetime(2025, 7, 1, tzinfo=UTC)
STREAM = "sales"


def measure(n_rows: int = 1_000_000, repeats: int = 3, folder: Path | None = None) -> dict[str, object]:
    """Seconds, CPU seconds and rows per second of both ways, medians over `repeats`, and the ratio of their speeds.

    The ratio of CPU beside the ratio of time: the bare way uses two cores and gains more from an idle machine.

    Args:
        n_rows: Rows of the file, about; writing it is not measured.
        repeats: Times each way is run; one more, before them, is not counted.
        folder: Where all of it lies for the time of the run; None = the system's temporary folder.
    """
    with tempfile.TemporaryDirectory(prefix="replenish-file-door-", dir=folder) as scratch:
        data = Path(scratch) / "data"
        offered = _write_one_file(data, n_rows)
        ours: list[tuple[float, float]] = []
        bare: list[tuple[float, float]] = []
        for _ in range(repeats + 1):
            ours.append(_timed(Path(scratch), _deployment_for(data), lambda root: _through_the_door(root, offered)))
            bare.append(_timed(Path(scratch), Path.mkdir, lambda root: _bare(root, data)))
    seconds, cpu = (statistics.median(times) for times in zip(*ours[1:], strict=True))
    bare_seconds, bare_cpu = (statistics.median(times) for times in zip(*bare[1:], strict=True))
    return {
        "rows": offered,
        "ours": "hash, archive, gate, judgement, parts, journal, bronze; each durable",
        "bare": "polars.read_csv, write_deltalake, the same barrier",
        "ours_s": seconds,
        "bare_s": bare_seconds,
        "ours_rows_per_s": offered / seconds,
        "bare_rows_per_s": offered / bare_seconds,
        "ours_cpu_s": cpu,
        "bare_cpu_s": bare_cpu,
        "ratio_to_bare": bare_seconds / seconds,
        "cpu_ratio_to_bare": bare_cpu / cpu,
    }


def _write_one_file(data: Path, n_rows: int) -> int:
    """One export of several months, as a retailer hands it over; its rows."""
    days = data.parent / "days"
    write_sales_files(days, n_rows)
    rows = pl.concat([pl.read_csv(path, infer_schema=False) for path in sorted(days.iterdir())])
    data.mkdir()
    # The export is made once: all of it is known from then on.
    rows.with_columns(recorded_at=pl.lit("2025-05-02T22:00:00Z")).unique(
        ["store", "receipt", "line"], keep="last", maintain_order=True
    ).write_csv(data / "sales-export.csv")
    shutil.rmtree(days)
    return pl.scan_csv(data / "sales-export.csv").select(pl.len()).collect().item()


def _timed(scratch: Path, prepare: Callable[[Path], object], work: Callable[[Path], None]) -> tuple[float, float]:
    """Seconds and CPU seconds of `work` on a root that `prepare` makes."""
    root = scratch / "root"
    try:
        prepare(root)
        started, cpu = time.perf_counter(), time.process_time()
        work(root)
        return time.perf_counter() - started, time.process_time() - cpu
    finally:
        shutil.rmtree(root)


def _deployment_for(data: Path) -> Callable[[Path], object]:
    feed = CHECKOUT / "platform" / "feeds" / "retailer.yaml"
    return lambda root: prepare_deployment(root, data, feed=feed, assume=None)


def _through_the_door(root: Path, offered: int) -> None:
    deployment = open_deployment(root)
    journal, layout = deployment.journal, deployment.layout
    report = ingest_folder(layout.drop, deployment.dataset, deployment.contracts, journal, layout, now=ARRIVAL)
    commit = append_bronze(STREAM, deployment.contracts[STREAM], journal, layout, deployment.lake)
    accepted = sum(file.accepted for file in report.files)
    if not accepted == commit.n_rows == offered:
        raise BrokenPromise("the benchmark's rows were not all accepted", offered=offered, accepted=accepted)


def _bare(root: Path, data: Path) -> None:
    rows = pl.read_csv(next(data.iterdir()), try_parse_dates=True)
    table = root / "lake" / "bare"
    table.mkdir(parents=True)
    write_deltalake(str(table), rows)
    fsync_commit(table, range(1), below=root)
