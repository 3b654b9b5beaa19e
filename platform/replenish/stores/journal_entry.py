"""What the journal holds: types of entries, records, dead letters, and what a door offers and gets back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, cast, overload

FILE_ACCEPTED = "replenish.file.accepted"
"""`data` of such a record: `offered accepted dead duplicate corrections retractions cancellations` (counts), `reasons`
(code to count), `parts` (list of `{path, bucket, rows, days}`; `path` relative to `RootLayout.accepted`, `days` a bit
mask of the UTC days of the month that occur; with `kept_until` its rows brought nothing new), `revived` (rows that
earlier records kept and this one made news: they are in its parts too), `archive` (path relative to
`RootLayout.archive`), `sha256`, `size_bytes` and `event_date_min event_date_max knowledge_time_min knowledge_time_max`
(ISO text or null)."""
FILE_DEAD = "replenish.file.dead"
"""The whole file was refused: as for an accepted file, with accepted = 0 and no parts, and `fault` in words."""
EVENT_UPSERT = "replenish.event.upsert"
"""One accepted event; `data` is the source's own JSON object."""
EVENT_DELETE = "replenish.event.delete"
"""One accepted event that takes a fact back; `data` as for an upsert."""
EVENT_DEAD = "replenish.event.dead"
"""One refused event; its dead letter says why and holds what was offered."""
EVENTS_SETTLED = "replenish.events.settled"
"""Events `from_seq` .. `to_seq` of one feed, judged into facts; counts and parts as for an accepted file."""
LETTER_REDRIVEN = "replenish.letter.redriven"
"""Dead letters `nrs` were offered again and taken."""
LETTER_DISCARDED = "replenish.letter.discarded"
"""Dead letters `nrs` are given up; `reason` says why."""
EPOCH_STARTED = "replenish.epoch.started"
"""A standby was promoted; `data` holds `epoch` and `before`."""

PART_BEARING = (FILE_ACCEPTED, EVENTS_SETTLED)
"""Records whose `parts` hold accepted rows."""
EVENT_TYPES = (EVENT_UPSERT, EVENT_DELETE, EVENT_DEAD)
"""Records of single events."""
RUN_TYPES = (EVENT_UPSERT, EVENT_DELETE)
"""Those among them that are kept as runs where many come at once."""

LetterStatus = Literal["open", "redriven", "discarded"]
Outcome = Literal["accepted", "dead", "duplicate", "conflict"]


@dataclass(frozen=True)
class JournalRecord:
    """One entry of the log: CloudEvents attributes and a JSON object. `source` and `id` are its identity."""

    source: str
    id: str
    type: str
    subject: str
    time: datetime
    """First receipt, with an offset."""
    dataschema: str
    """`<stream>@<contract version>`."""
    data: dict[str, object] = field(default_factory=dict)
    seq: int | None = None
    """Place in the log, from 1; None until appended."""
    traceparent: str | None = None
    """W3C trace context of the request that brought it."""
    epoch: int | None = None
    """Which writer wrote it: rises by one with every promotion of a standby."""
    chain: str | None = None
    """Hash over this record, its letters and the chain before it, in hex."""

    def accepted_parts(self) -> list[dict[str, Any]]:
        """The parts that the lake takes in; the others hold rows that brought nothing new."""
        parts = cast(list[dict[str, Any]], self.data.get("parts", []))
        return [part for part in parts if "kept_until" not in part]


@dataclass(frozen=True)
class DeadLetter:
    """A row (or, with `row_nr` None, a whole file) that was not accepted, why, and what it said."""

    feed_id: str
    file: str
    """Name of the file; of a single event, or a message that never became one, its id."""
    row_nr: int | None
    reason: str
    field: str | None
    rule: str | None
    raw: str | None
    nr: int | None = None
    """Number of the letter in its journal; None until appended."""
    seq: int | None = None
    """The record it belongs to."""
    status: LetterStatus = "open"
    first_seen: datetime | None = None
    last_seen: datetime | None = None
    """Last time the same event came again or was tried again."""
    attempts: int = 1


class EventEntry(NamedTuple):
    """What a door offers to the journal: one judged event."""

    source: str
    id: str
    type: str
    """One of `EVENT_TYPES`."""
    subject: str
    """The feed."""
    dataschema: str
    """`<stream>@<contract version>`."""
    body: bytes
    """A JSON object in UTF-8."""
    traceparent: str | None = None
    letter: DeadLetter | None = None
    """Why it is dead, for an `EVENT_DEAD`."""


class Receipt(NamedTuple):
    """What became of an offered event: `conflict` = the id stands for another body, journalled as a dead letter."""

    outcome: Outcome
    seq: int
    """Its place in the log; of the first one for a duplicate."""


class RepeatedConflict(Receipt):
    """A `duplicate` of a conflict: what was offered again is still not the event that its id stands for."""

    __slots__ = ()


class AcceptedRange(Sequence[Receipt]):
    """Receipts of new events that lie behind one another in the log; reads as the receipts it stands for."""

    __slots__ = ("seqs",)

    def __init__(self, seqs: range) -> None:
        self.seqs = seqs

    def __len__(self) -> int:
        return len(self.seqs)

    @overload
    def __getitem__(self, place: int) -> Receipt: ...
    @overload
    def __getitem__(self, place: slice) -> AcceptedRange: ...
    def __getitem__(self, place: int | slice) -> Receipt | AcceptedRange:
        if isinstance(place, slice):
            return AcceptedRange(self.seqs[place])
        return Receipt("accepted", self.seqs[place])

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


class ChainHead(NamedTuple):
    """Where the log ends: `chain` in hex, all zeros before the first record."""

    seq: int
    chain: str
    epoch: int
