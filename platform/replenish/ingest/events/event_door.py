"""The door of single events: judged by the contract, journalled one record each, acknowledged once they are durable.

`judge` is pure and fast: contract-shaped events are checked by msgspec in C. Events of declared feeds are mapped and
judged as rows of a file are, a batch at a time. A fault never raises: the event becomes a dead letter, and its sender
learns why.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from replenish.contracts.dataset import Dataset, Feed
from replenish.contracts.event_struct import EventStruct, event_struct
from replenish.contracts.model import Contract
from replenish.errors import EventFault
from replenish.ingest.events.declared_events import DeclaredFeedJudge
from replenish.ingest.events.event_feeds import event_feeds, is_identity_feed
from replenish.ingest.events.offered_event import EventOperation, EventVerdict, OfferedEvent
from replenish.ingest.reasons import ID_CONFLICT, UNKNOWN_FEED
from replenish.ingest.strict_json import strict_object
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal_entry import (
    EVENT_DEAD,
    EVENT_DELETE,
    EVENT_UPSERT,
    DeadLetter,
    EventEntry,
    Receipt,
    RepeatedConflict,
)

UNKNOWN_SCHEMA = "unknown@0.0.0"
"""`dataschema` of an event whose feed nobody knows."""
_VERSION = re.compile(r"([a-z][a-z0-9_]*)@\d+\.\d+\.\d+$")
RAW_IS_BASE64 = "base64:"
"""Stands before the raw of a dead letter that is no text."""


@dataclass(frozen=True)
class _OpenFeed:
    """A feed that takes events: bound to its contract; `declared` is None for contract-shaped events."""

    feed: Feed
    dataschema: str
    upsert: EventStruct
    delete: EventStruct
    declared: DeclaredFeedJudge | None
    older: Mapping[str, tuple[EventStruct, EventStruct]]
    """By `<stream>@<version>` the structs (upsert, delete) of older versions that are live."""


class EventDoor:
    """Judges offered events and hands them to the journal; safe to use from several threads."""

    def __init__(
        self,
        dataset: Dataset,
        contracts: Mapping[str, Contract],
        group: GroupCommit,
        clock: Callable[[], datetime],
        versions: Mapping[str, Mapping[str, Contract]] | None = None,
    ) -> None:
        self._group = group
        self._clock = clock
        self.feeds: dict[str, Feed] = event_feeds(dataset, contracts)
        self._open: dict[str, _OpenFeed] = {}
        for feed_id, feed in self.feeds.items():
            contract = contracts[feed.stream]
            self._open[feed_id] = _OpenFeed(
                feed,
                f"{contract.stream}@{contract.version}",
                event_struct(contract),
                event_struct(contract, is_delete=True),
                None if is_identity_feed(feed, contract) else DeclaredFeedJudge(feed, contract, dataset),
                {
                    f"{older.stream}@{number}": (event_struct(older), event_struct(older, is_delete=True))
                    for number, older in (versions or {}).get(feed.stream, {}).items()
                    if number != contract.version
                },
            )

    def offer(self, events: Sequence[OfferedEvent]) -> list[EventVerdict]:
        """Judge the events and wait until all of them are durable; verdicts in their order.

        Raises:
            StoreFull: The disk is full; none of them was accepted, and all may be offered again.
            JournalOverloaded: Too many events are waiting already; likewise.
            WriterFailed: The journal can no longer be written; the process has to end.
        """
        entries = self.judge(events)
        receipts = self._group.submit(entries).result()
        return [_verdict(*each) for each in zip(events, entries, receipts, strict=True)]

    async def offer_async(self, events: Sequence[OfferedEvent]) -> list[EventVerdict]:
        """`offer` without blocking the event loop while the journal is written; raises what it raises."""
        entries = self.judge(events)
        receipts = await asyncio.wrap_future(self._group.submit(entries))
        return [_verdict(*each) for each in zip(events, entries, receipts, strict=True)]

    def judge(self, events: Sequence[OfferedEvent]) -> list[EventEntry]:
        """The events as entries of the journal, in their order; refused ones as `EVENT_DEAD` with their letter."""
        now = self._clock()
        open_feeds = self._open
        entries: list[EventEntry] = []
        waiting: dict[str, list[int]] = {}
        for event in events:
            known = open_feeds.get(event.feed_id)
            try:
                if known is None:
                    raise EventFault(UNKNOWN_FEED, f"no feed {event.feed_id!r} takes single events")
                value = strict_object(event.body)
                dataschema = known.dataschema
                if event.dataschema is not None and event.dataschema != dataschema:
                    dataschema, known = _by_version(known, event.dataschema)
                if known.declared is not None:
                    waiting.setdefault(event.feed_id, []).append(len(entries))
                elif event.op == "upsert":
                    known.upsert.read(value, now, event.body)
                else:
                    known.delete.read(value, now, event.body)
            except EventFault as fault:
                entries.append(self._dead_event(event, fault))
                continue
            kind = EVENT_UPSERT if event.op == "upsert" else EVENT_DELETE
            entries.append(
                EventEntry(event.source, event.id, kind, event.feed_id, dataschema, event.body, event.traceparent)
            )
        for feed_id, places in waiting.items():
            self._judge_declared(feed_id, places, events, entries, now)
        return entries

    def contract_shape(self, feed_id: str, op: EventOperation) -> tuple[str, EventStruct] | None:
        """`dataschema` and struct of a feed's contract-shaped events; None for a declared feed.

        For a door that reads plainly sound events in one pass with their envelopes; all others go through `judge`.
        """
        known = self._open[feed_id]
        if known.declared is not None:
            return None
        return known.dataschema, known.upsert if op == "upsert" else known.delete

    def dead(
        self,
        source: str,
        id: str,
        feed_id: str,
        raw: bytes,
        reason: str,
        field: str | None = None,
        rule: str | None = None,
        offset: str | None = None,
        *,
        op: str | None = None,
        traceparent: str | None = None,
        named: str | None = None,
    ) -> EventEntry:
        """The dead letter of a message that was refused, or could not even become an event.

        The same refusal twice is one: its id holds a digest of raw, contract version and reason. The version is the one
        that the message `named`, where it is live, else the newest.
        """
        known = self._open.get(feed_id)
        match = _VERSION.search(named or "")
        dataschema = UNKNOWN_SCHEMA if known is None else known.dataschema
        if known is not None and match is not None and match[0] in known.older:
            dataschema = match[0]
        digest = hashlib.sha256(b"\0".join((raw, dataschema.encode(), reason.encode()))).hexdigest()
        body = {"id": id, "op": op, "offset": offset, "raw_sha256": hashlib.sha256(raw).hexdigest()}
        letter = DeadLetter(feed_id, id, None, reason, field, rule, raw_text(raw))
        return EventEntry(
            source,
            f"{id}#{digest[:16]}",
            EVENT_DEAD,
            feed_id,
            dataschema,
            msgspec.json.encode(body),
            traceparent,
            letter,
        )

    def _dead_event(self, event: OfferedEvent, fault: EventFault) -> EventEntry:
        return self.dead(
            event.source, event.id, event.feed_id, event.body, fault.reason, fault.field, fault.rule, event.offset,
            op=event.op, traceparent=event.traceparent, named=event.dataschema,
        )  # fmt: skip

    def _judge_declared(
        self,
        feed_id: str,
        places: list[int],
        events: Sequence[OfferedEvent],
        entries: list[EventEntry],
        now: datetime,
    ) -> None:
        judge = self._open[feed_id].declared
        if judge is None:
            return
        faults = judge.faults([(events[place].body, events[place].op == "delete") for place in places], now)
        for nr, fault in faults.items():
            entries[places[nr]] = self._dead_event(events[places[nr]], fault)


def _by_version(known: _OpenFeed, named: str) -> tuple[str, _OpenFeed]:
    """The feed read by the version an event names; as it is where it names something else than a version of ours.

    Raises:
        EventFault: `unsupported_version`: a version of this contract that is not live.
    """
    match = _VERSION.search(named)
    if match is None or known.declared is not None or match[1] != known.feed.stream or match[0] == known.dataschema:
        return known.dataschema, known
    if match[0] not in known.older:
        live = ", ".join([*known.older, known.dataschema])
        raise EventFault("unsupported_version", f"live are {live}", field="dataschema")
    upsert, delete = known.older[match[0]]
    return match[0], replace(known, upsert=upsert, delete=delete)


def raw_text(raw: bytes) -> str:
    """Bytes as the text of a dead letter, without loss: as they are where they are UTF-8, else in base64."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return RAW_IS_BASE64 + base64.b64encode(raw).decode()
    return RAW_IS_BASE64 + base64.b64encode(raw).decode() if "\0" in text or text.startswith(RAW_IS_BASE64) else text


def raw_bytes(text: str) -> bytes:
    """The bytes that `raw_text` was given."""
    if text.startswith(RAW_IS_BASE64):
        return base64.b64decode(text.removeprefix(RAW_IS_BASE64))
    return text.encode()


def _verdict(event: OfferedEvent, entry: EventEntry, receipt: Receipt) -> EventVerdict:
    if receipt.outcome == "conflict" or isinstance(receipt, RepeatedConflict):
        rule = "this id was used by another event"
        return EventVerdict(event.id, receipt.outcome, receipt.seq, ID_CONFLICT, None, rule)
    letter = entry.letter
    if letter is None:
        return EventVerdict(event.id, receipt.outcome, receipt.seq)
    return EventVerdict(event.id, receipt.outcome, receipt.seq, letter.reason, letter.field, letter.rule)
