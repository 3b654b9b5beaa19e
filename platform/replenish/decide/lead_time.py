"""The lead time of an item as known at an origin: counts of past deliveries, from the closest group that has any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import polars as pl

from replenish.stores.lake import DeltaLake

LEAD_TIME_TABLE = "features/lead_time"
MIN_LINES = 5
"""Below this many deliveries a group says less than the larger group around it."""

GroupKey = tuple[str | None, str | None, str | None]
"""(supplier_id, sku_id, location_id); None = all of them together."""


@dataclass(frozen=True)
class LeadTimeDistribution:
    """Days from order to receipt: `counts` holds (days, deliveries), ascending."""

    counts: tuple[tuple[int, int], ...]

    @property
    def n_lines(self) -> int:
        """Deliveries seen."""
        return sum(n for _, n in self.counts)

    @property
    def mean_days(self) -> float:
        """Mean lead time [days]."""
        return sum(days * n for days, n in self.counts) / self.n_lines

    def quantile_days(self, level: float) -> int:
        """The smallest number of days in which at least this share of deliveries arrived."""
        seen = 0
        for days, n in self.counts:
            seen += n
            if seen >= level * self.n_lines:
                return days
        return self.counts[-1][0]


def group_lead_times(rows: pl.DataFrame) -> dict[GroupKey, LeadTimeDistribution]:
    """Distributions of every group of `features/lead_time` rows of one origin, and of the groups around them.

    Args:
        rows: `supplier_id`, `lead_time_days`, `n_lines`; `sku_id` and `location_id` where the table is that fine.

    Returns:
        By (supplier, sku, location), (supplier, None, None) and (None, None, None).
    """
    counts: dict[GroupKey, dict[int, int]] = {}
    columns = [c if c in rows.columns else None for c in ("supplier_id", "sku_id", "location_id")]
    for row in rows.iter_rows(named=True):
        supplier, sku, location = (row[c] if c else None for c in columns)
        for key in {(supplier, sku, location), (supplier, None, None), (None, None, None)}:
            days = counts.setdefault(key, {})
            days[row["lead_time_days"]] = days.get(row["lead_time_days"], 0) + row["n_lines"]
    return {key: LeadTimeDistribution(tuple(sorted(days.items()))) for key, days in counts.items()}


def lead_time_of(
    groups: Mapping[GroupKey, LeadTimeDistribution], supplier_id: str | None, sku_id: str, location_id: str
) -> LeadTimeDistribution | None:
    """The closest distribution with enough deliveries: this item, its supplier, all suppliers; None without any."""
    for key in ((supplier_id, sku_id, location_id), (supplier_id, None, None), (None, None, None)):
        found = groups.get(key)
        if found is not None and (found.n_lines >= MIN_LINES or key == (None, None, None)):
            return found
    return None


def read_lead_times(lake: DeltaLake, origin: date) -> dict[GroupKey, LeadTimeDistribution]:
    """The groups known at an origin; empty where the table or the origin is missing."""
    if not lake.has(LEAD_TIME_TABLE):
        return {}
    return group_lead_times(lake.read(LEAD_TIME_TABLE, filters=[("origin_date", "==", origin)]))
