"""What the alarms are judged by, measured on a real root."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest

from replenish.cli.deployment import Deployment
from replenish.cli.doctor_visit import DoctorTools, pay_visit
from replenish.cli.storage_facts import STANDBYS_VARIABLE, gather_facts, storage_alarms, write_letter_gauge
from replenish.contracts.dataset import Dataset
from replenish.control.alarms import read_alarm_policy
from replenish.stores.journal_entry import FILE_ACCEPTED, DeadLetter, JournalRecord
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout
from replenish.stores.standby import ship

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)
POLICY = read_alarm_policy()


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    layout = RootLayout(tmp_path / "root")
    layout.root.mkdir()
    return Deployment(layout, Dataset("shop", "UTC", time(6), "demo", None, ()), {}, DeltaLake(layout.lake))


def append(deployment: Deployment, id: str, at: datetime, n_letters: int = 0) -> None:
    letters = [DeadLetter("till", "x.csv", nr, "not_a_number", "units", None, "{}") for nr in range(n_letters)]
    data = {"parts": []}
    deployment.journal.append(JournalRecord("till", id, FILE_ACCEPTED, "x.csv", at, "sales@1.0.0", data), letters)


def test_an_empty_root_raises_nothing_but_what_the_disk_says(deployment: Deployment) -> None:
    facts = gather_facts(deployment, POLICY, NOW)
    assert (facts.new_letters, facts.slots, facts.standbys, facts.damage) == ({}, (), (), ())
    assert facts.free_bytes is not None
    assert not deployment.layout.journal.exists()


def test_only_letters_of_the_window_count(deployment: Deployment) -> None:
    append(deployment, "old", NOW - timedelta(hours=25), 200)
    append(deployment, "new", NOW - timedelta(hours=1), 101)
    assert gather_facts(deployment, POLICY, NOW).new_letters == {"till": 101}


def test_a_standby_is_behind_by_what_it_lacks(deployment: Deployment, tmp_path: Path, monkeypatch) -> None:
    append(deployment, "a", NOW)
    standby = RootLayout(tmp_path / "standby")
    ship(deployment.layout, standby, now=NOW)
    append(deployment, "b", NOW)
    monkeypatch.setenv(STANDBYS_VARIABLE, str(standby.root))
    (state,) = gather_facts(deployment, POLICY, NOW + timedelta(minutes=10)).standbys
    assert (state.name, state.behind_events, state.behind_seconds) == ("standby", 1, 600.0)


def test_what_the_doctor_could_not_mend_is_critical(deployment: Deployment) -> None:
    append(deployment, "a", NOW)
    deployment.layout.journal.write_bytes(b"not a database" * 1000)
    tools = DoctorTools(lambda: None)
    assert pay_visit(deployment, tools, depth="full", is_repairing=False, now=NOW).exit_code == 2
    alarms = [a for a in storage_alarms(deployment, POLICY, NOW) if a.runbook == "docs/runbooks/damage.md"]
    assert [a.severity for a in alarms] == ["critical"]


def test_open_letters_are_a_gauge_for_a_node_exporter(deployment: Deployment) -> None:
    write_letter_gauge(deployment)
    assert not deployment.layout.metrics.exists()
    append(deployment, "new", NOW, 3)
    write_letter_gauge(deployment)
    text = (deployment.layout.metrics / "dead-letters.prom").read_text()
    assert 'replenish_dead_letters_open{feed="till",reason="not_a_number"} 3.0' in text
