"""Which columns of the forecast's features mean the same as features of a daily set; the one list of both homes.

`feat_demand` counts periods and reads gold in its own code; a daily set counts days and is declared. Where a profile's
period is a day, the columns named here are equal at every origin.
"""

from __future__ import annotations

from collections.abc import Iterable

from replenish.features.definitions.model import FeatureSet

COMPARED_SET = "demand_daily"
"""The set that says what the forecast reads, as far as the vocabulary can."""

SAID_OTHERWISE = {
    "periods_since_first_sale": "days_since_first_sale",
    "periods_since_last_sale": "days_since_last_sale",
    "active_periods__": "active_days__",
}
"""Names of the forecast's columns, which count periods, and those of the daily set."""

NOT_SAID_YET = (
    *("in_stock_units__", "in_stock_days__", "in_stock_mean__", "price_ratio__", "lead_time_"),
    *("unconstrained_milli_sum__", "lost_milli_sum__"),
)
"""They need two ledgers at once, estimates, or latest values over several origins: more than the vocabulary says."""


def daily_name(column: str) -> str:
    """What the daily set calls a column of the forecast's features.

    >>> daily_name("active_periods__28")
    'active_days__28'
    """
    for old, new in SAID_OTHERWISE.items():
        column = column.replace(old, new)
    return column


def columns_said_twice(feature_set: FeatureSet, columns: Iterable[str]) -> dict[str, str]:
    """Of the forecast's columns those that the set has as features: column to feature."""
    names = {column: daily_name(column) for column in columns}
    return {column: name for column, name in names.items() if name in feature_set.feature_names}
