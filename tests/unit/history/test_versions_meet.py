"""Two live versions of one contract in one stream: each read by its own rules, all stored as the newest."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path

import polars as pl
import pytest

from replenish.contracts.dataset import Dataset
from replenish.contracts.model import Column, Contract
from replenish.contracts.reader import read_contracts
from replenish.contracts.table_schema import pandera_schema
from replenish.contracts.version_rules import stored_contract
from replenish.history.bronze import append_bronze
from replenish.history.silver import update_silver
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import EventVerdict, OfferedEvent
from replenish.ingest.rederive import have_rules_changed, is_as_recorded, rederive_parts
from replenish.ingest.settle import settle_events
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal import Journal
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout

NOW = datetime(2026, 1, 5, tzinfo=UTC)
OLD = read_contracts()["sales"]
NEW = replace(OLD, version="1.1.0", columns=(*OLD.columns, Column("note", "string", "Words")))
VERSIONS = {"sales": {"1.0.0": OLD, "1.1.0": NEW}}
NARROW = replace(
    OLD,
    version="2.0.0",
    columns=(
        *(replace(c, minimum=5) if c.name == "units" else c for c in OLD.columns if c.name != "customer_id"),
        Column("note", "string", "Words", pattern="[a-z ]+"),
    ),
)
"""A major version: fewer units are no longer right, `customer_id` is gone, `note` is new."""
DATASET = Dataset("shop", "UTC", time(6), "demo", None, ())


class Stream:
    def __init__(self, root: Path) -> None:
        self.layout = RootLayout(root)
        self.journal, self.lake = Journal(self.layout.journal), DeltaLake(self.layout.lake)
        self.versions = VERSIONS

    def offer(self, contract: Contract, id: str, *, schema: str | None = None, **changes: object) -> EventVerdict:
        fields = {
            "location_id": "S1", "sold_at": "2026-01-01T12:00:00Z", "sale_id": id, "sku_id": "A1", "units": 2,
            "knowledge_time": "2026-01-02T00:00:00Z",
        }  # fmt: skip
        body = json.dumps(fields | changes).encode()
        delivery = f"{id}-{len(list(self.journal.records()))}"
        group = GroupCommit(self.journal, lambda: NOW)
        door = EventDoor(DATASET, {"sales": contract}, group, lambda: NOW, self.versions)
        verdict = door.offer([OfferedEvent("pos", delivery, "events.sales", "upsert", body, dataschema=schema)])[0]
        group.close()
        return verdict

    def silver(self, contract: Contract) -> list[tuple[object, ...]]:
        """(sale, units, note or its lack) of the facts that hold."""
        settle_events(DATASET, {"sales": contract}, self.journal, self.layout, now=NOW, versions=self.versions)
        append_bronze("sales", contract, self.journal, self.layout, self.lake)
        update_silver(contract, DATASET, self.lake)
        rows = self.lake.read("silver/sales")
        names = [n for n in ("sale_id", "units", "note") if n in rows.columns]
        held = rows.group_by(names).agg(pl.sum("posting_sign"))
        return sorted(row[:-1] for row in held.rows() if row[-1])


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    return Stream(tmp_path)


def test_facts_of_both_versions_are_one_table(stream: Stream) -> None:
    assert stream.offer(OLD, "r1").outcome == "accepted"
    assert stream.silver(OLD) == [("r1", 2)]
    assert stream.offer(NEW, "r2", schema="sales@1.0.0").outcome == "accepted"
    assert stream.offer(NEW, "r3", schema="https://schemas.example/sales@1.1.0", note="by phone").outcome == "accepted"
    # A correction of a fact whose part was written before the column existed.
    later = "2026-01-03T00:00:00Z"
    assert stream.offer(NEW, "r1", schema="sales@1.0.0", units=5, knowledge_time=later).outcome == "accepted"
    assert stream.silver(NEW) == [("r1", 5, None), ("r2", 2, None), ("r3", 2, "by phone")]
    assert {r.dataschema for r in stream.journal.records(type="replenish.event.upsert")} == {
        "sales@1.0.0",
        "sales@1.1.0",
    }


def test_a_version_that_is_not_live_is_refused(stream: Stream) -> None:
    verdict = stream.offer(NEW, "r1", schema="sales@0.9.0")
    assert (verdict.outcome, verdict.reason, verdict.field) == ("dead", "unsupported_version", "dataschema")


def test_what_was_accepted_under_an_older_version_is_settled_by_its_rules(stream: Stream) -> None:
    stream.versions = {"sales": {"1.0.0": OLD, "2.0.0": NARROW}}
    said = {"customer_id": "C1", "note": "NOT A WORD OF 1.0.0"}
    assert stream.offer(NARROW, "r1", schema="sales@1.0.0", units=2, **said).outcome == "accepted"
    assert stream.offer(NARROW, "r2", units=2).reason == "below_minimum"
    assert stream.offer(NARROW, "r3", units=7, note="by phone").outcome == "accepted"
    assert stream.silver(NARROW) == [("r1", 2, None), ("r3", 7, "by phone")]
    bronze = stream.lake.read("bronze/sales").sort("sale_id")
    assert bronze["contract_version"].to_list() == ["1.0.0", "2.0.0"]
    assert json.loads(bronze["unmapped"][0]) == said
    # The tables hold facts of both, so they are judged by what either let in.
    wide = stored_contract(NARROW, (OLD,))
    names = [name for name in stream.lake.schema("silver/sales") if name in pandera_schema(wide, "silver").columns]
    pandera_schema(wide, "silver").validate(stream.lake.read("silver/sales").select(names), lazy=True)


def test_parts_of_two_versions_are_made_again_as_they_were(stream: Stream, tmp_path: Path) -> None:
    stream.versions = {"sales": {"1.0.0": OLD, "2.0.0": NARROW}}
    stream.offer(NARROW, "r1", schema="sales@1.0.0", units=2)
    stream.offer(NARROW, "r3", units=7)
    stream.silver(NARROW)
    (record,) = stream.journal.records(type="replenish.events.settled")
    rules = (DATASET, {"sales": NARROW})
    again = rederive_parts(record, *rules, stream.journal, stream.layout, into=tmp_path / "x", versions=stream.versions)
    assert is_as_recorded(record, again) and sum(part.rows for part in again) == 2
    assert not have_rules_changed(record, *rules, stream.versions)
    assert have_rules_changed(record, *rules, {})


def test_events_of_a_version_that_was_retired_meanwhile_are_judged_by_the_newest(stream: Stream) -> None:
    stream.versions = {"sales": {"1.0.0": OLD, "2.0.0": NARROW}}
    stream.offer(NARROW, "r1", schema="sales@1.0.0", units=2)
    stream.versions = {}
    assert stream.silver(NARROW) == []
    assert [letter.reason for letter in stream.journal.dead_letters()] == ["below_minimum"]
