"""What a phase of a trial does, step by step, with the product's own functions; the client is part of the process.

A client notes its offer, calls the door, and notes the ack only after the call has returned. Asked again (after a
crash) it offers what was never acknowledged, and some of what was.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from replenish.contracts.dataset import Dataset
from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.model import Contract
from replenish.contracts.reader import read_contracts
from replenish.stores.journal import Journal
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout
from tests.faults.client import chunks, note_offers, note_verdicts, unanswered
from tests.faults.oracle import Oracle
from tests.faults.world import FEED, NOW, SOURCE, STREAM, World, make_world


@dataclass
class Phase:
    """One process of a trial: its root, its world and its client."""

    layout: RootLayout
    world: World
    oracle: Oracle
    clock_offset: timedelta

    @cached_property
    def journal(self) -> Journal:
        return Journal(self.layout.journal)

    @cached_property
    def contracts(self) -> dict[str, Contract]:
        return read_contracts()

    @cached_property
    def dataset(self) -> Dataset:
        return read_dataset(self.layout.dataset_file)

    @cached_property
    def lake(self) -> DeltaLake:
        return DeltaLake(self.layout.lake)

    def now(self) -> datetime:
        """The trial's clock: fixed, and jumping where the trial says so."""
        return NOW + self.clock_offset


def run_plan(plan: dict[str, Any]) -> None:
    """All steps of a plan, in order: each is `name` or `name:first-last` (waves)."""
    phase = Phase(
        RootLayout(Path(plan["root"])),
        make_world(plan["seed"], **plan.get("world", {})),
        Oracle(Path(plan["oracle"])),
        timedelta(seconds=plan.get("clock_offset", 0)),
    )
    for step in plan["steps"]:
        name, _, waves = step.partition(":")
        STEPS[name](phase, _waves(waves, len(phase.world.waves)))


def _waves(text: str, n_waves: int) -> range:
    if not text:
        return range(n_waves)
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def offer_files(phase: Phase, waves: range) -> None:
    """The source writes the files of a wave into the drop folder, `replenish ingest` takes them."""
    from replenish.ingest.door import ingest_folder

    files = phase.world.files()
    for wave in waves:
        for name, content in files[wave]:
            target = phase.layout.drop / name
            if not target.exists() or target.read_bytes() != content:
                draft = target.with_name(f".{name}")
                draft.write_bytes(content)
                draft.replace(target)
        report = ingest_folder(
            phase.layout.drop, phase.dataset, phase.contracts, phase.journal, phase.layout, now=phase.now()
        )
        phase.oracle.note_all(
            [
                {
                    "kind": "ack",
                    "door": "file",
                    "source": verdict.feed_id,
                    "id": hashlib.sha256((phase.layout.drop / verdict.file).read_bytes()).hexdigest(),
                    "outcome": verdict.status,
                    "seq": verdict.seq,
                    "counts": {name: getattr(verdict, name) for name in ("offered", "accepted", "dead", "duplicate")},
                }
                for verdict in report.files
            ]
        )


def update_lake(phase: Phase, waves: range) -> None:
    """Bronze and silver up to the log's end."""
    from replenish.history.bronze import append_bronze
    from replenish.history.silver import update_silver

    contract = phase.contracts[STREAM]
    append_bronze(STREAM, contract, phase.journal, phase.layout, phase.lake)
    update_silver(contract, phase.dataset, phase.lake)
    phase.oracle.note("mark", what="lake")


def offer_events(phase: Phase, waves: range) -> None:
    """A source offers the events of a wave, some at a time, through the door that all push doors share."""
    from replenish.ingest.events.event_door import EventDoor
    from replenish.ingest.events.offered_event import OfferedEvent
    from replenish.stores.group_commit import GroupCommit

    group = GroupCommit(phase.journal, phase.now)
    door = EventDoor(phase.dataset, phase.contracts, group, phase.now)
    for chunk in chunks(unanswered(phase.world, phase.oracle, waves)):
        note_offers(phase.oracle, chunk)
        offered = [
            OfferedEvent(SOURCE, d.id, FEED, "upsert" if d.op == "I" else "delete", json.dumps(d.body()).encode())
            for d in chunk
        ]
        verdicts = [(verdict.outcome, verdict.seq) for verdict in door.offer(offered)]
        note_verdicts(phase.oracle, "events", chunk, verdicts)
    group.close()


def settle_log(phase: Phase, waves: range) -> None:
    """Event records into facts, as `replenish ingest` and `replenish run` do before bronze."""
    from importlib.util import find_spec
    if find_spec("replenish.ingest.events.settle") is None:
        return
    from replenish.ingest.events.settle import settle_events

    settle_events(phase.dataset, phase.contracts, phase.journal, phase.layout, now=phase.now())


def serve(phase: Phase, waves: range) -> None:
    """`replenish serve` on a free port; ends with its exit code."""
    import typer

    from replenish.cli.serve import serve_http

    try:
        serve_http(port=0, host=None)
    except typer.Exit as ended:
        sys.exit(ended.exit_code)


STEPS: dict[str, Callable[[Phase, range], None]] = {
    "files": offer_files,
    "lake": update_lake,
    "events": offer_events,
    "settle": settle_log,
    "serve": serve,
}
