"""The stages in a row, in this process and without Dagster: for benchmarks, studies and tests.

`make demo` and production go through Dagster; both call the same domain functions.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

from replenish.cli.deployment import CHECKOUT, Deployment
from replenish.contracts.dataset import Dataset
from replenish.contracts.dbt_render import LAKE_VARIABLE
from replenish.contracts.profile import ForecastProfile, read_profile
from replenish.errors import NotApplicable, StoreError
from replenish.features.demand import update_feat_demand
from replenish.features.lead_time import update_lead_times
from replenish.features.unconstrained.lost_sales import update_lost_sales
from replenish.history.bronze import append_bronze
from replenish.history.silver import SilverUpdate, update_silver
from replenish.ingest.door import IngestReport, ingest_folder
from replenish.ingest.settle import settle_events
from replenish.stores.full_disk import has_no_space, store_full, tells_of_full_disk
from replenish.stores.lake import DeltaLake


def build_gold_tables(lake: DeltaLake, scratch: Path, *, threads: int = 1) -> None:
    """Run `dbt run` on this lake; dbt's own files go to `scratch`.

    Raises:
        StoreFull: There was no space, for dbt's own files or for a table; tables are as they were, or done.
        StoreError: dbt failed otherwise; its output is in the message.
    """
    dbt = Path(sys.executable).parent / "dbt"
    folder = str(CHECKOUT / "dbt")
    command = [str(dbt), "--no-send-anonymous-usage-stats", "run", "--project-dir", folder, "--profiles-dir", folder]
    command += ["--target-path", str(scratch / "target"), "--log-path", str(scratch / "logs")]
    # Threads of DuckDB; dbt itself builds one model at a time (see dbt/profiles.yml).
    environment = {**os.environ, LAKE_VARIABLE: str(lake.root), "REPLENISH_DBT_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise _dbt_fault(done.stdout + done.stderr, lake.root)


def _dbt_fault(output: str, lake: Path) -> StoreError:
    """What dbt's last words mean: on a full disk it may stop at any of its own files, in any library's words."""
    if tells_of_full_disk(output) or has_no_space(lake):
        lines = [line.strip() for line in output.splitlines() if tells_of_full_disk(line)]
        return store_full("build gold", lake, lines[-1] if lines else "dbt gave no reason")
    return StoreError(f"dbt failed:\n{output[-4000:]}")


def run_to_silver(deployment: Deployment, *, now: datetime) -> tuple[IngestReport, dict[str, SilverUpdate]]:
    """Ingest the drop folder, settle single events, then bring bronze and silver of every stream up to date.

    The report lists files first, then settled batches of events.

    Raises:
        StoreFull: The disk is full; what was taken in before stays, and the next call goes on from there.
    """
    contracts, lake, layout = deployment.contracts, deployment.lake, deployment.layout
    journal = deployment.journal
    report = ingest_folder(layout.drop, deployment.dataset, contracts, journal, layout, now=now)
    settled = settle_events(deployment.dataset, contracts, journal, layout, now=now, versions=deployment.versions)
    report = replace(report, files=report.files + settled.batches)
    updates = {}
    for stream, contract in contracts.items():
        append_bronze(stream, contract, journal, layout, lake)
        updates[stream] = update_silver(contract, deployment.dataset, lake)
    return report, updates


def run_to_features(
    deployment: Deployment, *, now: datetime, profile: str | None = None, through: date | None = None, threads: int = 1
) -> None:
    """Everything from the drop folder to the features of every origin up to `through` (default: the newest known)."""
    run_to_silver(deployment, now=now)
    build_gold_tables(deployment.lake, deployment.layout.root / "dbt", threads=threads)
    dataset = replace(deployment.dataset, profile=profile) if profile else deployment.dataset
    update_demand_features(deployment.lake, dataset, read_profile(dataset.profile), through=through)


def update_demand_features(
    lake: DeltaLake, dataset: Dataset, profile: ForecastProfile, *, through: date | None = None
) -> None:
    """Lost sales where they can be estimated, then the demand features of every origin up to `through`."""
    with suppress(NotApplicable):
        update_lost_sales(lake, dataset, through=through)
    update_feat_demand(lake, dataset, profile, through=through)


def run_lead_times(deployment: Deployment, origins: list[date]) -> None:
    """Lead-time distributions as known at each origin; none where the data set has no receipts."""
    for origin in origins:
        try:
            update_lead_times(deployment.lake, deployment.dataset, origin)
        except NotApplicable:
            return
