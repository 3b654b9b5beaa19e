"""Sensors: new files start a run, drift starts a retraining, late feeds and failed runs raise one alert each."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from assets.alerts import failed_since, feed_alert, run_alerts, silent_locations
from replenish.contracts.dataset import Dataset
from replenish.contracts.dataset_reader import matches_feed
from replenish.contracts.model import Contract
from replenish.digests import json_digest
from replenish.drift.episode import judge_episode
from replenish.drift.scores import DRIFT_TABLE
from replenish.stores.journal import Journal
from resources.alert_box import AlertBoxResource
from resources.clock import ClockResource
from resources.deployment import DeploymentResource
from resources.journal import JournalResource
from resources.lake import LakeResource

LOOK_EVERY_SECONDS = 30
RUNNING = dg.DefaultSensorStatus.RUNNING


def offered_files(drop: Path, dataset: Dataset, journal: Journal) -> list[list[Any]]:
    """Name, size and time of every file that a feed wants and that the journal has not seen in this state."""
    seen: dict[str, tuple[int, datetime]] = {}
    for record in journal.records():
        if "size_bytes" in record.data:
            seen[record.subject] = (int(str(record.data["size_bytes"])), record.time)
    new = []
    for path in sorted(drop.iterdir()) if drop.is_dir() else []:
        if not path.is_file() or not any(matches_feed(feed, path.name) for feed in dataset.feeds):
            continue
        stat = path.stat()
        size, taken_at = seen.get(path.name, (-1, datetime.min.replace(tzinfo=UTC)))
        if size != stat.st_size or datetime.fromtimestamp(stat.st_mtime, UTC) > taken_at:
            new.append([path.name, stat.st_size, stat.st_mtime_ns])
    return new


def build_file_drop(job: Any) -> dg.SensorDefinition:
    """A run of `intake` per new set of files; the run key is what was seen, so that one set is requested once."""

    @dg.sensor(
        job=job,
        minimum_interval_seconds=LOOK_EVERY_SECONDS,
        default_status=RUNNING,
        description="Takes in files as they appear in the drop folder.",
    )
    def file_drop(deployment: DeploymentResource, journal: JournalResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
        layout = deployment.layout
        if not layout.dataset_file.exists():
            yield dg.SkipReason("no data set under this root yet")
            return
        new = offered_files(layout.drop, deployment.dataset(), journal.open())
        if new:
            yield dg.RunRequest(run_key=f"drop-{json_digest(new)}")
        else:
            yield dg.SkipReason("no new file")

    return file_drop


def build_drift_retrain(job: Any) -> dg.SensorDefinition:
    """A run of `retrain` per drift episode; the run key is the episode, so that it is requested once."""

    @dg.sensor(
        job=job,
        minimum_interval_seconds=LOOK_EVERY_SECONDS,
        default_status=RUNNING,
        description="Asks for a new challenger once per drift episode, with a cool-down between episodes.",
    )
    def drift_retrain(
        context: dg.SensorEvaluationContext, lake: LakeResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        tables = lake.open()
        if not tables.has(DRIFT_TABLE):
            yield dg.SkipReason("no drift scores yet")
            return
        scores = tables.read(DRIFT_TABLE)
        verdict = judge_episode(scores, last_request=context.cursor)
        if not verdict.is_due:
            yield dg.SkipReason(verdict.reason)
            return
        context.update_cursor(verdict.episode_id or "")
        yield dg.RunRequest(run_key=verdict.run_key, partition_key=str(scores.get_column("origin_date").max()))

    return drift_retrain


def build_freshness_alerts(contracts: dict[str, Contract]) -> dg.SensorDefinition:
    """An alert per breach of a feed's SLA: of the stream by Dagster's freshness state, of one location by data time."""

    @dg.sensor(
        minimum_interval_seconds=LOOK_EVERY_SECONDS,
        default_status=RUNNING,
        description="One alert per breach: a feed past its SLA, with its owner and its runbook.",
    )
    def freshness_alerts(
        context: dg.SensorEvaluationContext, alert_box: AlertBoxResource, clock: ClockResource, lake: LakeResource
    ) -> dg.SkipReason:
        now, sent = clock.now(), 0
        for stream, contract in contracts.items():
            since = failed_since(context.instance, stream)
            if since is not None:
                sent += alert_box.send(feed_alert(contract, since, now))
        for stream, location_id, since in silent_locations(lake.open()):
            sent += alert_box.send(feed_alert(contracts[stream], since, now, location_id))
        return dg.SkipReason(f"{sent} new alerts")

    return freshness_alerts


def build_failure_alerts(owners: Mapping[str, str]) -> dg.SensorDefinition:
    """An alert per failed run to each owner of a failed step; `owners` by step."""

    @dg.run_failure_sensor(
        name="failure_alerts",
        minimum_interval_seconds=LOOK_EVERY_SECONDS,
        default_status=RUNNING,
        description="One alert per failed run, to the owner of what failed.",
    )
    def failure_alerts(context: dg.RunFailureSensorContext, alert_box: AlertBoxResource, clock: ClockResource) -> None:
        run, message = context.dagster_run, context.failure_event.message or ""
        steps = tuple(event.step_key for event in context.get_step_failure_events() if event.step_key)
        for alert in run_alerts(run.run_id, run.job_name, steps, owners, message, clock.now()):
            alert_box.send(alert)

    return failure_alerts


def build_sensors(
    jobs: dict[str, Any], contracts: dict[str, Contract], owners: Mapping[str, str]
) -> list[dg.SensorDefinition]:
    """All sensors of the code location."""
    return [
        build_file_drop(jobs["intake"]),
        build_drift_retrain(jobs["retrain"]),
        build_freshness_alerts(contracts),
        build_failure_alerts(owners),
    ]
