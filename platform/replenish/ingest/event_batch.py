"""One batch of journalled events of a feed on its way to facts: reading, mapping, checking, judging."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path

import polars as pl

from replenish.contracts.validate import RowChecks, compile_row_checks
from replenish.contracts.version_rules import OlderVersion
from replenish.errors import BrokenPromise, EventFault, FileFault
from replenish.ingest.accepted_parts import PartIndex
from replenish.ingest.events.event_door import raw_text
from replenish.ingest.events.event_feeds import is_identity_feed
from replenish.ingest.events.event_frame import FaultyEvent, SourceEvent, source_frame
from replenish.ingest.gate import DEAD_SCHEMA, GatedChunk, gate_chunk
from replenish.ingest.intake import Intake
from replenish.ingest.judged_rows import JudgedRows, part_name_of
from replenish.ingest.mapping import FeedMapping
from replenish.ingest.readers import SourceChunk
from replenish.ingest.spool import WHOLE_STREAM, split_by_month
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EVENT_DELETE, DeadLetter, JournalRecord
from replenish.stores.journal_reader import EventBody, JournalReader

CHUNK_EVENTS = 20_000
"""Events read at a time: as Python objects they are several times as big as in a frame."""
MAX_FIELD_NAMES = 100
"""Unmapped field names counted by name; a source that makes up names would otherwise fill the record."""


@dataclass(frozen=True)
class _Reading:
    """One version's way from source fields to checked rows of the newest version."""

    version: str
    source: FeedMapping
    facts: FeedMapping
    checks: RowChecks


class EventBatch:
    """Events of one feed: `take_in` reads and checks them, `judged` judges the sound ones against all facts.

    Args:
        older: By `dataschema` the older versions that are live: their events are judged by their rules.
    """

    def __init__(self, mapping: FeedMapping, intake: Intake, older: Mapping[str, OlderVersion] | None = None) -> None:
        self.intake = intake
        self._mapping = mapping
        self._is_identity = is_identity_feed(mapping.feed, mapping.contract)
        self._newest = _Reading(mapping.contract.version, mapping, mapping, compile_row_checks(mapping.contract))
        self._older = {schema: self._reading(version) for schema, version in (older or {}).items()}
        self._unmapped: Counter[str] = Counter()

    def _reading(self, older: OlderVersion) -> _Reading:
        feed = self._mapping.feed
        if self._is_identity:
            names = older.shape.names
            feed = replace(feed, columns={name: rule for name, rule in feed.columns.items() if name in names})
        source, facts = (replace(self._mapping, feed=feed, contract=each) for each in (older.shape, older.facts))
        return _Reading(older.shape.version, source, facts, compile_row_checks(older.facts))

    def take_in(self, events: Sequence[EventBody]) -> None:
        """Map and check the events, each by its own version's rules where that is live, else by the newest."""
        contract = self._mapping.contract
        stream = iter(events)
        while chunk := list(islice(stream, CHUNK_EVENTS)):
            self.intake.offered += len(chunk)
            ids = {e.seq: e.id for e in chunk}
            for gated, version in self._by_version(chunk):
                self.intake.bury(gated.dead)
                own = pl.Series("delivery_id", [ids[nr] for nr in gated.sound["row_nr"].to_list()], dtype=pl.String())
                sound = gated.sound.with_columns(own, pl.lit(version).alias("contract_version"))
                for bucket, rows in split_by_month(sound) if contract.is_keyed_by_date else [(WHOLE_STREAM, sound)]:
                    self.intake.sound.add(bucket, rows)

    def judged(self, record: JournalRecord, index: PartIndex, accepted: Path, into: Path | None = None) -> JudgedRows:
        """The sound rows judged, the accepted ones written; conflicts and unknown retractions are dead rows."""
        name = part_name_of(f"events-{record.data['from_seq']}-{record.data['to_seq']}", record.subject)
        labels = {"feed_id": record.subject}
        rows = JudgedRows(self._mapping.contract, labels, name, accepted, into=into, sets_conflicts_aside=True)
        rows.judge(self.intake, index)
        return rows

    def unmapped_fields(self) -> dict[str, int]:
        """The most frequent fields that no rule reads, with the number of events that had them."""
        return dict(sorted(self._unmapped.most_common(MAX_FIELD_NAMES)))

    def _by_version(self, events: Sequence[EventBody]) -> Iterator[tuple[GatedChunk, str]]:
        groups: dict[str, list[SourceEvent]] = {}
        for event in events:
            schema = event.dataschema if event.dataschema in self._older else ""
            groups.setdefault(schema, []).append(_source_event(event))
        for schema, group in sorted(groups.items()):
            reading = self._older.get(schema, self._newest)
            for gated in self._gated(group, reading):
                yield gated, reading.version

    def _gated(self, events: Sequence[SourceEvent], reading: _Reading) -> Iterator[GatedChunk]:
        source = source_frame(events, reading.source, is_identity=self._is_identity)
        try:
            gated = gate_chunk(SourceChunk(source.frame, source.row_nrs), reading.facts, reading.checks)
        except FileFault as fault:
            # A fault that ends a file ends one event here; which one is found by asking each alone.
            if len(events) > 1:
                for event in events:
                    yield from self._gated([event], reading)
                return
            gated = GatedChunk(
                _no_rows(self._mapping), _dead([FaultyEvent(events[0].row_nr, _as_event_fault(fault))]), 1
            )
        self._unmapped.update(source.unmapped_fields)
        if source.faulty:
            dead = pl.concat([gated.dead, _dead(source.faulty)]).sort("row_nr")
            gated = GatedChunk(gated.sound, dead, gated.n_faulty + len(source.faulty))
        yield gated


def _source_event(event: EventBody) -> SourceEvent:
    if event.body is None:
        raise BrokenPromise("the body of an event that is not settled yet is gone from the journal", seq=event.seq)
    return SourceEvent(event.seq, event.body, event.type == EVENT_DELETE, datetime.fromisoformat(event.time))


def _as_event_fault(fault: FileFault) -> EventFault:
    return EventFault(fault.reason, str(fault))


def _dead(faulty: Sequence[FaultyEvent]) -> pl.DataFrame:
    rows = [(nr, fault.reason, fault.field, fault.rule, None) for nr, fault in faulty]
    return pl.DataFrame(rows, schema=DEAD_SCHEMA, orient="row")


def _no_rows(mapping: FeedMapping) -> pl.DataFrame:
    schema = {"row_nr": pl.Int64(), "event_time": mapping.contract.bronze_schema["event_time"]}
    return pl.DataFrame(schema=schema)


def settled_letters(rows: pl.DataFrame, record: JournalRecord, journal: JournalReader | Journal) -> list[DeadLetter]:
    """Letters of dead rows of a batch: `row_nr` is the event's place in the log, `file` its id, `raw` its body."""
    letters = []
    for seq, reason, field, rule in rows.select("row_nr", "reason", "field", "rule").iter_rows():
        event = next(journal.event_bodies(seq - 1, seq))
        raw = None if event.body is None else raw_text(event.body)
        letters.append(DeadLetter(record.subject, event.id, seq, reason, field, rule, raw))
    return letters
