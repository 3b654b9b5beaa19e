"""`replenish dead-letters`: list, show, redrive and discard, as a person types them."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from replenish.cli.deployment import open_deployment
from replenish.cli.main import app
from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.reader import PLATFORM_FOLDER, read_contracts
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import OfferedEvent
from replenish.ingest.settle import settle_events
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal import Journal
from replenish.stores.layout import RootLayout

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with two letters: a broken rule, and an id that was used before."""
    layout = RootLayout(tmp_path)
    shutil.copy(PLATFORM_FOLDER / "feeds" / "retailer.yaml", layout.dataset_file)
    journal = Journal(layout.journal)
    group = GroupCommit(journal, lambda: NOW)
    door = EventDoor(read_dataset(layout.dataset_file), read_contracts(), group, lambda: NOW)
    fields = {"location_id": "S1", "sold_at": "2026-01-01T12:00:00Z", "sale_id": "r1", "sku_id": "A", "units": 1}
    for event_id, units in (("1", -1), ("2", 1), ("2", 9)):
        body = json.dumps(fields | {"units": units}).encode()
        door.offer([OfferedEvent("pos", event_id, "events.sales", "upsert", body, offset="sales[0]@4")])
    group.close()
    journal.close()
    return tmp_path


def run(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["dead-letters", *arguments, "--root", str(root)])


def test_list_and_show(root: Path) -> None:
    assert "below_minimum" in run(root, "list").output
    letters = [json.loads(line) for line in run(root, "list", "--json").output.splitlines()]
    assert [letter["reason"] for letter in letters] == ["below_minimum", "id_conflict"]
    only = run(root, "list", "--reason", "id_conflict", "--json").output
    assert json.loads(only)["nr"] == 2
    shown = json.loads(run(root, "show", "1", "--headers").output)
    assert shown["source"] == "pos"
    assert shown["headers"]["__connect.errors.offset"] == "4"
    assert run(root, "show", "77").exit_code != 0


def test_redrive_leaves_open_what_is_still_wrong(root: Path) -> None:
    result = run(root, "redrive", "--feed", "events.sales")
    assert result.exit_code == 1
    assert "skipped" in result.output
    assert run(root, "redrive").exit_code != 0
    assert len(run(root, "list", "--json").output.splitlines()) == 2


def test_discard_needs_a_reason_and_keeps_the_letter(root: Path) -> None:
    assert run(root, "discard", "--nr", "1").exit_code == 2
    assert "discarded 1" in run(root, "discard", "--nr", "1", "--reason", "a test of the till").output
    assert [json.loads(line)["nr"] for line in run(root, "list", "--json").output.splitlines()] == [2]
    gone = json.loads(run(root, "list", "--status", "discarded", "--json").output)
    assert gone["raw"].endswith("}")


def test_status_counts_what_doors_refused_and_says_what_waits(root: Path) -> None:
    def status() -> str:
        return CliRunner().invoke(app, ["status", "--root", str(root)]).output

    said = status()
    assert "accepted events wait to be settled (events.sales)" in said
    assert "no tables yet" in said
    for reason in ("below_minimum", "id_conflict"):
        assert reason in said.split("Open dead letters")[1].split("Newest open dead letters")[0]
    deployment = open_deployment(root)
    settle_events(deployment.dataset, deployment.contracts, deployment.journal, deployment.layout, now=NOW)
    for nr in ("1", "2"):
        run(root, "discard", "--nr", nr, "--reason", "a test of the till")
    said = status()
    assert "wait" not in said
    assert "no open dead letters" in said
