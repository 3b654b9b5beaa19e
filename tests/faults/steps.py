"""What a phase of a trial does, step by step, with the product's own functions; the client is part of the process.

A client notes its offer, calls the door, and notes the ack only after the call has returned. Asked again (after a
crash) it offers what was never acknowledged, and some of what was.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
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
from tests.faults.oracle import Oracle, read_notes
from tests.faults.world import FEED, NOW, SOURCE, STREAM, World, as_csv, make_world


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
        contracts = read_contracts()
        if "TRIAL_MENDED" in os.environ:
            contracts[STREAM] = mended(contracts[STREAM])
        return contracts

    @cached_property
    def dataset(self) -> Dataset:
        return read_dataset(self.layout.dataset_file)

    @cached_property
    def lake(self) -> DeltaLake:
        return DeltaLake(self.layout.lake)

    def now(self) -> datetime:
        """The trial's clock: fixed, and jumping where the trial says so."""
        return NOW + self.clock_offset


def mended(contract: Contract) -> Contract:
    """The contract after somebody found that units may be negative: what was refused for that is taken now."""
    columns = tuple(replace(column, minimum=None) if column.name == "units" else column for column in contract.columns)
    return replace(contract, columns=columns)


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

    phase.layout.drop.mkdir(exist_ok=True)
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


def run_stages(phase: Phase, waves: range) -> None:
    """All stages from the drop folder to features, in one process: events, silver, gold by dbt, demand features."""
    from replenish.cli.deployment import open_deployment
    from replenish.cli.stages import run_to_features

    run_to_features(open_deployment(phase.layout.root), now=phase.now())
    phase.oracle.note("mark", what="features")


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
    from replenish.ingest.settle import settle_events

    settle_events(phase.dataset, phase.contracts, phase.journal, phase.layout, now=phase.now())


def serve(phase: Phase, waves: range) -> None:
    """`replenish serve` on a free port; ends with its exit code."""
    import typer

    from replenish.cli.serve import serve_http

    try:
        serve_http(port=0, host=None)
    except typer.Exit as ended:
        sys.exit(ended.exit_code)


def seal_log(phase: Phase, waves: range) -> None:
    """Small segments of all there is, and the bodies of what is sealed and settled out of the journal."""
    from replenish.stores.segments import seal
    from replenish.stores.trim import trim

    seal(phase.journal, phase.layout, min_records=5, max_records=20)
    trim(phase.journal, phase.layout, now=phase.now() + timedelta(days=1), keep_days=0)


def maintain(phase: Phase, waves: range) -> None:
    """Maintenance as often as can be: compaction, a checkpoint, vacuum, the end of old log entries."""
    from replenish.stores.lake_log import write_checkpoint
    from replenish.stores.lake_maintenance import compact, expire_log, vacuum

    for table in phase.lake.table_names():
        compact(phase.lake, table, every=1)
        write_checkpoint(phase.lake.path(table))
        vacuum(phase.lake, table)
        expire_log(phase.lake, table, now=phase.now())


def damage(phase: Phase, waves: range) -> None:
    """Tear the newest commit of bronze, as a disk might, and cut an archived part of nobody's."""
    entries = sorted((phase.layout.lake / "bronze" / STREAM / "_delta_log").glob("*.json"))
    newest = entries[-1].read_bytes()
    entries[-1].write_bytes(newest[: len(newest) // 2])


def visit_doctor(phase: Phase, waves: range) -> None:
    """`replenish doctor` in the depth of a start."""
    from replenish.cli.deployment import open_deployment
    from replenish.cli.doctor import examine_deployment

    report = examine_deployment(open_deployment(phase.layout.root), depth="full", is_repairing=True)
    if report.needs_person:
        raise AssertionError(f"the doctor needs a person: {report.as_json()}")


def rebuild(phase: Phase, waves: range) -> None:
    """`replenish rebuild`: all tables anew from the log."""
    from replenish.cli.deployment import open_deployment
    from replenish.cli.rebuild import rebuild_root

    report = rebuild_root(open_deployment(phase.layout.root), is_from_raw=False, progress=print)
    if report.differs:
        raise AssertionError(f"rebuilt tables differ: {report.differs}")


def standby_of(layout: RootLayout) -> RootLayout:
    """The second region, for a trial a folder below the first."""
    return RootLayout(layout.root / "elsewhere")


def ship_log(phase: Phase, waves: range) -> None:
    """Ship what the standby lacks; a promoted one takes nothing more."""
    from replenish.errors import Fenced
    from replenish.stores.standby import ship

    with suppress(Fenced):
        ship(phase.layout, standby_of(phase.layout), now=phase.now(), max_records=7)


def promote_standby(phase: Phase, waves: range) -> None:
    """The standby takes over; afterwards the old primary must refuse."""
    from replenish.errors import Fenced
    from replenish.ingest.door import ingest_folder
    from replenish.stores.standby import promote

    promote(standby_of(phase.layout), phase.layout, now=phase.now())
    (phase.layout.drop / "sales-99.csv").write_bytes(as_csv(phase.world.waves[0][:1]))
    try:
        ingest_folder(phase.layout.drop, phase.dataset, phase.contracts, phase.journal, phase.layout, now=phase.now())
    except Fenced:
        return
    raise AssertionError("the old primary still takes files after the promotion")


def follow_postgres_once(phase: Phase, waves: range) -> None:
    """`replenish follow postgres erp --once`."""
    from replenish.cli.follow import follow_postgres

    follow_postgres("erp", once=True)


def follow_kafka_once(phase: Phase, waves: range) -> None:
    """`replenish follow kafka till --once`."""
    from replenish.cli.follow_kafka import follow_kafka

    follow_kafka("till", once=True, root=phase.layout.root)


def redrive_letters(phase: Phase, waves: range) -> None:
    """`replenish dead-letters redrive` of every open letter, under the mended contract."""
    from replenish.ingest.dead_letters import Redrive
    from replenish.stores.group_commit import GroupCommit

    group = GroupCommit(phase.journal, phase.now)
    redrive = Redrive(phase.dataset, phase.contracts, phase.journal, phase.layout, group, phase.now())
    redrive.redrive(phase.journal.dead_letters(status="open"))
    group.close()


def change_source(phase: Phase, waves: range) -> None:
    """The source's own transactions, those that it did not make yet."""
    from tests.faults.sources import change_table

    made = {line["nr"] for line in read_notes(phase.oracle.path, "sql")}
    for wave in waves:
        for delivery in phase.world.waves[wave]:
            if delivery.nr not in made and not delivery.only_event:
                change_table(os.environ["TRIAL_DSN"], [delivery])
                phase.oracle.note("sql", nr=delivery.nr)


STEPS: dict[str, Callable[[Phase, range], None]] = {
    "files": offer_files,
    "lake": update_lake,
    "run": run_stages,
    "events": offer_events,
    "settle": settle_log,
    "serve": serve,
    "seal": seal_log,
    "maintain": maintain,
    "damage": damage,
    "doctor": visit_doctor,
    "rebuild": rebuild,
    "ship": ship_log,
    "promote": promote_standby,
    "postgres": follow_postgres_once,
    "kafka": follow_kafka_once,
    "sql": change_source,
    "redrive": redrive_letters,
}
