"""A deployment that follows one topic: a root on disk, an event door, a follower in this process or in its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.doors import KafkaSettings
from replenish.contracts.reader import PLATFORM_FOLDER, read_contracts
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.kafka.follower import KafkaFollower, consumer_settings
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal import Journal
from replenish.stores.layout import RootLayout

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
TOPIC = "sales"
MOST_STEPS = 200


def sale(nr: int, **changes: object) -> bytes:
    """A sound sales event, contract-shaped; `nr` makes it a fact of its own."""
    event = {
        "location_id": "S1",
        "sold_at": f"2026-01-01T{nr // 3600 % 24:02}:{nr // 60 % 60:02}:{nr % 60:02}Z",
        "sale_id": f"r{nr}",
        "sku_id": f"A{nr % 7}",
        "units": 1 + nr % 5,
        "knowledge_time": "2026-01-02T06:00:00Z",
    }
    return json.dumps(event | changes).encode()


class KafkaWorld:
    """One root whose door `till` follows the topic."""

    def __init__(self, root: Path, brokers: str, **door: object) -> None:
        self.layout = RootLayout(root)
        root.mkdir(parents=True, exist_ok=True)
        shutil.copy(PLATFORM_FOLDER / "feeds" / "retailer.yaml", self.layout.dataset_file)
        # A killed consumer is missed by its group after this time, and only then are its partitions given away.
        options = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "1000"}
        fields = {"name": "till", "brokers": brokers, "topics": [TOPIC], "feed": "events.sales", "options": options}
        fields |= door
        self.layout.doors_file.write_text(json.dumps({"kafka": [fields]}), encoding="utf-8")
        fields["topics"] = tuple(fields["topics"])  # type: ignore[arg-type]
        self.settings = KafkaSettings(**fields)  # type: ignore[arg-type]

    def follow_once(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """`replenish follow kafka till --once`, as its own process."""
        start = "from replenish.cli.entry import start; start()"
        command = [sys.executable, "-c", start, "follow", "kafka", "till", "--once"]
        env = os.environ | {"REPLENISH_ROOT": str(self.layout.root)} | environment
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)

    def counts(self) -> Counter[str]:
        """Journal records by last word of their type."""
        journal = Journal(self.layout.journal)
        counted = Counter(record.type.rsplit(".", 1)[1] for record in journal.records())
        journal.close()
        return counted

    def ids(self) -> list[str]:
        """Sale ids of the accepted events, in log order."""
        journal = Journal(self.layout.journal)
        found = [str(r.data["sale_id"]) for r in journal.records(type="replenish.event.upsert")]
        journal.close()
        return found


class RunningFollower:
    """A follower in this process, with its own writer on a journal that others may share."""

    def __init__(self, world: KafkaWorld, **options: str) -> None:
        self.journal = Journal(world.layout.journal)
        self.group = GroupCommit(self.journal, lambda: NOW)
        dataset = read_dataset(world.layout.dataset_file)
        door = EventDoor(dataset, read_contracts(), self.group, lambda: NOW)
        self.stopped = threading.Event()
        settings = consumer_settings(world.settings, {}) | {"log_level": 0} | options
        self.follower = KafkaFollower(world.settings, settings, door, self.group, self.stopped.wait)

    def until_caught_up(self) -> RunningFollower:
        """Step until every partition is read to its end."""
        for _ in range(MOST_STEPS):
            self.follower.step()
            if self.follower.is_caught_up():
                return self
        raise AssertionError("never caught up")

    def close(self) -> None:
        self.follower.close()
        self.group.close()
        self.journal.close()

    def __enter__(self) -> RunningFollower:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
