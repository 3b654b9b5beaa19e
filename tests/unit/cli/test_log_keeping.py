"""The shells that keep the log: sealing, trimming and shipping as Dagster runs them."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from assets import log_keeping
from assets.log_keeping import build_log_keeping, build_shipping
from replenish.cli.deployment import now_utc
from replenish.cli.storage_facts import STANDBYS_VARIABLE
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EVENT_UPSERT, EVENTS_SETTLED, EventEntry, JournalRecord
from replenish.stores.journal_reader import JournalReader
from replenish.stores.layout import RootLayout
from replenish.stores.locks import hold
from replenish.stores.segments import seal, sealed_segments
from resources.clock import ClockResource
from resources.deployment import DeploymentResource
from resources.journal import JournalResource

N_EVENTS = 12


@pytest.fixture
def layout(tmp_path: Path) -> RootLayout:
    layout = RootLayout(tmp_path / "root")
    journal = Journal(layout.journal)
    long_ago = now_utc() - timedelta(days=40)
    entries = [
        EventEntry("pos", str(nr), EVENT_UPSERT, "events.sales", "sales@1.0.0", b'{"units":1}')
        for nr in range(N_EVENTS)
    ]
    journal.append_events(entries, now=long_ago)
    data = {"feed": "events.sales", "from_seq": 1, "to_seq": N_EVENTS, "through_seq": N_EVENTS, "parts": []}
    journal.append(JournalRecord("settle", "1", EVENTS_SETTLED, "events.sales", long_ago, "sales@1.0.0", data))
    journal.close()
    return layout


def resources(layout: RootLayout) -> dict[str, object]:
    root = str(layout.root)
    return {
        "deployment": DeploymentResource(root=root, environment="test"),
        "journal": JournalResource(root=root),
        "clock": ClockResource(),
    }


def test_the_assets_seal_the_log_and_then_trim_it(layout: RootLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_keeping, "seal", partial(seal, min_records=1))
    done = dg.materialize(build_log_keeping(), resources=resources(layout))
    (sealed,) = done.asset_materializations_for_node("seal_log")
    (trimmed,) = done.asset_materializations_for_node("trim_log")
    assert (sealed.metadata["dagster/row_count"].value, sealed.metadata["records_not_sealed_yet"].value) == (13, 0)
    assert trimmed.metadata["trimmed_bodies"].value == N_EVENTS
    assert [s.n for s in sealed_segments(layout.segments)] == [N_EVENTS + 1]


def test_a_log_that_somebody_else_seals_fails_no_run(layout: RootLayout) -> None:
    with hold(layout.locks / "seal.lock", "seal the log"):
        assert dg.materialize(build_log_keeping(), resources=resources(layout)).success
    assert sealed_segments(layout.segments) == []


def test_every_standby_that_is_named_gets_the_log(
    layout: RootLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, foreign = RootLayout(tmp_path / "standby"), RootLayout(tmp_path / "foreign")
    Journal(foreign.journal).append_events([EventEntry("a", "1", EVENT_UPSERT, "f", "s@1.0.0", b"{}")], now=now_utc())
    monkeypatch.setenv(STANDBYS_VARIABLE, f"{foreign.root}:{good.root}")
    skipped = build_shipping()(dg.build_sensor_context(resources=resources(layout)))
    assert isinstance(skipped, dg.SkipReason) and "standby: up to record 13" in str(skipped.skip_message)
    assert "foreign: this root is no standby" in str(skipped.skip_message)
    assert JournalReader(good.journal).last_seq() == 13


def test_without_a_standby_nothing_is_shipped(layout: RootLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STANDBYS_VARIABLE, raising=False)
    skipped = build_shipping()(dg.build_sensor_context(resources=resources(layout)))
    assert "names no standby" in str(skipped.skip_message)
