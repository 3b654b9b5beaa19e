"""One order line: its quantity with every term that made it, and the case it puts before the policy. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from replenish.control.freshness import FreshnessVerdict
from replenish.control.order_verdict import OrderCase
from replenish.control.policy import FeedState, ReplenishmentPolicy
from replenish.decide.base_stock import BaseStockLevel, DemandGrid, base_stock_level
from replenish.decide.lead_time import LeadTimeDistribution
from replenish.decide.order_quantity import OrderQuantity, inventory_position, order_quantity
from replenish.units import CENTS_PER_UNIT_OF_MONEY, from_milli


@dataclass(frozen=True)
class OrderLine:
    """A line before its verdict. `row`: the inputs; None where the inputs do not allow the term."""

    row: Mapping[str, Any]
    review_period_days: int
    level: BaseStockLevel
    position_units: int | None
    quantity: OrderQuantity | None
    order_cost_cents: int | None
    lead_time: LeadTimeDistribution | None

    @property
    def on_order_units(self) -> int:
        """Open purchase orders, and orders sent from here that are not yet seen as such."""
        return int(self.row["on_order_units"]) + int(self.row["pending_units"])

    @property
    def usual_units(self) -> float:
        """Demand of a protection interval as it used to be [units]."""
        return float(self.row["usual_units_total"]) / self.row["usual_days"] * self.row["protection_days_mean"]


def order_line(
    row: Mapping[str, Any], policy: ReplenishmentPolicy, lead_time: LeadTimeDistribution | None
) -> OrderLine:
    """The line of one item from a row of `order_inputs.read_order_inputs`."""
    review_days = row["review_period_days"] or policy.review_period_days
    grid = DemandGrid(
        tuple(row["levels"]),
        tuple(from_milli(units) for units in row["quantiles_milli"]),
        from_milli(row["mean_milli"]),
    )
    level = base_stock_level(
        grid,
        policy.objective,
        unit_cost_cents=row["unit_cost_cents"],
        unit_price_cents=row["unit_price_cents"],
        cycle_share=min(review_days / row["protection_days_mean"], 1.0),
    )
    if row["on_hand_units"] is None:
        return OrderLine(row, review_days, level, None, None, None, lead_time)
    on_order = int(row["on_order_units"]) + int(row["pending_units"])
    position = inventory_position(row["on_hand_units"], on_order, row["backorders_units"])
    quantity = order_quantity(
        level.units,
        position,
        pack_size_units=max(row["pack_size_units"] or 1, 1),
        min_order_units=max(row["min_order_units"] or 0, 0),
    )
    cost = None if row["unit_cost_cents"] is None else quantity.order_units * row["unit_cost_cents"]
    return OrderLine(row, review_days, level, position, quantity, cost, lead_time)


def feed_states(
    row: Mapping[str, Any], freshness: FreshnessVerdict, policy: ReplenishmentPolicy
) -> dict[str, FeedState]:
    """State of each stream the policy names, for the location of this item; an assumed stock needs no feed."""
    states: dict[str, FeedState] = {
        stream: freshness.state_of(stream, row["location_id"]) for stream in policy.late_feeds
    }
    if "on_hand_units" in row["assumed"].split(","):
        states["stock_counts"] = "ok"
    elif row["on_hand_units"] is None and states.get("stock_counts") != "missing":
        states["stock_counts"] = "never"
    return states


def order_case(
    line: OrderLine,
    freshness: FreshnessVerdict,
    policy: ReplenishmentPolicy,
    *,
    supplier_cost_cents: int | None,
    origin: date,
) -> OrderCase:
    """The line as the policy sees it; `supplier_cost_cents`: all lines of its supplier together, None = unknown."""
    row, quantity = line.row, line.quantity
    return OrderCase(
        order_units=None if quantity is None else quantity.order_units,
        need_units=None if quantity is None else quantity.need_units,
        order_cost_cents=line.order_cost_cents,
        supplier_cost_cents=supplier_cost_cents,
        usual_units=line.usual_units,
        recent_peak_units=row["recent_peak_units"],
        usual_peak_units=row["usual_peak_units"],
        feeds=feed_states(row, freshness, policy),
        forecast_mode=row["mode"],
        circumstances=_circumstances(line, policy, supplier_cost_cents, origin),
    )


def _circumstances(
    line: OrderLine, policy: ReplenishmentPolicy, supplier_cost_cents: int | None, origin: date
) -> dict[str, str]:
    row, quantity, found = line.row, line.quantity, {}
    if not row["horizon_ok"]:
        found["horizon_too_short"] = f"the interval of up to {row['protection_days_max']} days is beyond the forecast"
    if row["assumed"]:
        found["assumed_inputs"] = f"assumed, not known: {row['assumed'].replace(',', ', ')}"
    minimum = row["min_order_cents"]
    if minimum is not None and supplier_cost_cents is not None and supplier_cost_cents < minimum:
        found["below_supplier_minimum"] = (
            f"its supplier's lines are worth {money(supplier_cost_cents)} of {money(minimum)}"
        )
    usual = max(policy.plausibility.max_multiple_of_usual * line.usual_units, policy.plausibility.min_units)
    if quantity is not None and quantity.order_units > usual >= quantity.need_units:
        found["pack_above_usual"] = f"pack and minimum make {quantity.order_units} of the {quantity.need_units} needed"
    oldest = row["oldest_pending_date"]
    if oldest is not None and (origin - oldest).days > policy.orders.confirm_within_days:
        found["unconfirmed_order"] = f"the order sent on {oldest} was never seen as a purchase order"
    return found


def money(cents: int) -> str:
    """An amount with two decimals.

    >>> money(123456)
    '1,234.56'
    """
    return f"{cents / CENTS_PER_UNIT_OF_MONEY:,.2f}"


def explain_line(line: OrderLine) -> str:
    """One sentence: why this quantity."""
    row, quantity = line.row, line.quantity
    aim = f"{line.level.target:.3f} {line.level.basis.replace('_', ' ')}"
    demand = (
        f"demand over {row['protection_days_mean']:.1f} days is {from_milli(row['mean_milli']):.1f} on average "
        f"and {line.level.units:.1f} at the {aim}"
    )
    if quantity is None:
        return f"No order: {demand}, but stock is not known."
    position = f"{row['on_hand_units']} on hand, {line.on_order_units} on order, {row['backorders_units']} owed"
    if quantity.need_units == 0:
        return f"No order: {demand}; {position} cover it."
    steps = [f"{quantity.need_units} needed"]
    if quantity.pack_units > quantity.need_units:
        steps.append(f"{quantity.pack_units} in packs of {row['pack_size_units']}")
    if quantity.is_raised_to_minimum:
        steps.append(f"{quantity.order_units} as the least order is {row['min_order_units']}")
    return f"Order {quantity.order_units}: {demand}; {position}; {', '.join(steps)}."
