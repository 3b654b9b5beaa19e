"""Slots and revisions: one order at most per item, location and review period, however often a decision is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from replenish.contracts.profile import PERIOD_ANCHOR
from replenish.digests import json_digest
from replenish.stores.journal import Journal

DECISION_SOURCE = "replenish/decide"
DECISION_MADE = "replenish.decision.made"
DECISION_EXECUTED = "replenish.decision.executed"


@dataclass(frozen=True)
class SlotState:
    """What happened in one slot so far: revision and verdict of the decisions made, by id, and the executed one."""

    revisions: Mapping[str, int]
    verdicts: Mapping[str, str]
    newest_origin: date | None
    executed_id: str | None
    executed_revision: int | None

    def revision_of(self, decision_id: str) -> int:
        """The revision this decision has, or would get as the next one."""
        return self.revisions.get(decision_id, max(self.revisions.values(), default=0) + 1)


EMPTY_SLOT = SlotState({}, {}, None, None, None)


def review_period_start(origin: date, review_period_days: int) -> date:
    """First date of the review period an origin lies in; periods are counted from a Monday.

    >>> review_period_start(date(2025, 2, 4), 7)
    datetime.date(2025, 2, 3)
    """
    days = (origin - PERIOD_ANCHOR).days
    return PERIOD_ANCHOR + timedelta(days=days - days % review_period_days)


def slot_id(sku_id: str, location_id: str, period_start: date) -> str:
    """Identity of a slot: 32 hexadecimal digits."""
    return json_digest(["slot", sku_id, location_id, period_start.isoformat()])[:32]


def decision_id(slot: str, inputs_digest: str, model_digest: str | None, policy_digest: str) -> str:
    """Identity of a decision: the same slot, inputs, model and policy give the same decision, whenever it is made."""
    return json_digest(["decision", slot, inputs_digest, model_digest, policy_digest])[:32]


def idempotency_key(slot: str, revision: int) -> str:
    """What the world outside knows an order by."""
    return f"{slot}-{revision}"


def read_slots(journal: Journal, slots: Iterable[str]) -> dict[str, SlotState]:
    """State of the given slots from the journal, which alone says what was decided and executed."""
    wanted = set(slots)
    revisions: dict[str, dict[str, int]] = {slot: {} for slot in wanted}
    verdicts: dict[str, dict[str, str]] = {slot: {} for slot in wanted}
    newest: dict[str, date] = {}
    executed: dict[str, tuple[str, int]] = {}
    for record in journal.records(type=DECISION_MADE):
        slot = record.subject
        if slot in wanted:
            revisions[slot][str(record.data["decision_id"])] = int(str(record.data["revision"]))
            verdicts[slot][str(record.data["decision_id"])] = str(record.data["verdict"])
            made_at = date.fromisoformat(str(record.data["origin_date"]))
            newest[slot] = max(made_at, newest.get(slot, made_at))
    for record in journal.records(type=DECISION_EXECUTED):
        if record.subject in wanted:
            executed[record.subject] = (str(record.data["decision_id"]), int(str(record.data["revision"])))
    return {
        slot: SlotState(revisions[slot], verdicts[slot], newest.get(slot), *executed.get(slot, (None, None)))
        for slot in wanted
    }
