"""Replenishment decisions of one origin: from forecast, stock and policy to rows, journal events and sent orders.

The order of the steps makes a crash harmless: rows pass their audit, the journal takes the decisions and then the
executions, the outbox gets its files, the table its rows. Each step done again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

import polars as pl

from replenish.bitemporal import origin_instant
from replenish.contracts.dataset import Dataset
from replenish.contracts.model import Contract
from replenish.control.order_verdict import OrderVerdict, Reason
from replenish.control.policy import ReplenishmentPolicy
from replenish.decide.candidates import line_candidates, sent_orders, void_candidates
from replenish.decide.decision_table import (
    DECISION_SCHEMA,
    DECISION_TABLE,
    DecisionIdentity,
    decision_frame,
    merge_decisions,
)
from replenish.decide.order_inputs import has_interval_demand
from replenish.decide.slots import (
    DECISION_EXECUTED,
    DECISION_MADE,
    DECISION_SOURCE,
    SlotState,
    decision_id,
    idempotency_key,
    read_slots,
)
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import JournalRecord
from replenish.stores.lake import Audit, DeltaLake, TableCommit, accept_all
from replenish.stores.outbox import Outbox, OutboxOrder

DECISION_DATASCHEMA = "decisions@1.0.0"


@dataclass(frozen=True)
class DecisionRun:
    """What one run decided. `n_new`: decisions not known before; `n_sent`: orders executed by this run."""

    commit: TableCommit
    origin: date
    verdicts: Mapping[str, int]
    n_new: int
    n_sent: int
    decisions: pl.DataFrame


def decide_origin(
    lake: DeltaLake,
    journal: Journal,
    outbox: Outbox,
    dataset: Dataset,
    policy: ReplenishmentPolicy,
    contracts: Mapping[str, Contract],
    origin: date,
    audit: Audit = accept_all,
) -> DecisionRun:
    """Decide every item that has a forecast at an origin; `auto` orders are sent.

    Where no protection interval can be known, every item gets `no_action` and the feed that is missing.

    Args:
        lake: Reads gold, features and forecasts; writes `decisions/replenishment`.
        journal: Receives decisions and executions; its slots say what was executed before.
        outbox: Receives executed orders.
        dataset: Zone, cut-off, feeds and assumptions.
        policy: Objective and limits.
        contracts: SLA of each stream.
        origin: Date; only what was known at its cut-off is used, also when it is decided again later.
        audit: Called on the rows of this run before anything is written.

    Raises:
        NotApplicable: No forecast of any kind for this origin.
        AuditFailed: `audit` refused; nothing was written or sent.
    """
    as_of = origin_instant(origin, dataset.zone, dataset.cutoff)
    if has_interval_demand(lake, origin):
        candidates = line_candidates(lake, journal, dataset, policy, contracts, origin)
    else:
        candidates = void_candidates(lake, dataset, policy, origin)
    states = read_slots(journal, [candidate.slot_id for candidate in candidates])
    last_sent = _last_sent(journal)
    rows = []
    for candidate in candidates:
        made_id = decision_id(candidate.slot_id, candidate.digest, candidate.model_digest, policy.policy_digest)
        state = states[candidate.slot_id]
        identity = DecisionIdentity(
            *(made_id, candidate.slot_id, state.revision_of(made_id), candidate.period_start),
            *(candidate.digest, policy.policy_digest),
        )
        sent = last_sent.get((candidate.item["sku_id"], candidate.item["location_id"]))
        sent_since = sent if sent is not None and sent >= candidate.period_start else None
        settled, status = settle(
            candidate.wants_units, candidate.verdict, state, made_id, origin, sent_since=sent_since
        )
        rows.append(candidate.row(settled, identity, origin, status))
    decisions = decision_frame(rows)
    audit(decisions)
    n_new, n_sent = _record(journal, outbox, decisions, states, as_of)
    commit = _write(lake, decisions, origin)
    return DecisionRun(commit, origin, Counter(decisions["verdict"].to_list()), n_new, n_sent, decisions)


def _last_sent(journal: Journal) -> dict[tuple[str, str], date]:
    """Newest origin at which an order of each item (sku, location) was executed."""
    newest: dict[tuple[str, str], date] = {}
    for order in sent_orders(journal):
        item = (order.sku_id, order.location_id)
        newest[item] = max(order.origin_date, newest.get(item, order.origin_date))
    return newest


def settle(
    wants_units: bool,
    verdict: OrderVerdict,
    state: SlotState,
    made_id: str,
    origin: date,
    *,
    sent_since: date | None = None,
) -> tuple[OrderVerdict, str]:
    """Verdict and status in view of what was sent: at most one order per slot, and none before an order already sent.

    `sent_since`: newest origin since the start of the review period at which an order of the item was executed, in
    whatever slot. Other slots reach into this one where a review period has changed, or a past origin is run later.
    """
    if state.executed_id == made_id:
        return verdict, "executed"
    reason = None
    if state.executed_id is not None and wants_units:
        detail = f"this review period's order was sent as revision {state.executed_revision}"
        reason = Reason("already_executed", detail, "no_action")
    elif sent_since is not None and wants_units:
        reason = Reason("already_executed", f"an order of this item was sent at {sent_since}", "no_action")
    elif state.newest_origin is not None and state.newest_origin > origin:
        reason = Reason("decided_later", f"this slot was decided again at {state.newest_origin}", "no_action")
    if reason is not None:
        # A decision that was made before the reason arose keeps the verdict it was made with.
        if state.verdicts.get(made_id) == verdict.verdict:
            return verdict, "superseded"
        return OrderVerdict("no_action", (reason, *verdict.reasons)), "superseded"
    return verdict, "executed" if verdict.verdict == "auto" and wants_units else "proposed"


def _record(
    journal: Journal, outbox: Outbox, decisions: pl.DataFrame, states: Mapping[str, SlotState], as_of: datetime
) -> tuple[int, int]:
    n_new = 0
    for row in decisions.iter_rows(named=True):
        if row["decision_id"] not in states[row["slot_id"]].revisions:
            journal.append(_event(DECISION_MADE, row["decision_id"], row["slot_id"], as_of, _made_data(row)))
            n_new += 1
        if row["status"] == "executed":
            order = _order(row, as_of)
            # The slot is the id: the journal itself refuses a second execution of one slot.
            journal.append(
                _event(DECISION_EXECUTED, f"executed/{row['slot_id']}", row["slot_id"], as_of, asdict(order))
            )
    # From the journal and not from this run's rows: an order whose delivery a crash cut off gets its file even if
    # what is decided now, from other inputs, is another revision.
    executed = journal.records(type=DECISION_EXECUTED)
    n_sent = sum(outbox.put(OutboxOrder(**record.data)) for record in executed if record.subject in states)  # type: ignore[arg-type]
    return n_new, n_sent


def _event(kind: str, event_id: str, slot: str, as_of: datetime, data: dict[str, Any]) -> JournalRecord:
    return JournalRecord(DECISION_SOURCE, event_id, kind, slot, as_of, DECISION_DATASCHEMA, data)


def _made_data(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("decision_id", "slot_id", "revision", "sku_id", "location_id", "verdict", "status", "order_units")
    digests = ("inputs_digest", "model_digest", "policy_digest")
    return {name: row[name] for name in (*names, *digests, "reasons")} | {"origin_date": row["origin_date"].isoformat()}


def _order(row: Mapping[str, Any], as_of: datetime) -> OutboxOrder:
    same = ("decision_id", "slot_id", "revision", "supplier_id", "sku_id", "location_id", "order_units")
    return OutboxOrder(
        idempotency_key=idempotency_key(row["slot_id"], row["revision"]),
        origin_date=row["origin_date"].isoformat(),
        executed_at=as_of.isoformat(),
        order_cost_cents=row["order_cost_cents"],
        explanation=row["explanation"],
        **{name: row[name] for name in same},
    )


def _write(lake: DeltaLake, decisions: pl.DataFrame, origin: date) -> TableCommit:
    known = pl.DataFrame(schema=DECISION_SCHEMA)
    if lake.has(DECISION_TABLE):
        # A slot's decisions lie within one review period, so only its partitions are read and written again.
        first = min(decisions["period_start"].to_list(), default=origin)
        last = max(*decisions["origin_date"].to_list(), origin)
        known = lake.read(DECISION_TABLE, filters=[("origin_date", ">=", first), ("origin_date", "<=", last)])
        known = known.select(list(DECISION_SCHEMA))
    merged = merge_decisions(known, decisions)
    if lake.has(DECISION_TABLE) and merged.equals(known.sort(merged.columns[3], "sku_id", "location_id", "revision")):
        version = lake.version(DECISION_TABLE)
        return TableCommit(DECISION_TABLE, -1 if version is None else version, lake.row_count(DECISION_TABLE))
    days = sorted({origin, *merged["origin_date"].to_list()})
    return lake.replace_partitions(DECISION_TABLE, merged, column="origin_date", values=days)
