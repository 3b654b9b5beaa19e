"""Which feeds have drifted out of their contract: their stream is degraded, every other one goes on.

A feed of files is judged by its newest file, a feed of single events by its newest events. It is healthy again by
itself as soon as what comes is sound again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from replenish.contracts.model import Contract
from replenish.stores.journal_entry import EVENT_DEAD, EVENT_TYPES, FILE_ACCEPTED, FILE_DEAD, JournalRecord
from replenish.stores.journal_reader import JournalReader

NEWEST_EVENTS = 1000
"""Events of a feed that are looked at."""
FEWEST_EVENTS = 20
"""Below that a share says nothing."""
NEWEST_RECORDS = 20_000
"""Of the log, that these events are looked for in: a feed that sends less than this is silent, not degraded."""

StreamHealth = Literal["ok", "degraded"]


@dataclass(frozen=True)
class StreamState:
    """How one feed of a stream stands by what it delivered last."""

    stream: str
    feed_id: str
    health: StreamHealth
    why: str = ""


def judge_streams(journal: JournalReader, contracts: Mapping[str, Contract]) -> list[StreamState]:
    """The state of every feed that delivered something, by stream and feed."""
    states = [*_by_files(journal.records(type=(FILE_ACCEPTED, FILE_DEAD))), *_by_events(journal, contracts)]
    return sorted(states, key=lambda state: (state.stream, state.feed_id))


def _by_files(records: Iterable[JournalRecord]) -> Iterator[StreamState]:
    newest = {record.source: record for record in records}
    for feed_id, record in newest.items():
        stream = record.dataschema.partition("@")[0]
        if record.type == FILE_ACCEPTED:
            yield StreamState(stream, feed_id, "ok")
        else:
            yield StreamState(stream, feed_id, "degraded", f"{record.subject} was refused: {record.data['fault']}")


def _by_events(journal: JournalReader, contracts: Mapping[str, Contract]) -> Iterator[StreamState]:
    newest: dict[str, deque[bool]] = {}
    streams: dict[str, str] = {}
    for event in journal.event_bodies(max(0, journal.last_seq() - NEWEST_RECORDS), types=EVENT_TYPES):
        newest.setdefault(event.subject, deque(maxlen=NEWEST_EVENTS)).append(event.type == EVENT_DEAD)
        streams[event.subject] = event.dataschema.partition("@")[0]
    for feed_id, are_dead in newest.items():
        contract = contracts.get(streams[feed_id])
        if contract is None or len(are_dead) < FEWEST_EVENTS:
            continue
        share = sum(are_dead) / len(are_dead)
        if share > contract.max_dead_share:
            why = f"{share:.0%} of its last {len(are_dead)} events are dead, {contract.max_dead_share:.0%} may be"
            yield StreamState(contract.stream, feed_id, "degraded", why)
        else:
            yield StreamState(contract.stream, feed_id, "ok")
