"""Alarms of the stores: when they are raised, once per incident, and that each has its runbook."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from replenish.contracts.reader import PLATFORM_FOLDER
from replenish.control.alarms import (
    ALARM_LIMITS,
    ALARMS_FILE,
    LaggingSlot,
    LaggingStandby,
    LaggingTopics,
    StorageFacts,
    judge_storage,
    read_alarm_policy,
)
from replenish.errors import ContractError

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)
POLICY = read_alarm_policy()
GIB = 2**30

RAISED = {
    "dead_letters": (StorageFacts(new_letters={"till": 101}), "warning"),
    "slot_lag": (StorageFacts(slots=(LaggingSlot("erp", GIB + 1),)), "critical"),
    "kafka_lag": (StorageFacts(topics=(LaggingTopics("till", 1_000_001),)), "warning"),
    "disk": (StorageFacts(free_bytes=GIB - 1), "critical"),
    "damage": (StorageFacts(damage=("bronze/sales: altered_file",), needs_person=0, visit="v1"), "warning"),
    "standby": (StorageFacts(standbys=(LaggingStandby("b", 10, 301.0),)), "warning"),
}


def test_every_kind_of_alarm_is_tried_here():
    assert set(RAISED) == set(ALARM_LIMITS)


@pytest.mark.parametrize("kind", RAISED)
def test_each_fact_beyond_its_limit_raises_its_alarm(kind):
    facts, severity = RAISED[kind]
    (alarm,) = judge_storage(facts, POLICY, NOW)
    assert (alarm.runbook, alarm.severity) == (POLICY.runbooks[kind], severity)


def test_at_the_limits_and_without_facts_nothing_is_raised():
    calm = StorageFacts(
        free_bytes=POLICY.limit("disk", "warn_free_bytes"),
        new_letters={"till": 100},
        slots=(LaggingSlot("erp", POLICY.limit("slot_lag", "warn_bytes")),),
        topics=(LaggingTopics("till", POLICY.limit("kafka_lag", "warn_messages")),),
        standbys=(LaggingStandby("b", 5, 300.0),),
    )
    assert judge_storage(calm, POLICY, NOW) == []
    assert judge_storage(StorageFacts(), POLICY, NOW) == []


def test_one_incident_is_one_alarm_a_day_and_one_more_when_it_gets_worse():
    low, lower = StorageFacts(free_bytes=5 * GIB), StorageFacts(free_bytes=GIB // 2)
    ids = [judge_storage(f, POLICY, t)[0].id for f, t in ((low, NOW), (low, NOW + timedelta(hours=1)), (lower, NOW))]
    assert ids[0] == ids[1] != ids[2]
    assert judge_storage(low, POLICY, NOW + timedelta(days=1))[0].id != ids[0]


@pytest.mark.parametrize("kind", ALARM_LIMITS)
def test_every_alarm_has_its_runbook(kind):
    path = PLATFORM_FOLDER.parent / POLICY.runbooks[kind]
    text = path.read_text(encoding="utf-8")
    parts = ("**What the alarm says", "**What goes on by itself", "**Look**", "**Mend**")
    assert all(part in text for part in parts), path.name
    assert "**Over" in text or "**Afterwards" in text, path.name


def test_a_limit_that_is_no_number_is_refused(tmp_path: Path):
    path = tmp_path / "alarms.yaml"
    path.write_text(ALARMS_FILE.read_text().replace("warn_bytes: 268435456", "warn_bytes: many"))
    with pytest.raises(ContractError, match="slot_lag"):
        read_alarm_policy(path)
