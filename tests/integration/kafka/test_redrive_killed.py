"""R9 under fire: a redrive that is killed anywhere is finished by the next one, and every letter enters once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kafka_world import NOW, KafkaWorld, sale

from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.reader import read_contracts
from replenish.ingest.events.event_door import EventDoor
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EVENT_DEAD

N = 30


@pytest.mark.slow
@pytest.mark.parametrize("place", ["redrive.judged", "redrive.appended", "journal.before_commit"])
def test_a_killed_redrive_is_finished_by_the_next(tmp_path: Path, place: str) -> None:
    world = KafkaWorld(tmp_path / "root", "127.0.0.1:1")
    journal = Journal(world.layout.journal)
    group = GroupCommit(journal, lambda: NOW)
    door = EventDoor(read_dataset(world.layout.dataset_file), read_contracts(), group, lambda: NOW)
    # Refused under a rule that no longer holds: what they say is sound today.
    raws = [sale(nr) for nr in range(N)]
    group.submit([
        door.dead("pos", f"d{nr}", "events.sales", raw, "below_minimum", "units", "units >= 99", op="upsert")
        for nr, raw in enumerate(raws)
    ]).result()  # fmt: skip
    group.close()
    journal.close()
    command = [sys.executable, "-c", "from replenish.cli.entry import start; start()"]
    command += ["dead-letters", "redrive", "--feed", "events.sales"]
    env = os.environ | {"REPLENISH_ROOT": str(world.layout.root)}
    killed = subprocess.run(command, env=env | {"REPLENISH_FAILPOINT": f"{place}:kill:1"}, check=False, timeout=120)
    assert killed.returncode == -9
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    again = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert again.returncode == 0, again.stderr
    journal = Journal(world.layout.journal)
    assert sorted(world.ids()) == sorted(json.loads(raw)["sale_id"] for raw in raws)
    assert {letter.status for letter in journal.dead_letters()} == {"redriven"}
    assert len(list(journal.records(type=EVENT_DEAD))) == N
    journal.verify_chain()
    journal.close()
