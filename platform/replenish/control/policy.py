"""The replenishment policy: a YAML file with a closed schema, read into typed values.

What is not understood is refused: an unknown field, a missing one, a wrong type, NaN or a number out of range raises
`ContractError` and no decision is made. How the policy is applied to one order is `control.order_verdict`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import yaml

from replenish.digests import json_digest
from replenish.errors import ContractError

POLICY_FILE = Path(__file__).resolve().parents[2] / "policies" / "replenishment.yaml"

VerdictKind = Literal["auto", "approval", "freeze", "no_action"]
ObjectiveKind = Literal["critical_ratio", "cycle_service_level", "fill_rate"]
FeedState = Literal["ok", "warn", "fail", "never", "missing"]

CIRCUMSTANCES = (
    "horizon_too_short",
    "assumed_inputs",
    "unknown_cost",
    "below_supplier_minimum",
    "pack_above_usual",
    "unconfirmed_order",
)
"""What may hold of an order beside its feeds and its forecast; a policy names a limit for each."""


@dataclass(frozen=True)
class Objective:
    """What the order-up-to level aims at. Ratios lie in (0, 1)."""

    kind: ObjectiveKind
    target: float | None
    underage_share_of_margin: float
    overage_share_of_cost: float
    default_ratio: float
    min_ratio: float
    max_ratio: float


@dataclass(frozen=True)
class AutoLimits:
    """Values [cents] above which a person decides: one order, and all lines of one supplier at one origin."""

    max_order_cents: int
    max_supplier_cents: int


@dataclass(frozen=True)
class Plausibility:
    """Bounds [units, days] beyond which an input is taken for broken and the decision is frozen."""

    max_multiple_of_usual: float
    min_units: int
    recent_days: int
    usual_days: int


@dataclass(frozen=True)
class OpenOrders:
    """How long [days] an order counts: an open purchase order line, and one sent and not yet confirmed."""

    max_open_days: int
    confirm_within_days: int


@dataclass(frozen=True)
class ReplenishmentPolicy:
    """The whole policy. `late_feeds`, `forecast_modes` and `circumstances` name the furthest verdict each allows."""

    policy_id: str
    version: str
    owner: str
    objective: Objective
    review_period_days: int
    auto: AutoLimits
    plausibility: Plausibility
    orders: OpenOrders
    late_feeds: Mapping[str, Mapping[str, VerdictKind]]
    forecast_modes: Mapping[str, VerdictKind]
    circumstances: Mapping[str, VerdictKind]

    @property
    def policy_digest(self) -> str:
        """sha256 of the policy's content; comments and layout of the file do not count."""
        return json_digest(asdict(self))


class _Fields:
    """One mapping of the file, from which every field is taken exactly once; `close` refuses what is left."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
            raise ContractError("expected a mapping with text keys", policy=where)
        self._left: dict[str, Any] = dict(value)
        self.where = where

    def take(self, name: str) -> Any:
        if name not in self._left:
            raise ContractError("field is missing", policy=self.where, field=name)
        return self._left.pop(name)

    def refuse(self, name: str, rule: str, value: object) -> ContractError:
        return ContractError(rule, policy=self.where, field=name, value=repr(value))

    def text(self, name: str) -> str:
        value = self.take(name)
        if not isinstance(value, str) or not value:
            raise self.refuse(name, "expected text", value)
        return value

    def integer(self, name: str, low: int) -> int:
        value = self.take(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise self.refuse(name, f"expected a whole number of at least {low}", value)
        return value

    def number(self, name: str, low: float, high: float) -> float:
        value = self.take(name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not low < value < high:
            raise self.refuse(name, f"expected a number between {low} and {high}", value)
        return float(value)

    def verdict(self, name: str) -> VerdictKind:
        value = self.take(name)
        if value not in get_args(VerdictKind):
            raise self.refuse(name, "expected auto, approval, freeze or no_action", value)
        return cast(VerdictKind, value)

    def section(self, name: str) -> _Fields:
        return _Fields(self.take(name), f"{self.where}:{name}")

    def verdicts(self, name: str) -> dict[str, VerdictKind]:
        section = self.section(name)
        return {key: section.verdict(key) for key in sorted(section.names)}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._left)

    def close(self) -> None:
        if self._left:
            raise ContractError("unknown field", policy=self.where, field=sorted(self._left)[0])


def _objective(fields: _Fields) -> Objective:
    kind = fields.take("kind")
    if kind not in get_args(ObjectiveKind):
        raise fields.refuse("kind", "expected critical_ratio, cycle_service_level or fill_rate", kind)
    is_by_costs = kind == "critical_ratio"
    if is_by_costs and fields.take("target") is not None:
        raise ContractError("a critical ratio follows from costs: leave target null", policy=fields.where)
    objective = Objective(
        kind=kind,
        target=None if is_by_costs else fields.number("target", 0.0, 1.0),
        underage_share_of_margin=fields.number("underage_share_of_margin", 0.0, 1000.0),
        overage_share_of_cost=fields.number("overage_share_of_cost", 0.0, 10.0),
        default_ratio=fields.number("default_ratio", 0.0, 1.0),
        min_ratio=fields.number("min_ratio", 0.0, 1.0),
        max_ratio=fields.number("max_ratio", 0.0, 1.0),
    )
    if not objective.min_ratio <= objective.default_ratio <= objective.max_ratio:
        raise ContractError("expected min_ratio <= default_ratio <= max_ratio", policy=fields.where)
    fields.close()
    return objective


def _late_feeds(fields: _Fields) -> dict[str, dict[str, VerdictKind]]:
    limits: dict[str, dict[str, VerdictKind]] = {}
    for stream in sorted(fields.names):
        states = fields.section(stream)
        limits[stream] = {state: states.verdict(state) for state in ("warn", "fail", "never", "missing")}
        states.close()
    return limits


def _section(fields: _Fields, name: str, **lows: int) -> dict[str, int]:
    section = fields.section(name)
    values = {key: section.integer(key, low) for key, low in lows.items()}
    section.close()
    return values


def _plausibility(fields: _Fields) -> Plausibility:
    plausibility = Plausibility(
        max_multiple_of_usual=fields.number("max_multiple_of_usual", 1.0, 1e6),
        min_units=fields.integer("min_units", 0),
        recent_days=fields.integer("recent_days", 1),
        usual_days=fields.integer("usual_days", 1),
    )
    fields.close()
    return plausibility


def parse_policy(value: object, where: str) -> ReplenishmentPolicy:
    """The policy held by a parsed YAML document.

    Args:
        value: What the YAML reader returned.
        where: Name of the file, for messages.

    Raises:
        ContractError: A field is missing, unknown, of a wrong type or out of range.
    """
    fields = _Fields(value, where)
    policy = ReplenishmentPolicy(
        policy_id=fields.text("policy_id"),
        version=fields.text("version"),
        owner=fields.text("owner"),
        objective=_objective(fields.section("objective")),
        review_period_days=fields.integer("review_period_days", 1),
        auto=AutoLimits(**_section(fields, "auto", max_order_cents=0, max_supplier_cents=0)),
        plausibility=_plausibility(fields.section("plausibility")),
        orders=OpenOrders(**_section(fields, "orders", max_open_days=1, confirm_within_days=1)),
        late_feeds=_late_feeds(fields.section("late_feeds")),
        forecast_modes=fields.verdicts("forecast_modes"),
        circumstances=fields.verdicts("circumstances"),
    )
    fields.close()
    if set(policy.circumstances) != set(CIRCUMSTANCES):
        raise ContractError(f"expected exactly {', '.join(CIRCUMSTANCES)}", policy=f"{where}:circumstances")
    return policy


def read_policy(path: Path = POLICY_FILE) -> ReplenishmentPolicy:
    """The policy in a YAML file, by default the platform's own.

    Raises:
        ContractError: The file is not YAML, or `parse_policy` refuses its content.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as fault:
        raise ContractError("not readable as YAML", policy=path.name) from fault
    return parse_policy(value, path.name)
