"""A model of the log: what a client offered and was told, against journal, settling, bronze and silver, with crashes.

A crash is an error at a failpoint in the middle of an operation, after which every object is dropped and the root is
opened anew: what a killed process leaves behind, without a process.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import polars as pl
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.reader import read_contracts
from replenish.history.bronze import append_bronze
from replenish.history.silver import silver_table, update_silver
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import OfferedEvent
from replenish.ingest.settle import settle_events
from replenish.stores import failpoints
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal import Journal
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout
from tests.faults.invariants import lake_breaches, log_breaches
from tests.faults.oracle import Ack
from tests.faults.world import FEED, NOW, SOURCE, STREAM, lay_out

CONTRACTS = read_contracts()
EVENT_POINTS = ("journal.before_begin", "journal.rows_written", "journal.before_commit", "journal.after_commit")
SETTLE_POINTS = (*EVENT_POINTS, "parts.written", "parts.synced", "settle.judged", "settle.appended")
LAKE_POINTS = ("lake.before_write", "lake.written", "lake.data_synced", "lake.log_synced", "lake.done")


class LogMachine(RuleBasedStateMachine):
    """Offers, settles, updates and crashes in any order; the model is a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="replenish-model-"))
        self.told: list[Ack] = []
        self.sent: dict[str, set[int]] = {}
        """Fact to all units that were ever said of it: a crash leaves open which of two bodies of an id came first."""
        self.is_open = False

    @initialize()
    def begin(self) -> None:
        lay_out(self.folder / "root")
        self.layout = RootLayout(self.folder / "root")
        self.dataset = read_dataset(self.layout.dataset_file)
        self.open()

    def open(self) -> None:
        self.journal, self.lake = Journal(self.layout.journal), DeltaLake(self.layout.lake)
        self.is_open = True

    def teardown(self) -> None:
        failpoints._ARMED = None
        if self.is_open:
            self.journal.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @rule(
        facts=st.lists(st.tuples(st.integers(0, 7), st.integers(-1, 4), st.integers(0, 3)), min_size=1, max_size=6),
        point=st.none() | st.sampled_from(EVENT_POINTS),
    )
    def offer(self, facts: list[tuple[int, int, int]], point: str | None) -> None:
        """Events of few facts and ids, so that repeats, corrections and conflicts are common; units -1 is refused."""
        events = [_event(fact, units, hour) for fact, units, hour in facts]
        for event in events:
            body = json.loads(event.body)
            self.sent.setdefault(body["sale_id"], set()).add(body["units"])

        def run() -> None:
            group = GroupCommit(self.journal, lambda: NOW)
            try:
                verdicts = EventDoor(self.dataset, CONTRACTS, group, lambda: NOW).offer(events)
            finally:
                group.close()
            for event, verdict in zip(events, verdicts, strict=True):
                self.told.append(Ack("events", SOURCE, event.id, verdict.outcome, verdict.seq))

        self.perhaps_crashing(run, point)

    @rule(point=st.none() | st.sampled_from(SETTLE_POINTS))
    def settle(self, point: str | None) -> None:
        self.perhaps_crashing(
            lambda: settle_events(self.dataset, CONTRACTS, self.journal, self.layout, now=NOW, max_events=5), point
        )

    @rule(point=st.none() | st.sampled_from(LAKE_POINTS))
    def update_lake(self, point: str | None) -> None:
        def run() -> None:
            append_bronze(STREAM, CONTRACTS[STREAM], self.journal, self.layout, self.lake)
            update_silver(CONTRACTS[STREAM], self.dataset, self.lake)

        self.perhaps_crashing(run, point)

    @rule()
    def finish(self) -> None:
        """Everything caught up: silver holds one net value per fact, that of an accepted event of the fact."""
        self.settle(None)
        self.update_lake(None)
        silver = self.lake.read(silver_table(STREAM))
        sign = pl.col("posting_sign")
        net = silver.group_by("sale_id").agg((pl.col("units") * sign).sum(), sign.sum())
        for sale, units, times in net.iter_rows():
            assert times == 1, f"{sale} stands {times} times in silver"
            assert units in self.sent[sale] - {-1}, f"{sale} has {units}, offered were {self.sent[sale]}"
        accepted = {ack.id.partition("-")[0] for ack in self.told if ack.outcome == "accepted"}
        assert {sale[1:2] for sale in silver["sale_id"]} >= {name[1:] for name in accepted}

    @invariant()
    def everything_told_is_kept(self) -> None:
        if self.is_open:
            assert not log_breaches(self.layout.root, self.told)
            assert not lake_breaches(self.layout.root)

    def perhaps_crashing(self, run, point: str | None) -> None:
        """Run it; with a point, die there, drop all objects and open anew."""
        failpoints._passed = 0
        failpoints._ARMED = None if point is None else failpoints._Armed(point, "raise", 1)
        try:
            run()
        except Exception:
            if point is None:
                raise
        finally:
            failpoints._ARMED = None
        if point is not None:
            self.journal.close()
            self.open()


def _event(fact: int, units: int, hour: int) -> OfferedEvent:
    """One of few: the id says fact and hour, so the same id may come with other units."""
    body = {
        "location_id": "S1",
        "sold_at": f"2025-03-01T1{fact}:00:00+00:00",
        "sale_id": f"R{fact}-1",
        "sku_id": "A1",
        "units": units,
        "knowledge_time": f"2025-03-02T0{hour}:00:00+00:00",
    }
    return OfferedEvent(SOURCE, f"f{fact}-{hour}", FEED, "upsert", json.dumps(body).encode())
