"""The lead time of an item as known at an origin: counts of past deliveries, from the closest group that has any.

The groups are those the forecast of the protection interval takes, so a decision shows the lead time it rests on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import polars as pl

from replenish.stores.lake import DeltaLake

LEAD_TIME_TABLE = "features/lead_time"

GroupKey = tuple[str | None, str | None]
"""(supplier_id, location_id); None = all of them together."""


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
    """Distributions of every group of `features/lead_time` rows of one origin, and of all suppliers together.

    Args:
        rows: `supplier_id`, `location_id` (null: the whole supplier), `lead_time_days`, `n_lines`.
    """
    counts: dict[GroupKey, dict[int, int]] = {}
    for supplier, location, lead_time, n_lines in rows.select(
        "supplier_id", "location_id", "lead_time_days", "n_lines"
    ).iter_rows():
        # Rows of a location repeat lines of the whole supplier: only the latter make the sum of all.
        for key in ((supplier, location), *(((None, None),) if location is None else ())):
            days = counts.setdefault(key, {})
            days[lead_time] = days.get(lead_time, 0) + n_lines
    return {key: LeadTimeDistribution(tuple(sorted(days.items()))) for key, days in counts.items()}


def lead_time_of(
    groups: Mapping[GroupKey, LeadTimeDistribution], supplier_id: str | None, location_id: str
) -> LeadTimeDistribution | None:
    """The closest distribution: the supplier's at this location, the supplier's, that of all; None without any."""
    for key in ((supplier_id, location_id), (supplier_id, None), (None, None)):
        if key in groups:
            return groups[key]
    return None


def read_lead_times(lake: DeltaLake, origin: date) -> dict[GroupKey, LeadTimeDistribution]:
    """The groups known at an origin; empty where the table or the origin is missing."""
    if not lake.has(LEAD_TIME_TABLE):
        return {}
    return group_lead_times(lake.read(LEAD_TIME_TABLE, filters=[("origin_date", "==", origin)]))
