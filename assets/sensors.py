"""Sensors: new files start a run, drift starts a retraining, late feeds and failed runs raise one alert each."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg

from assets.event_log import feed_key
from assets.settings import STAGE_OWNERS
from replenish.contracts.dataset import Dataset
from replenish.contracts.dataset_reader import matches_feed
from replenish.contracts.model import Contract
from replenish.control.alerts import Alert, alert_id
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
RUNS_RUNBOOK = "docs/runbooks/runs.md"
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
    """An alert per breach of a feed's SLA, from Dagster's own freshness states."""
    watched = {dg.AssetKey(feed_key(stream)): contract for stream, contract in contracts.items()}

    @dg.sensor(
        minimum_interval_seconds=LOOK_EVERY_SECONDS,
        default_status=RUNNING,
        description="One alert per breach: a feed past its SLA, with its owner and its runbook.",
    )
    def freshness_alerts(
        context: dg.SensorEvaluationContext, alert_box: AlertBoxResource, clock: ClockResource
    ) -> dg.SkipReason:
        sent = 0
        for key, contract in watched.items():
            since = failed_since(context.instance, key)
            if since is not None:
                sent += alert_box.send(feed_alert(contract, since, clock.now()))
        return dg.SkipReason(f"{sent} new alerts")

    return freshness_alerts


def failed_since(instance: dg.DagsterInstance, key: dg.AssetKey) -> datetime | None:
    """When the last delivery of a feed in state FAIL was; None while it is in another state.

    The instant does not move until data arrive, so it names the breach: an alert with it in its id is sent once.
    """
    state = instance.get_freshness_state_records([key]).get(key)
    last = instance.get_latest_materialization_event(key)
    if state is None or state.freshness_state.name != "FAIL" or last is None:
        return None
    return datetime.fromtimestamp(last.timestamp, UTC)


def feed_alert(contract: Contract, since: datetime, now: datetime) -> Alert:
    """The alert of one late feed."""
    return Alert(
        id=alert_id("late-feed", contract.stream, since.isoformat()),
        subject=f"{contract.stream}: nothing since {since:%Y-%m-%d %H:%M} UTC",
        owner=contract.owner,
        runbook=contract.runbook,
        severity="critical" if contract.sla.tier == "gold" else "warning",
        message=f"The SLA is {contract.sla.fail_after_hours:g} h. Decisions that rest on it fall to `approval`.",
        affected=(f"silver/{contract.stream}",),
        raised_at=now,
    )


def build_failure_alerts() -> dg.SensorDefinition:
    """An alert per failed run, with the steps that failed and the owner of their stage."""

    @dg.run_failure_sensor(
        name="failure_alerts",
        minimum_interval_seconds=LOOK_EVERY_SECONDS,
        default_status=RUNNING,
        description="One alert per failed run.",
    )
    def failure_alerts(context: dg.RunFailureSensorContext, alert_box: AlertBoxResource, clock: ClockResource) -> None:
        run, message = context.dagster_run, context.failure_event.message or ""
        steps = tuple(event.step_key for event in context.get_step_failure_events() if event.step_key)
        alert_box.send(run_alert(run.run_id, run.job_name, steps, message, clock.now()))

    return failure_alerts


def run_alert(run_id: str, job: str, steps: tuple[str, ...], message: str, now: datetime) -> Alert:
    """The alert of one failed run."""
    return Alert(
        id=alert_id("failed-run", run_id),
        subject=f"run {run_id[:8]} of {job} failed" + (f" at {', '.join(steps)}" if steps else ""),
        owner=STAGE_OWNERS["ingest"].removeprefix("team:"),
        runbook=RUNS_RUNBOOK,
        severity="critical",
        message=message[:1000],
        affected=steps,
        raised_at=now,
    )


def build_sensors(jobs: dict[str, Any], contracts: dict[str, Contract]) -> list[dg.SensorDefinition]:
    """All sensors of the code location."""
    return [
        build_file_drop(jobs["intake"]),
        build_drift_retrain(jobs["retrain"]),
        build_freshness_alerts(contracts),
        build_failure_alerts(),
    ]
