"""What one origin puts forward for decision: judged order lines, or items that nothing can be decided for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from replenish.bitemporal import origin_instant
from replenish.contracts.dataset import Dataset
from replenish.contracts.model import Contract
from replenish.control.freshness import FreshnessVerdict, freshness_of_lake
from replenish.control.order_verdict import OrderVerdict, judge_order
from replenish.control.policy import ReplenishmentPolicy
from replenish.decide.decision_table import DecisionIdentity, decision_row
from replenish.decide.lead_time import lead_time_of, read_lead_times
from replenish.decide.order_inputs import read_order_inputs
from replenish.decide.order_line import OrderLine, order_case, order_line
from replenish.decide.slots import DECISION_EXECUTED, review_period_start, slot_id
from replenish.decide.stock_position import SentOrder
from replenish.decide.without_interval import empty_decision, missing_inputs, read_forecast_items
from replenish.digests import json_digest
from replenish.stores.journal import Journal
from replenish.stores.lake import DeltaLake
from replenish.stores.outbox import OutboxOrder

SUPPLIER_EFFECTS = ("supplier_value_above_limit", "below_supplier_minimum")
"""Reasons by which the other lines of a supplier reach a line."""


def sent_orders(journal: Journal) -> tuple[SentOrder, ...]:
    """Every order ever executed here, in journal order."""
    orders = (OutboxOrder(**record.data) for record in journal.records(type=DECISION_EXECUTED))  # type: ignore[arg-type]
    return tuple(SentOrder(o.sku_id, o.location_id, date.fromisoformat(o.origin_date), o.order_units) for o in orders)


@dataclass(frozen=True)
class Candidate:
    """A decision before its slot is looked at: a line with its terms, or an item that nothing can be decided for."""

    slot_id: str
    period_start: date
    verdict: OrderVerdict
    digest: str
    model_digest: str | None
    line: OrderLine | None
    item: Mapping[str, Any]

    @property
    def wants_units(self) -> bool:
        """Whether an order is needed."""
        return self.line is not None and self.line.quantity is not None and self.line.quantity.order_units > 0

    def row(self, verdict: OrderVerdict, identity: DecisionIdentity, origin: date, status: str) -> dict[str, Any]:
        """The row of the table, once slot and revision are known."""
        if self.line is None:
            return empty_decision(self.item, verdict, identity, origin=origin, status=status)
        return decision_row(self.line, verdict, identity, origin=origin, status=status)


def line_candidates(
    lake: DeltaLake,
    journal: Journal,
    dataset: Dataset,
    policy: ReplenishmentPolicy,
    contracts: Mapping[str, Contract],
    origin: date,
) -> list[Candidate]:
    """The lines of all items whose protection-interval demand was forecast, judged."""
    as_of = origin_instant(origin, dataset.zone, dataset.cutoff)
    freshness = freshness_of_lake(lake, contracts, dataset, as_of)
    inputs = read_order_inputs(lake, dataset, policy, sent_orders(journal), origin=origin, as_of=as_of)
    lead_times = read_lead_times(lake, origin)
    lines = [
        order_line(row, policy, lead_time_of(lead_times, row["supplier_id"], row["location_id"]))
        for row in inputs.iter_rows(named=True)
    ]
    candidates = []
    for line, verdict, digest in judge_lines(lines, freshness, policy, origin):
        start = review_period_start(origin, line.review_period_days)
        slot = slot_id(line.row["sku_id"], line.row["location_id"], start)
        candidates.append(Candidate(slot, start, verdict, digest, line.row["model_digest"], line, line.row))
    return candidates


def void_candidates(lake: DeltaLake, dataset: Dataset, policy: ReplenishmentPolicy, origin: date) -> list[Candidate]:
    """Items with a demand forecast and no protection interval: `no_action` and why."""
    verdict = missing_inputs(dataset, lake)
    start = review_period_start(origin, policy.review_period_days)
    digest = json_digest([origin.isoformat(), [reason.detail for reason in verdict.reasons]])
    return [
        Candidate(
            slot_id(item["sku_id"], item["location_id"], start),
            start,
            verdict,
            digest,
            item["model_digest"],
            None,
            item,
        )
        for item in read_forecast_items(lake, origin).iter_rows(named=True)
    ]


def judge_lines(
    lines: Sequence[OrderLine], freshness: FreshnessVerdict, policy: ReplenishmentPolicy, origin: date
) -> list[tuple[OrderLine, OrderVerdict, str]]:
    """Each line with its verdict and the digest of everything the verdict rests on."""
    totals: dict[str | None, int] = {}
    unknown: set[str | None] = set()
    for line in lines:
        supplier = line.row["supplier_id"]
        if line.quantity is not None and line.quantity.order_units > 0:
            if line.order_cost_cents is None:
                unknown.add(supplier)
            totals[supplier] = totals.get(supplier, 0) + (line.order_cost_cents or 0)
    judged = []
    for line in lines:
        supplier = line.row["supplier_id"]
        # An unknown supplier has no other lines that could be counted with this one.
        total = line.order_cost_cents if supplier is None else totals.get(supplier, 0)
        case = order_case(
            line,
            freshness,
            policy,
            supplier_cost_cents=None if supplier in unknown else total,
            origin=origin,
        )
        verdict = judge_order(case, policy)
        judged.append((line, verdict, _inputs_digest(line, verdict, case.feeds, origin)))
    return judged


def _inputs_digest(line: OrderLine, verdict: OrderVerdict, feeds: Mapping[str, str], origin: date) -> str:
    """Digest of the line's inputs. Of its supplier's other lines only their effect on this one counts."""
    row = {name: value.isoformat() if isinstance(value, date) else value for name, value in line.row.items()}
    effects = sorted(reason.code for reason in verdict.reasons if reason.code in SUPPLIER_EFFECTS)
    lead_time = None if line.lead_time is None else line.lead_time.counts
    return json_digest([origin.isoformat(), row, line.review_period_days, dict(feeds), effects, lead_time])
