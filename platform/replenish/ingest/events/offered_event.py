"""An event as a door offers it, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from replenish.stores.journal_entry import Outcome

EventOperation = Literal["upsert", "delete"]


@dataclass(frozen=True, slots=True)
class OfferedEvent:
    """One event as it came: `source` and `id` are its identity, `body` the JSON object of the source's fields."""

    source: str
    id: str
    feed_id: str
    op: EventOperation
    body: bytes
    traceparent: str | None = None
    offset: str | None = None
    """Where it stood at its source, in words: `topic[3]@17`, a log position, a line of a request."""
    dataschema: str | None = None
    """Version of the contract that the sender wrote it by, `sales@1.0.0`, alone or at the end of an address."""


class EventVerdict(NamedTuple):
    """What became of an offered event; it is durable when the verdict is given.

    `duplicate`: the same event was accepted (or refused, then with its reason) before; `conflict`: the id stands for
    another event, and this one is kept as a dead letter.
    """

    id: str
    outcome: Outcome
    seq: int
    reason: str | None = None
    field: str | None = None
    rule: str | None = None
