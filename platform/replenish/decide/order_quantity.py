"""How many units to order: what is missing to the order-up-to level, in whole packs, not below the minimum."""

from __future__ import annotations

import math
from dataclasses import dataclass

from replenish.errors import OutOfRange


@dataclass(frozen=True)
class OrderQuantity:
    """An order and what made it: `need_units` was missing, `pack_units` is that in whole packs."""

    need_units: int
    pack_units: int
    order_units: int

    @property
    def is_raised_to_minimum(self) -> bool:
        """Whether the minimum order, not the need, sets the quantity."""
        return self.order_units > self.pack_units


def inventory_position(on_hand_units: int, on_order_units: int, backorders_units: int) -> int:
    """Units that are or will be there: on hand plus on order less what is already owed.

    Source: Snyder and Shen, Fundamentals of Supply Chain Theory, section 4.1.

    >>> inventory_position(12, 24, 3)
    33
    """
    return on_hand_units + on_order_units - backorders_units


def order_quantity(
    base_stock_level_units: float, position_units: int, *, pack_size_units: int, min_order_units: int
) -> OrderQuantity:
    """The order that lifts the position to the level, rounded up.

    Args:
        base_stock_level_units: Order-up-to level [units]; a fraction counts as a whole unit.
        position_units: Inventory position [units].
        pack_size_units: Orders are whole multiples of it, >= 1.
        min_order_units: Smallest order the supplier takes [units], >= 0; rounded up to whole packs.

    Returns:
        Zero where nothing is missing; else at least the need, a multiple of the pack, not below the minimum.

    Raises:
        OutOfRange: A level that is not finite, a pack below 1 or a negative minimum.

    >>> order_quantity(132.8155, 100, pack_size_units=12, min_order_units=0).order_units
    36
    """
    if not math.isfinite(base_stock_level_units) or pack_size_units < 1 or min_order_units < 0:
        raise OutOfRange("level, pack or minimum out of range", level=base_stock_level_units, pack=pack_size_units)
    # A level of 36.0000000001 from interpolation is 36, not a reason for one more unit.
    need = max(math.ceil(round(base_stock_level_units, 6)) - position_units, 0)
    if need == 0:
        return OrderQuantity(0, 0, 0)
    packs = _whole_packs(need, pack_size_units)
    return OrderQuantity(need, packs, max(packs, _whole_packs(min_order_units, pack_size_units)))


def _whole_packs(units: int, pack_size_units: int) -> int:
    return -(-units // pack_size_units) * pack_size_units
