"""The order-up-to level: how much stock and open orders have to cover, from quantiles of protection-interval demand.

Demand of the protection interval is given by a *grid*: levels ascending in (0, 1) and the quantile at each [units].
Between levels quantiles are interpolated linearly; outside them the grid knows nothing and its end is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replenish.control.policy import Objective
from replenish.errors import OutOfRange


@dataclass(frozen=True)
class DemandGrid:
    """Quantiles [units] of protection-interval demand at `levels`, and its mean [units]."""

    levels: tuple[float, ...]
    quantiles: tuple[float, ...]
    mean: float

    def __post_init__(self) -> None:
        """Refuse a grid that is no distribution."""
        if len(self.levels) != len(self.quantiles) or not self.levels:
            raise OutOfRange("a grid has one quantile per level", n_levels=len(self.levels))
        if not np.all(np.isfinite([*self.levels, *self.quantiles, self.mean])):
            raise OutOfRange("a grid holds finite numbers only")
        if np.any(np.diff(self.levels) <= 0) or self.levels[0] <= 0 or self.levels[-1] >= 1:
            raise OutOfRange("levels ascend within (0, 1)")
        if np.any(np.diff(self.quantiles) < 0):
            raise OutOfRange("quantiles never fall as the level rises")

    def quantile(self, level: float) -> float:
        """Demand [units] not exceeded with probability `level`."""
        return float(np.interp(level, self.levels, self.quantiles))

    def probability(self, units: float) -> float:
        """Probability that demand stays at or below `units`; the largest such level of the grid."""
        if units < self.quantiles[0]:
            return 0.0
        place = int(np.searchsorted(self.quantiles, units, side="right"))
        if place == len(self.quantiles):
            return self.levels[-1]
        low, high = self.quantiles[place - 1], self.quantiles[place]
        share = (units - low) / (high - low)
        return self.levels[place - 1] + share * (self.levels[place] - self.levels[place - 1])

    def expected_shortage(self, units: float) -> float:
        """Demand [units] beyond `units` to be expected: the integral of (quantile - units)+ over the levels.

        Above the last level its quantile is taken, so the farthest tail is left out.

        Source: Snyder and Shen, Fundamentals of Supply Chain Theory, section 4.3 (loss function), for a grid.
        """
        excess = np.maximum(np.asarray(self.quantiles) - units, 0.0)
        body = float(np.trapezoid(excess, self.levels))
        crossing = self.probability(units)
        place = int(np.searchsorted(self.quantiles, units, side="right"))
        if 0 < place < len(self.quantiles):
            # The trapezoid starts at the level below the crossing; the excess starts at the crossing itself.
            body -= 0.5 * excess[place] * (crossing - self.levels[place - 1])
        return body + float(excess[0]) * self.levels[0] + float(excess[-1]) * (1.0 - self.levels[-1])


@dataclass(frozen=True)
class BaseStockLevel:
    """An order-up-to level [units] with the ratio aimed at and how it was found."""

    units: float
    target: float
    basis: str


def critical_ratio(underage_cost: float, overage_cost: float) -> float:
    """Probability of no stock-out at which one more unit costs as much as it saves.

    Args:
        underage_cost: Cost per unit short, textbook symbol p, >= 0 and not both zero.
        overage_cost: Cost per unit left, textbook symbol h, >= 0.

    Raises:
        OutOfRange: A cost is negative or both are zero.

    Source: Snyder and Shen, Fundamentals of Supply Chain Theory, section 4.3 (newsvendor).

    >>> critical_ratio(18.0, 2.0)
    0.9
    """
    if not (underage_cost >= 0 and overage_cost >= 0 and underage_cost + overage_cost > 0):
        raise OutOfRange("costs are not negative and not both zero", underage=underage_cost, overage=overage_cost)
    return underage_cost / (underage_cost + overage_cost)


def ratio_from_costs(unit_cost_cents: int | None, unit_price_cents: int | None, objective: Objective) -> float | None:
    """The critical ratio of an item inside the policy's bounds; None where cost, price or margin does not say."""
    if unit_cost_cents is None or unit_price_cents is None:
        return None
    margin = unit_price_cents - unit_cost_cents
    if margin <= 0 or unit_cost_cents <= 0:
        return None
    underage = objective.underage_share_of_margin * margin
    ratio = critical_ratio(underage, objective.overage_share_of_cost * unit_cost_cents)
    return min(max(ratio, objective.min_ratio), objective.max_ratio)


def fill_rate_level(grid: DemandGrid, fill_rate: float, cycle_share: float) -> float:
    """The smallest level [units] of which at least `fill_rate` of demand is met from stock.

    Args:
        grid: Demand of the protection interval.
        fill_rate: Target in (0, 1).
        cycle_share: Review period / protection interval, in (0, 1]: what is short once per cycle is held against the
            demand of one cycle.

    Source: Silver, Pyke and Thomas, Inventory and Production Management, section 6.9 (periodic review, order up to).
    """
    if not 0 < fill_rate < 1 or not 0 < cycle_share <= 1:
        raise OutOfRange("fill rate and cycle share lie in (0, 1]", fill_rate=fill_rate, cycle_share=cycle_share)
    allowed = (1.0 - fill_rate) * grid.mean * cycle_share
    low, high = 0.0, max(grid.quantiles[-1], 0.0)
    if grid.expected_shortage(high) > allowed:
        return high
    # Shortage falls as the level rises; 60 halvings take any range of units below a millionth.
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if grid.expected_shortage(middle) > allowed else (low, middle)
    return high


def base_stock_level(
    grid: DemandGrid,
    objective: Objective,
    *,
    unit_cost_cents: int | None,
    unit_price_cents: int | None,
    cycle_share: float,
) -> BaseStockLevel:
    """The order-up-to level of one item for the policy's objective.

    Raises:
        OutOfRange: The objective needs a target and has none.
    """
    if objective.kind == "critical_ratio":
        ratio = ratio_from_costs(unit_cost_cents, unit_price_cents, objective)
        basis = "default_ratio" if ratio is None else "critical_ratio"
        target = objective.default_ratio if ratio is None else ratio
        return BaseStockLevel(max(grid.quantile(target), 0.0), target, basis)
    if objective.target is None:
        raise OutOfRange("this objective needs a target", kind=objective.kind)
    if objective.kind == "cycle_service_level":
        return BaseStockLevel(max(grid.quantile(objective.target), 0.0), objective.target, objective.kind)
    return BaseStockLevel(fill_rate_level(grid, objective.target, cycle_share), objective.target, objective.kind)
