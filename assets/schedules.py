"""Jobs and schedules: each day, a little after the cut-off, the whole loop for that day's origin."""

from datetime import datetime
from typing import Any

import dagster as dg

from assets.maintenance import MAINTENANCE_GROUP
from assets.partitions import ORIGINS
from assets.stored_features import stored_name
from replenish.contracts.dataset_reader import read_dataset
from replenish.features.definitions.reader import read_feature_sets
from replenish.stores.layout import RootLayout
from resources.environment import root_folder

MINUTES_AFTER_CUTOFF = 15
"""Files that were written up to the cut-off get this long to arrive; what comes later is known tomorrow."""
WRITES_LAKE = {"replenish/writes": "lake"}
"""One writer per table: runs with this tag queue one behind the other (see dagster.yaml)."""

INTAKE_GROUPS = ("ingest", "history", "gold")
INTAKE_FEATURES = ("feat_demand", "lost_sales")
"""Only what is not partitioned by origin, as stored feature sets are not either: a file names no origin."""
MAINTENANCE_CRON = "30 1 * * *"
"""At night, in the data set's zone: long after the last daily run and before the next cut-off."""
RETRAIN_ASSETS = ("forecast_model", "forecast_backtest")


def build_jobs() -> dict[str, Any]:
    """`daily_loop` (all for one origin), `intake` (events to features), `maintenance`, `retrain` (a new challenger)."""
    stored = [stored_name(feature_set) for feature_set in read_feature_sets().values()]
    everything = dg.AssetSelection.all() - dg.AssetSelection.groups(MAINTENANCE_GROUP)
    return {
        "daily_loop": dg.define_asset_job(
            "daily_loop",
            selection=everything,
            partitions_def=ORIGINS,
            tags=WRITES_LAKE,
            description="The whole loop for one origin: events, tables, forecast, decisions, publication.",
        ),
        "intake": dg.define_asset_job(
            "intake",
            selection=dg.AssetSelection.groups(*INTAKE_GROUPS) | dg.AssetSelection.assets(*INTAKE_FEATURES, *stored),
            tags=WRITES_LAKE,
            description="Take in offered files, up to features; decisions wait for the cut-off.",
        ),
        "maintenance": dg.define_asset_job(
            "maintenance",
            selection=dg.AssetSelection.groups(MAINTENANCE_GROUP),
            tags=WRITES_LAKE,
            description="Keep tables and journal small: compaction, vacuum, old log entries, sealing, trimming.",
        ),
        "retrain": dg.define_asset_job(
            "retrain",
            selection=dg.AssetSelection.assets(*RETRAIN_ASSETS),
            partitions_def=ORIGINS,
            tags={**WRITES_LAKE, "replenish/class": "training"},
            description="Train a challenger at one origin and judge it against the champion.",
        ),
    }


def upkeep_schedule(name: str, job: Any, cron: str, description: str) -> dg.ScheduleDefinition:
    """A schedule of the log's and the stores' upkeep: on from the start, for it needs no data of today."""
    return dg.ScheduleDefinition(
        name=name,
        job=job,
        cron_schedule=cron,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )


def build_schedules(jobs: dict[str, Any]) -> list[dg.ScheduleDefinition]:
    """The daily loop, after the cut-off of the data set under the root (else 06:00 UTC), and maintenance."""
    zone, cutoff_minutes = _cutoff()
    minutes = (cutoff_minutes + MINUTES_AFTER_CUTOFF) % (24 * 60)

    @dg.schedule(
        name="daily",
        job=jobs["daily_loop"],
        cron_schedule=f"{minutes % 60} {minutes // 60} * * *",
        execution_timezone=zone,
        description="The whole loop, every day after the cut-off. Off by default: a finished data set has no today.",
    )
    def daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        origin = scheduled_origin(context.scheduled_execution_time)
        return dg.RunRequest(run_key=f"daily-{origin}", partition_key=origin)

    nightly = dg.ScheduleDefinition(
        name="nightly_maintenance",
        job=jobs["maintenance"],
        cron_schedule=MAINTENANCE_CRON,
        execution_timezone=zone,
        description="Compaction, vacuum and log retention of the lake, sealing and trimming of the log, every night.",
    )
    return [daily, nightly]


def scheduled_origin(scheduled_at: datetime) -> str:
    """The origin of a tick: the local date on which its cut-off passed."""
    return scheduled_at.date().isoformat()


def _cutoff() -> tuple[str, int]:
    path = RootLayout(root_folder()).dataset_file
    if not path.exists():
        return "UTC", 6 * 60
    dataset = read_dataset(path)
    return dataset.zone, dataset.cutoff.hour * 60 + dataset.cutoff.minute
