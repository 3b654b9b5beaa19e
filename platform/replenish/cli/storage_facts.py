"""What the alarms of the stores are judged by: disk, letters, slots, topics, standbys, the doctor's last report."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

from replenish.cli.deployment import Deployment
from replenish.cli.doctor_visit import last_report
from replenish.contracts.doors import read_doors
from replenish.control.alarms import (
    AlarmPolicy,
    LaggingSlot,
    LaggingStandby,
    LaggingTopics,
    StorageFacts,
    judge_storage,
)
from replenish.control.alerts import Alert
from replenish.errors import ReplenishError
from replenish.ingest.letter_metrics import write_open_letters
from replenish.stores.journal_reader import JournalReader
from replenish.stores.layout import RootLayout
from replenish.stores.standby import read_standby

STANDBYS_VARIABLE = "REPLENISH_STANDBYS"
"""Roots of the standbys of this deployment, as a path list: the log is shipped to them, and they are watched."""


def storage_alarms(deployment: Deployment, policy: AlarmPolicy, now: datetime) -> list[Alert]:
    """The alarms of this deployment as of now."""
    return judge_storage(gather_facts(deployment, policy, now), policy, now)


def gather_facts(deployment: Deployment, policy: AlarmPolicy, now: datetime) -> StorageFacts:
    """Measure everything that can be reached; what cannot be is left out and raises nothing."""
    layout = deployment.layout
    report: dict[str, Any] = last_report(layout) or {}
    findings = cast(list[dict[str, object]], report.get("findings", []))
    return StorageFacts(
        free_bytes=shutil.disk_usage(layout.root).free if layout.root.is_dir() else None,
        new_letters=_new_letters(deployment, policy, now),
        slots=tuple(_slots(deployment)),
        topics=tuple(_topics(deployment)),
        standbys=tuple(_standbys(layout, now)),
        damage=tuple(f"{found['subject']}: {found['kind']} ({found['detail']})" for found in findings),
        needs_person=int(report.get("needs_person", 0)),
        visit=str(report.get("at", "")),
    )


def _new_letters(deployment: Deployment, policy: AlarmPolicy, now: datetime) -> dict[str, int]:
    if not deployment.layout.journal.is_file():
        return {}
    since = now - timedelta(hours=policy.limit("dead_letters", "window_hours"))
    try:
        return deployment.journal.count_new_letters(since)
    except ReplenishError:
        # A damaged journal has an alarm of its own.
        return {}


def _slots(deployment: Deployment) -> Iterator[LaggingSlot]:
    """Slots of the databases whose address is in the environment; one that does not answer is left out."""
    if not deployment.layout.doors_file.is_file():
        return
    for settings in read_doors(deployment.layout.doors_file).postgres:
        dsn = os.environ.get(settings.dsn_variable)
        if not dsn:
            continue
        # Imported here: only a deployment that follows a database needs its driver.
        from replenish.ingest.cdc.slot import slot_lag

        try:
            lag = slot_lag(dsn, settings.slot)
        except ReplenishError:
            continue
        yield LaggingSlot(settings.name, max(lag.lag_bytes, lag.kept_bytes))


def _topics(deployment: Deployment) -> Iterator[LaggingTopics]:
    """Kafka doors; one whose brokers do not answer, or whose secrets are not in the environment, is left out."""
    if not deployment.layout.doors_file.is_file():
        return
    for settings in read_doors(deployment.layout.doors_file).kafka:
        # Imported here: only a deployment that follows topics needs their client.
        from replenish.ingest.kafka.follower import consumer_settings
        from replenish.ingest.kafka.topic_lag import topic_lag

        try:
            lag = topic_lag(settings, consumer_settings(settings, os.environ))
        except ReplenishError:
            continue
        yield LaggingTopics(settings.name, sum(lag.values()))


def write_letter_gauge(deployment: Deployment) -> None:
    """Open dead letters by feed and reason into `<root>/metrics`, where a node exporter finds them."""
    if deployment.layout.journal.is_file():
        reader = JournalReader(deployment.layout.journal)
        write_open_letters(reader.count_dead_letters("open"), deployment.layout.metrics / "dead-letters.prom")
        reader.close()


def standby_roots() -> list[Path]:
    """Roots of the standbys that the environment names."""
    return [Path(text) for text in os.environ.get(STANDBYS_VARIABLE, "").split(os.pathsep) if text]


def _standbys(layout: RootLayout, now: datetime) -> Iterator[LaggingStandby]:
    for root in standby_roots():
        try:
            state = read_standby(RootLayout(root), layout, now=now)
        except (ReplenishError, OSError):
            continue
        if state.lag_events is not None and state.lag_seconds is not None:
            yield LaggingStandby(root.name, state.lag_events, state.lag_seconds)
