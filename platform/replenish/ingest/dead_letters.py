"""Dead letters get another chance: what was refused is judged again under today's contract and feed.

A letter is offered again under an id that depends on nothing but the letter, so trying twice enters once. What is taken
is a new receipt: where knowledge comes from arrival, the fact is known from now on and not from the day it was refused,
since nobody could have used it before. Letters are closed by a record of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, cast

from replenish.contracts.dataset import Dataset
from replenish.contracts.model import Contract
from replenish.digests import json_digest
from replenish.errors import OutOfRange
from replenish.ingest.door import ingest_file
from replenish.ingest.events.event_door import EventDoor, raw_bytes
from replenish.ingest.events.event_feeds import IDENTITY_PREFIX, with_all_feeds_open
from replenish.ingest.events.offered_event import EventOperation, OfferedEvent
from replenish.ingest.reasons import ID_CONFLICT, KEY_CONFLICT, RETRACTION_OF_UNKNOWN
from replenish.stores.failpoints import failpoint
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import (
    EVENT_DEAD,
    EVENT_DELETE,
    EVENTS_SETTLED,
    FILE_ACCEPTED,
    FILE_DEAD,
    LETTER_DISCARDED,
    LETTER_REDRIVEN,
    DeadLetter,
    EventEntry,
    JournalRecord,
)
from replenish.stores.layout import RootLayout
from replenish.stores.segments import log_records

LETTERS_SOURCE = "replenish.dead-letters"
LETTERS_PER_BATCH = 1000

RedriveResult = Literal["accepted", "duplicate", "dead", "skipped"]


@dataclass(frozen=True)
class RedriveOutcome:
    """What became of one letter: closed as `accepted` or `duplicate` (it is in the log already), else still open."""

    nr: int
    result: RedriveResult
    why: str = ""

    @property
    def is_closed(self) -> bool:
        """Whether the letter is done with."""
        return self.result in ("accepted", "duplicate")


class _NotOfferable(Exception):
    """Why a letter cannot be offered again, in words."""


class Redrive:
    """Offers letters of one root again; hold `locks/ingest.lock` around whole files.

    Args:
        group: Writes to `journal`.
        now: Arrival of what is taken, with an offset.
    """

    def __init__(
        self,
        dataset: Dataset,
        contracts: Mapping[str, Contract],
        journal: Journal,
        layout: RootLayout,
        group: GroupCommit,
        now: datetime,
    ) -> None:
        self._dataset, self._contracts = dataset, contracts
        self._journal, self._layout, self._group, self._now = journal, layout, group, now
        # A row of a file comes as an event of the file's feed.
        self._door = EventDoor(with_all_feeds_open(dataset), contracts, group, lambda: now)
        self._records: dict[int, JournalRecord] = {}

    def redrive(self, letters: Sequence[DeadLetter]) -> list[RedriveOutcome]:
        """Offer open letters again, oldest first; those that are taken are closed.

        Raises:
            StoreFull, JournalOverloaded, WriterFailed: As for a door; what was closed before stays closed.
        """
        open_ = [letter for letter in letters if letter.status == "open"]
        self._read_trimmed(open_)
        whole = [letter for letter in open_ if self._record(letter).type == FILE_DEAD]
        outcomes = [outcome for letter in _one_per_file(whole) for outcome in self._offer_file(letter, whole)]
        single = [letter for letter in open_ if letter not in whole]
        for first in range(0, len(single), LETTERS_PER_BATCH):
            outcomes += self._offer_events(single[first : first + LETTERS_PER_BATCH])
        return sorted(outcomes, key=lambda outcome: outcome.nr)

    def _offer_events(self, letters: Sequence[DeadLetter]) -> list[RedriveOutcome]:
        outcomes: list[RedriveOutcome] = []
        offered: list[tuple[DeadLetter, OfferedEvent]] = []
        for letter in letters:
            try:
                offered.append((letter, self._event_of(letter)))
            except _NotOfferable as refusal:
                outcomes.append(RedriveOutcome(_nr(letter), "skipped", str(refusal)))
        entries = self._door.judge([event for _, event in offered])
        sound: list[tuple[DeadLetter, EventEntry]] = []
        for (letter, _), entry in zip(offered, entries, strict=True):
            if entry.type == EVENT_DEAD and entry.letter is not None:
                why = f"{entry.letter.reason}: {entry.letter.rule}"
                outcomes.append(RedriveOutcome(_nr(letter), "dead", why))
            else:
                sound.append((letter, entry))
        return outcomes + self._append(sound)

    def _append(self, sound: Sequence[tuple[DeadLetter, EventEntry]]) -> list[RedriveOutcome]:
        if not sound:
            return []
        failpoint("redrive.judged")
        receipts = self._group.submit([entry for _, entry in sound]).result()
        failpoint("redrive.appended")
        outcomes = [
            RedriveOutcome(_nr(letter), cast(RedriveResult, receipt.outcome))
            if receipt.outcome in ("accepted", "duplicate")
            else RedriveOutcome(_nr(letter), "dead", ID_CONFLICT)
            for (letter, _), receipt in zip(sound, receipts, strict=True)
        ]
        close_letters(self._journal, [o.nr for o in outcomes if o.is_closed], LETTER_REDRIVEN, "taken", self._now)
        return outcomes

    def _offer_file(self, letter: DeadLetter, letters: Sequence[DeadLetter]) -> list[RedriveOutcome]:
        """Offer the archived file of a letter again; the letters of its sample share its fate."""
        record = self._record(letter)
        mine = [_nr(other) for other in letters if other.seq == letter.seq]
        feed = next((f for f in self._dataset.feeds if f.feed_id == letter.feed_id), None)
        if feed is None:
            return [RedriveOutcome(nr, "skipped", "the data set no longer has this feed") for nr in mine]
        archived = self._layout.archive / str(record.data["archive"])
        folder = self._layout.root / "scratch" / f"redrive-{record.seq}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / Path(record.subject).name
        path.unlink(missing_ok=True)
        # Under its own name, which feeds and people know it by.
        os.link(archived, path)
        try:
            contract = self._contracts[feed.stream]
            verdict = ingest_file(path, feed, contract, self._dataset, self._journal, self._layout, now=self._now)
        finally:
            path.unlink()
            folder.rmdir()
        if verdict.status == "dead" or verdict.accepted + verdict.duplicate == 0:
            return [RedriveOutcome(nr, "dead", verdict.fault or "the same rules refuse it") for nr in mine]
        close_letters(self._journal, mine, LETTER_REDRIVEN, "taken", self._now)
        return [RedriveOutcome(nr, "accepted") for nr in mine]

    def _event_of(self, letter: DeadLetter) -> OfferedEvent:
        """The event a letter stands for, under the id it had or one made of the letter's own place."""
        record = self._record(letter)
        if letter.raw is None:
            raise _NotOfferable("the letter does not hold what was offered")
        raw = raw_bytes(letter.raw)
        if letter.reason == ID_CONFLICT:
            raise _NotOfferable("its id stands for another event: discard it, or have the sender use a new id")
        if record.type == FILE_ACCEPTED:
            return self._row_of_file(letter, record, raw)
        if record.type == EVENTS_SETTLED:
            return self._settled_event(letter, raw)
        operation = record.data.get("op")
        if operation not in ("upsert", "delete"):
            raise _NotOfferable("the message never became an event: have its sender offer it again")
        event = OfferedEvent(record.source, letter.file, letter.feed_id, cast(EventOperation, operation), raw)
        known = self._journal.find(event.source, event.id)
        if known is not None and known.subject != event.feed_id:
            raise _NotOfferable("its id stands for an event of another feed")
        return event

    def _row_of_file(self, letter: DeadLetter, record: JournalRecord, raw: bytes) -> OfferedEvent:
        event_id = f"{record.id}:{letter.row_nr}"
        if letter.reason not in (RETRACTION_OF_UNKNOWN, KEY_CONFLICT):
            return OfferedEvent(letter.feed_id, event_id, letter.feed_id, "upsert", raw)
        # Judged after mapping: the letter holds the contract's columns.
        stream = record.dataschema.partition("@")[0]
        operation: EventOperation = "delete" if letter.reason == RETRACTION_OF_UNKNOWN else "upsert"
        return OfferedEvent(letter.feed_id, event_id, IDENTITY_PREFIX + stream, operation, raw)

    def _settled_event(self, letter: DeadLetter, raw: bytes) -> OfferedEvent:
        """An event that was journalled and refused later: its own id is taken, so it gets one of its own."""
        place = letter.row_nr or 0
        event = next(self._journal.event_bodies(place - 1, place), None)
        if event is None:
            raise _NotOfferable("the event it belongs to is gone")
        operation: EventOperation = "delete" if event.type == EVENT_DELETE else "upsert"
        return OfferedEvent(event.source, f"{event.id}~{letter.seq}", letter.feed_id, operation, raw)

    def _record(self, letter: DeadLetter) -> JournalRecord:
        seq = letter.seq or 0
        if seq not in self._records:
            self._records[seq] = next(self._journal.records(seq - 1, up_to_seq=seq))
        return self._records[seq]

    def _read_trimmed(self, letters: Sequence[DeadLetter]) -> None:
        """What dead events were (upsert or delete) may be in segments by now: read in one pass, as segments are."""
        records = [self._record(letter) for letter in letters]
        trimmed = {record.seq or 0 for record in records if record.type == EVENT_DEAD and not record.data}
        if trimmed:
            found = log_records(self._journal, self._layout, min(trimmed) - 1, max(trimmed))
            self._records |= {record.seq or 0: record for record in found if record.seq in trimmed}


def close_letters(journal: Journal, nrs: Sequence[int], type_: str, reason: str, now: datetime) -> int | None:
    """Journal that letters are done with (`LETTER_REDRIVEN` or `LETTER_DISCARDED`); the place of the record."""
    if not nrs:
        return None
    name = "redriven" if type_ == LETTER_REDRIVEN else "discarded"
    record_id = f"{name}:{json_digest(sorted(nrs))[:32]}"
    data: dict[str, object] = {"nrs": sorted(nrs), "reason": reason}
    return journal.append(JournalRecord(LETTERS_SOURCE, record_id, type_, "dead-letters", now, "unknown@0.0.0", data))


def discard_letters(journal: Journal, letters: Sequence[DeadLetter], reason: str, now: datetime) -> int:
    """Give open letters up, for a reason that is kept; how many.

    Raises:
        OutOfRange: No reason was given.
    """
    if not reason.strip():
        raise OutOfRange("say why these letters are given up")
    nrs = [_nr(letter) for letter in letters if letter.status == "open"]
    close_letters(journal, nrs, LETTER_DISCARDED, reason.strip(), now)
    return len(nrs)


def _one_per_file(letters: Sequence[DeadLetter]) -> Iterator[DeadLetter]:
    seen: set[int | None] = set()
    for letter in letters:
        if letter.seq not in seen:
            seen.add(letter.seq)
            yield letter


def _nr(letter: DeadLetter) -> int:
    if letter.nr is None:
        raise OutOfRange("a letter that was never journalled", file=letter.file)
    return letter.nr
