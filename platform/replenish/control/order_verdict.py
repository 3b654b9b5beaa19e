"""How far one replenishment order may go: the policy applied to the circumstances of an order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from replenish.control.policy import FeedState, ReplenishmentPolicy, VerdictKind

STRICTNESS: dict[VerdictKind, int] = {"auto": 0, "approval": 1, "freeze": 2, "no_action": 2}
"""Larger is stricter. `freeze` and `no_action` both send nothing, so neither is more permissive than the other."""


@dataclass(frozen=True)
class Reason:
    """One reason of a verdict: `code` for machines, `detail` for people, `limit` = the furthest it allows."""

    code: str
    detail: str
    limit: VerdictKind


@dataclass(frozen=True)
class OrderVerdict:
    """What may happen with an order, and every reason found, strictest first."""

    verdict: VerdictKind
    reasons: tuple[Reason, ...]

    @property
    def strictness(self) -> int:
        """How far the verdict holds back; see `STRICTNESS`."""
        return STRICTNESS[self.verdict]


@dataclass(frozen=True)
class OrderCase:
    """One order as the policy sees it. None = not known; quantities in units, values in cents.

    `usual_units`: demand of a protection interval as it used to be; `recent_peak_units` and `usual_peak_units`: the
    largest daily demand lately and before; `feeds`: state of each stream at the location; `circumstances`: codes of
    `policy.CIRCUMSTANCES` that hold, with a detail for people.
    """

    order_units: float | None
    need_units: float | None
    order_cost_cents: float | None
    supplier_cost_cents: float | None
    usual_units: float | None
    recent_peak_units: float | None
    usual_peak_units: float | None
    feeds: Mapping[str, FeedState]
    forecast_mode: str | None
    circumstances: Mapping[str, str]


def _is_sound(value: float | None) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _feed_reasons(case: OrderCase, policy: ReplenishmentPolicy) -> list[Reason]:
    reasons = []
    for stream, limits in policy.late_feeds.items():
        state = case.feeds.get(stream, "missing")
        if state == "ok":
            continue
        limit = limits.get(state, "freeze")
        if limit == "auto":
            continue
        if state == "missing":
            reasons.append(Reason("not_applicable", f"not_applicable: no {stream} feed", limit))
        elif state == "never":
            reasons.append(Reason("never_seen", f"{stream} never arrived for this item and location", limit))
        else:
            reasons.append(Reason(f"late_{stream}", f"{stream} of this location is late ({state})", limit))
    return reasons


def _plausibility_reasons(case: OrderCase, policy: ReplenishmentPolicy) -> list[Reason]:
    rule = policy.plausibility
    amounts = (case.order_units, case.need_units, case.usual_units, case.recent_peak_units, case.usual_peak_units)
    if not all(_is_sound(amount) for amount in amounts):
        return [Reason("not_a_number", "a quantity is missing, negative or not a number", "freeze")]
    _, need, usual, peak, usual_peak = (float(amount or 0) for amount in amounts)
    reasons = []
    if peak > max(rule.max_multiple_of_usual * usual_peak, rule.min_units):
        detail = f"a day of {peak:.0f} units where at most {usual_peak:.0f} were usual"
        reasons.append(Reason("implausible_demand", detail, "freeze"))
    if need > max(rule.max_multiple_of_usual * usual, rule.min_units):
        detail = f"needs {need:.0f} units where {usual:.0f} were usual for the interval"
        reasons.append(Reason("implausible_need", detail, "freeze"))
    return reasons


def _value_reasons(case: OrderCase, policy: ReplenishmentPolicy) -> list[Reason]:
    reasons = []
    unknown = policy.circumstances["unknown_cost"]
    if not _is_sound(case.order_cost_cents) or not _is_sound(case.supplier_cost_cents):
        # Never auto, whatever the policy says: a value that is not known cannot be below a limit.
        reasons.append(Reason("unknown_cost", "the value of the order is not known", _stricter(unknown, "approval")))
        return reasons
    cost, total = float(case.order_cost_cents or 0), float(case.supplier_cost_cents or 0)
    if cost > policy.auto.max_order_cents:
        detail = f"worth {cost / 100:.2f}, above the limit of {policy.auto.max_order_cents / 100:.2f}"
        reasons.append(Reason("value_above_limit", detail, "approval"))
    if total > policy.auto.max_supplier_cents:
        detail = f"its supplier's lines are worth {total / 100:.2f}, above {policy.auto.max_supplier_cents / 100:.2f}"
        reasons.append(Reason("supplier_value_above_limit", detail, "approval"))
    return reasons


def _stricter(one: VerdictKind, other: VerdictKind) -> VerdictKind:
    return one if STRICTNESS[one] >= STRICTNESS[other] else other


def _circumstance_reasons(case: OrderCase, policy: ReplenishmentPolicy) -> list[Reason]:
    mode = case.forecast_mode
    mode_limit = policy.forecast_modes.get(mode, "approval") if mode is not None else "freeze"
    reasons = [
        Reason(code, detail, policy.circumstances.get(code, "freeze"))
        for code, detail in sorted(case.circumstances.items())
    ]
    reasons.append(Reason("degraded_forecast", f"the forecast is {mode or 'missing'}", mode_limit))
    return [reason for reason in reasons if reason.limit != "auto"]


def judge_order(case: OrderCase, policy: ReplenishmentPolicy) -> OrderVerdict:
    """How far an order may go; every rule is asked and the strictest answer holds.

    A feed whose absence the policy answers with `no_action` ends the matter: without stock there is no order to judge.
    A frozen input is said even where nothing would be ordered, since that nothing may rest on it.

    Args:
        case: The order and its circumstances; anything missing, negative or NaN never leads to `auto`.
        policy: Limits.

    Returns:
        The verdict with all reasons, strictest first. An order of zero units is `no_action`, reason `position_covers`.
    """
    feeds = _feed_reasons(case, policy)
    ended = [reason for reason in feeds if reason.limit == "no_action"]
    if ended:
        return OrderVerdict("no_action", tuple(ended))
    reasons = _plausibility_reasons(case, policy)
    is_sound = not any(reason.code == "not_a_number" for reason in reasons)
    if is_sound and not reasons and case.order_units == 0:
        covered = Reason("position_covers", "stock and open orders cover the interval", "no_action")
        frozen = [reason for reason in feeds if reason.limit == "freeze"]
        if not frozen:
            return OrderVerdict("no_action", (covered, *feeds))
        return OrderVerdict("freeze", (*frozen, covered))
    reasons += feeds + _value_reasons(case, policy) + _circumstance_reasons(case, policy)
    reasons.sort(key=lambda reason: -STRICTNESS[reason.limit])
    if not reasons:
        return OrderVerdict("auto", (Reason("within_limits", "inside every limit of the policy", "auto"),))
    return OrderVerdict(reasons[0].limit, tuple(reasons))
