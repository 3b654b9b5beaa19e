"""Single events become facts: what the doors journalled since the last time is judged, a batch and feed at a time.

An event is accepted (and acknowledged) once it is in the journal. Here its batch is mapped, checked and judged against
all facts known before, as the rows of a file are, and one record per feed and batch lists the parts and counts. The
position is in these records and nowhere else: a batch that was cut off is judged again and leaves parts that nobody
refers to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from replenish.contracts.dataset import Dataset, Feed
from replenish.contracts.model import Contract
from replenish.contracts.version_rules import OlderVersion, older_versions
from replenish.errors import WriteConflict
from replenish.ingest.accepted_parts import PartIndex, clear_folder
from replenish.ingest.door import INGEST_LOCK, LOCK_WAIT_SECONDS, MAX_ATTEMPTS, file_intake
from replenish.ingest.event_batch import EventBatch, settled_letters
from replenish.ingest.events.event_feeds import event_feeds, with_all_feeds_open
from replenish.ingest.judged_rows import rules_digest
from replenish.ingest.mapping import FeedMapping
from replenish.ingest.verdict import FileVerdict, verdict_of
from replenish.stores.failpoints import failpoint
from replenish.stores.full_disk import refusing_when_full
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EVENT_DELETE, EVENT_UPSERT, EVENTS_SETTLED, JournalRecord
from replenish.stores.journal_reader import EventBody, JournalReader
from replenish.stores.layout import RootLayout
from replenish.stores.locks import hold

SETTLED_TYPES = (EVENT_UPSERT, EVENT_DELETE)
MAX_EVENTS = 200_000
"""Events of all feeds that are taken at a time; bounds memory."""
SETTLE_SOURCE = "replenish.settle"
"""`source` of the records; their `subject` is the feed."""


@dataclass(frozen=True)
class SettleReport:
    """What one settling did: a verdict per feed and batch, in journal order; `file` names the events."""

    batches: tuple[FileVerdict, ...]
    waiting: tuple[str, ...] = ()
    """Feeds that the data set no longer declares; their events wait in the journal."""

    def total(self, count: str) -> int:
        """Sum of one count (`offered`, `accepted`, ...)."""
        return sum(int(getattr(verdict, count)) for verdict in self.batches)


def settle_events(
    dataset: Dataset,
    contracts: Mapping[str, Contract],
    journal: Journal,
    layout: RootLayout,
    *,
    now: datetime,
    versions: Mapping[str, Mapping[str, Contract]] | None = None,
    max_events: int = MAX_EVENTS,
) -> SettleReport:
    """Judge every event that was journalled and not settled yet; a second call does nothing.

    Args:
        now: The instant of the records, with an offset. Rows keep the arrival of their own event.
        versions: By stream the live versions of its contract: what was accepted under one is judged by it.
        max_events: Events taken at a time.

    Raises:
        AlreadyRunning: Another process ingests into this root, and did not end within 30 s.
        WriteConflict: Other writers added accepted rows five times in a row.
        StoreFull: The disk is full; the events of this batch wait in the journal, those before it are settled.
    """
    return EventSettler(dataset, contracts, journal, layout, versions=versions).settle(now=now, max_events=max_events)


@dataclass
class Positions:
    """How far events are settled: of all feeds through `through`, of single feeds further on."""

    through: int
    feeds: dict[str, int]
    seen_seq: int = 0
    """The last record that was taken in."""

    def take_in(self, journal: JournalReader) -> None:
        """Read on in the records of settled batches."""
        for record in journal.records(self.seen_seq, EVENTS_SETTLED):
            self.feeds[record.subject] = max(self.feeds.get(record.subject, 0), _int(record.data["to_seq"]))
            self.through = max(self.through, _int(record.data["through_seq"]))
            self.seen_seq = record.seq or 0

    def has(self, feed_id: str, seq: int) -> bool:
        """Whether the event of this feed at this place is settled."""
        return seq <= max(self.through, self.feeds.get(feed_id, 0))


def settled_positions(journal: JournalReader) -> Positions:
    """Read off the records of settled batches."""
    positions = Positions(0, {})
    positions.take_in(journal)
    return positions


class EventSettler:
    """Settles again and again, and remembers what it has seen of the log: a call costs what is new.

    Args:
        index: The accepted parts; for a process that stays `ResidentParts`.
        versions: By stream the live versions of its contract: what was accepted under one is judged by it.
    """

    def __init__(
        self,
        dataset: Dataset,
        contracts: Mapping[str, Contract],
        journal: Journal,
        layout: RootLayout,
        *,
        versions: Mapping[str, Mapping[str, Contract]] | None = None,
        index: PartIndex | None = None,
    ) -> None:
        self._dataset, self._contracts, self._versions = dataset, contracts, versions or {}
        self._journal, self._layout = journal, layout
        # Rows of files that were refused come again as events of the file's feed.
        self._feeds = event_feeds(with_all_feeds_open(dataset), contracts)
        self._index = PartIndex(journal) if index is None else index
        self._positions = Positions(0, {})
        self._looked_at = 0
        """All events up to here are settled, or of feeds that wait."""
        self._unknown_feeds: dict[str, int] = {}
        """Feeds whose events wait, with the place of the last of them."""
        self._rules: dict[str, tuple[Mapping[str, OlderVersion], str]] = {}

    def settle(
        self, *, now: datetime, max_events: int = MAX_EVENTS, wait_seconds: float = LOCK_WAIT_SECONDS
    ) -> SettleReport:
        """Judge every event that was journalled and not settled yet.

        Args:
            now: The instant of the records, with an offset. Rows keep the arrival of their own event.
            max_events: Events taken at a time.
            wait_seconds: How long to wait for another process that ingests into this root.

        Raises:
            AlreadyRunning, WriteConflict, StoreFull: As `settle_events`; call again.
        """
        lock = hold(self._layout.locks / INGEST_LOCK, "settle events", wait_seconds=wait_seconds)
        with refusing_when_full("settle events", self._layout.root), lock:
            batches = tuple(self._run(max_events, now))
            return SettleReport(batches, tuple(sorted(self._unknown_feeds)))

    def _run(self, max_events: int, now: datetime) -> Iterator[FileVerdict]:
        """Window after window up to the head of the log as it was at the start; reference data of each first."""
        positions = self._positions
        positions.take_in(self._journal)
        # Another process may know them.
        self._unknown_feeds = {f: seq for f, seq in self._unknown_feeds.items() if not positions.has(f, seq)}
        head, seen = self._journal.last_seq(), max(positions.through, self._looked_at)
        while window := list(self._journal.event_bodies(seen, head, limit=max_events, types=SETTLED_TYPES)):
            seen = window[-1].seq
            waiting: dict[str, list[EventBody]] = {}
            for event in window:
                if not positions.has(event.subject, event.seq):
                    waiting.setdefault(event.subject, []).append(event)
            del window
            self._unknown_feeds |= {f: waiting[f][-1].seq for f in waiting.keys() - self._feeds.keys()}
            order = sorted(waiting.keys() & self._feeds.keys(), key=lambda f: (not self._is_reference(f), f))
            for nr, feed_id in enumerate(order):
                # Only the last record of a window says that all feeds have come so far, and only when they have.
                is_last = nr == len(order) - 1 and not self._unknown_feeds
                through = seen if is_last else positions.through
                yield self._settle(self._feeds[feed_id], waiting.pop(feed_id), through, now)
                # Not before: where it could not be written, the next call has to find these events again.
                positions.through = through
            self._looked_at = seen

    def _is_reference(self, feed_id: str) -> bool:
        return self._contracts[self._feeds[feed_id].stream].is_reference

    def _settle(self, feed: Feed, events: list[EventBody], through_seq: int, now: datetime) -> FileVerdict:
        contract = self._contracts[feed.stream]
        from_seq, to_seq = events[0].seq, events[-1].seq
        mapping = FeedMapping(feed, contract, self._dataset, now)
        scratch = self._layout.root / "scratch" / f"events-{from_seq}-{feed.feed_id}"
        clear_folder(scratch)
        record = JournalRecord(
            SETTLE_SOURCE,
            f"{feed.feed_id}:{from_seq}-{to_seq}",
            EVENTS_SETTLED,
            feed.feed_id,
            now,
            f"{contract.stream}@{contract.version}",
            {"feed": feed.feed_id, "from_seq": from_seq, "to_seq": to_seq, "through_seq": through_seq},
        )
        try:
            older, rules = self._rules_of(feed)
            batch = EventBatch(mapping, file_intake(scratch), older)
            batch.take_in(events)
            return self._append(record, batch, rules)
        finally:
            clear_folder(scratch)

    def _rules_of(self, feed: Feed) -> tuple[Mapping[str, OlderVersion], str]:
        """Older live versions of the feed's contract, and the digest of all that its events are judged by."""
        known = self._rules.get(feed.feed_id)
        if known is None:
            contract = self._contracts[feed.stream]
            older = older_versions(contract, self._versions.get(feed.stream, {}))
            known = self._rules[feed.feed_id] = older, rules_digest(feed, contract, self._dataset, older)
        return known

    def _append(self, record: JournalRecord, batch: EventBatch, rules: str) -> FileVerdict:
        for _ in range(MAX_ATTEMPTS):
            self._index.refresh()
            rows = batch.judged(record, self._index, self._layout.accepted)
            counts = rows.as_json(batch.intake, f"events {record.id}")
            extra = {"unmapped_fields": batch.unmapped_fields(), "rules": rules}
            filled = replace(record, data=record.data | counts | extra)
            letters = settled_letters(rows.letters(batch.intake), record, self._journal)
            failpoint("settle.judged")
            try:
                seq = self._journal.append(filled, letters, expected_parts_seq=self._index.seen_seq)
            except WriteConflict:
                continue
            failpoint("settle.appended")
            return verdict_of(replace(filled, seq=seq))
        raise WriteConflict("accepted rows are added faster than these events can be judged", events=record.id)


def _int(value: object) -> int:
    return int(str(value))
