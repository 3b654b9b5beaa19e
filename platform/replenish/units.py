"""Scales of the integers in which sums are kept: nothing is added up in floating point."""

from __future__ import annotations

CENTS_PER_UNIT_OF_MONEY = 100
MILLI = 1000
"""Estimated quantities (forecast means, quantiles) are stored in thousandths of a unit."""

MICROSECONDS_PER_DAY = 86_400_000_000
"""Timestamps are int64 microseconds since the epoch, in UTC."""


def to_milli(units: float) -> int:
    """Thousandths of a unit, rounded half to even.

    >>> to_milli(1.2345)
    1234
    """
    return round(units * MILLI)


def from_milli(units_milli: int) -> float:
    """Units from thousandths.

    >>> from_milli(1500)
    1.5
    """
    return units_milli / MILLI
