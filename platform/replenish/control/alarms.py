"""Alarms of the stores: from what was measured to who has to act. Thresholds are policy, measuring is the caller's.

An alarm's id names the incident of one day and severity: whoever looks again the same day sends nothing, an incident
that gets worse is sent once more, and one that lasts is said again every day.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from replenish.control.alerts import Alert, Severity, alert_id
from replenish.errors import ContractError

ALARMS_FILE = Path(__file__).resolve().parents[2] / "policies" / "alarms.yaml"

ALARM_LIMITS: dict[str, tuple[str, ...]] = {
    "dead_letters": ("window_hours", "max_new_per_feed"),
    "slot_lag": ("warn_bytes", "critical_bytes"),
    "kafka_lag": ("warn_messages", "critical_messages"),
    "disk": ("warn_free_bytes", "critical_free_bytes"),
    "damage": (),
    "standby": ("warn_behind_seconds", "critical_behind_seconds"),
}
"""Every kind of alarm and the limits its part of the policy names."""


@dataclass(frozen=True)
class LaggingSlot:
    """A replication slot of a source database: what the source keeps because we have not taken it."""

    name: str
    lag_bytes: int


@dataclass(frozen=True)
class LaggingTopics:
    """The topics of a Kafka door: messages that the brokers keep and we have not acknowledged, in all partitions."""

    name: str
    lag_messages: int


@dataclass(frozen=True)
class LaggingStandby:
    """How far a standby is behind; `behind_seconds`: age of the oldest event it lacks, 0 where it lacks none."""

    name: str
    behind_events: int
    behind_seconds: float


@dataclass(frozen=True)
class StorageFacts:
    """What was measured at one instant. What could not be measured is left out, and raises nothing."""

    free_bytes: int | None = None
    new_letters: Mapping[str, int] = field(default_factory=dict)
    """Open dead letters by feed, first seen within the policy's window."""
    slots: tuple[LaggingSlot, ...] = ()
    topics: tuple[LaggingTopics, ...] = ()
    standbys: tuple[LaggingStandby, ...] = ()
    damage: tuple[str, ...] = ()
    """Of the doctor's last visit: each finding in one line."""
    needs_person: int = 0
    """How many of them were not mended."""
    visit: str = ""
    """Names the doctor's visit."""


@dataclass(frozen=True)
class AlarmPolicy:
    """Owner, and per kind of alarm its runbook and limits."""

    owner: str
    runbooks: Mapping[str, str]
    limits: Mapping[str, Mapping[str, int]]

    def limit(self, kind: str, name: str) -> int:
        """One limit of one kind."""
        return self.limits[kind][name]


def read_alarm_policy(path: Path = ALARMS_FILE) -> AlarmPolicy:
    """The policy of a YAML file.

    Raises:
        ContractError: A kind, runbook or limit is missing, unknown or no whole number above zero.
    """
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(loaded, dict) or set(loaded) != {"owner", *ALARM_LIMITS} or not isinstance(loaded["owner"], str):
        raise ContractError(f"expected owner and {', '.join(ALARM_LIMITS)}", file=path.name)
    runbooks, limits = {}, {}
    for kind, names in ALARM_LIMITS.items():
        section: Any = loaded[kind]
        if not isinstance(section, dict) or set(section) != {"runbook", *names}:
            raise ContractError(f"expected runbook {' '.join(names)}", file=path.name, alarm=kind)
        for name in names:
            if type(section[name]) is not int or section[name] <= 0:
                raise ContractError("expected a whole number above 0", file=path.name, alarm=kind, field=name)
        runbooks[kind] = str(section["runbook"])
        limits[kind] = {name: section[name] for name in names}
    return AlarmPolicy(loaded["owner"], runbooks, limits)


def judge_storage(facts: StorageFacts, policy: AlarmPolicy, now: datetime) -> list[Alert]:
    """The alarms that these facts raise, in the order of the policy."""
    raised = [
        *_dead_letters(facts, policy),
        *_slots(facts, policy),
        *_topics(facts, policy),
        *_disk(facts, policy),
        *_damage(facts),
        *_standbys(facts, policy),
    ]
    return [
        Alert(
            id=alert_id(kind, about, severity, now.date().isoformat()),
            subject=subject,
            owner=policy.owner,
            runbook=policy.runbooks[kind],
            severity=severity,
            message=message,
            affected=(about,),
            raised_at=now,
        )
        for kind, about, severity, subject, message in raised
    ]


_Raised = tuple[str, str, Severity, str, str]


def _dead_letters(facts: StorageFacts, policy: AlarmPolicy) -> Iterator[_Raised]:
    hours = policy.limit("dead_letters", "window_hours")
    for feed, count in sorted(facts.new_letters.items()):
        if count > policy.limit("dead_letters", "max_new_per_feed"):
            subject = f"{feed}: {count:,} dead letters in {hours} h"
            yield (
                "dead_letters",
                feed,
                "warning",
                subject,
                "Its good rows flow on; the refused ones wait to be redriven.",
            )


def _slots(facts: StorageFacts, policy: AlarmPolicy) -> Iterator[_Raised]:
    for slot in facts.slots:
        severity = _above(
            slot.lag_bytes, policy.limit("slot_lag", "warn_bytes"), policy.limit("slot_lag", "critical_bytes")
        )
        if severity:
            subject = f"slot {slot.name} is {_megabytes(slot.lag_bytes)} behind"
            yield "slot_lag", slot.name, severity, subject, "The source database keeps all of it on its own disk."


def _topics(facts: StorageFacts, policy: AlarmPolicy) -> Iterator[_Raised]:
    warn, critical = (policy.limit("kafka_lag", f"{level}_messages") for level in ("warn", "critical"))
    for door in facts.topics:
        if severity := _above(door.lag_messages, warn, critical):
            subject = f"Kafka door {door.name} is {door.lag_messages:,} messages behind"
            message = "What the topic's retention removes before it is read is gone."
            yield "kafka_lag", door.name, severity, subject, message


def _disk(facts: StorageFacts, policy: AlarmPolicy) -> Iterator[_Raised]:
    if facts.free_bytes is None:
        return
    critical = policy.limit("disk", "critical_free_bytes")
    if facts.free_bytes < policy.limit("disk", "warn_free_bytes"):
        severity: Severity = "critical" if facts.free_bytes < critical else "warning"
        subject = f"{_megabytes(facts.free_bytes)} left on the disk of the event log"
        yield "disk", "root", severity, subject, "When it is full the doors refuse; what was acknowledged stays."


def _damage(facts: StorageFacts) -> Iterator[_Raised]:
    if facts.damage:
        severity: Severity = "critical" if facts.needs_person else "warning"
        subject = f"the doctor found damage: {len(facts.damage)} findings, {facts.needs_person} not mended"
        yield "damage", facts.visit, severity, subject, "\n".join(facts.damage)[:1000]


def _standbys(facts: StorageFacts, policy: AlarmPolicy) -> Iterator[_Raised]:
    warn, critical = (policy.limit("standby", f"{level}_behind_seconds") for level in ("warn", "critical"))
    for standby in facts.standbys:
        severity = _above(standby.behind_seconds, warn, critical)
        if severity:
            subject = f"standby {standby.name} lacks {standby.behind_events:,} entries"
            message = (
                f"The oldest of them is {standby.behind_seconds / 60:,.0f} minutes old; a loss of this root loses them."
            )
            yield "standby", standby.name, severity, subject, message


def _above(value: float, warn: int, critical: int) -> Severity | None:
    return "critical" if value > critical else "warning" if value > warn else None


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:,.0f} MiB"
