"""How long an order has to last: lead times as counts, and the protection interval they make with the review period."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from replenish.bitemporal import live_versions, origin_instant
from replenish.contracts.dataset import Dataset
from replenish.errors import NotApplicable
from replenish.stores.lake import DeltaLake

LEAD_TIME_TABLE = "features/lead_time"
DEFAULT_REVIEW_DAYS = 7
"""An order chance a week, for suppliers that name none: the policy file says the same."""


@dataclass(frozen=True)
class ProtectionInterval:
    """Lengths [days], ascending, and their probabilities."""

    days: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]

    @property
    def mean_days(self) -> float:
        """Expected length [days]."""
        return float((self.days * self.weights).sum())

    @property
    def max_days(self) -> int:
        """Longest length that was ever seen [days]."""
        return int(self.days[-1])


class LeadTimeMix:
    """Protection intervals of series, from what was known at one origin.

    A series takes the lead times of its supplier at its location, else of its supplier, else of all suppliers; without
    any receipts the assumption `lead_time_days` of the data set stands in.
    """

    def __init__(
        self,
        counts: dict[tuple[str | None, str | None], dict[int, int]],
        supplier_of: dict[str, str],
        review_days_of: dict[str, int],
        default_review_days: int,
    ) -> None:
        self._counts = counts
        self._supplier_of = supplier_of
        self._review_days_of = review_days_of
        self._default_review_days = default_review_days

    def interval(self, sku_id: str, location_id: str) -> ProtectionInterval:
        """Lead time plus review period of one series; NotApplicable where no lead time is known at all."""
        supplier = self._supplier_of.get(sku_id)
        for key in ((supplier, location_id), (supplier, None), (None, None)):
            if counts := self._counts.get(key):
                break
        else:
            raise NotApplicable("no lead time is known", sku_id=sku_id, supplier_id=supplier)
        review = self._review_days_of.get(supplier or "", self._default_review_days)
        lead = sorted(counts)
        lines = np.array([counts[days] for days in lead], dtype=np.float64)
        return ProtectionInterval(np.array(lead, dtype=np.int64) + review, lines / lines.sum())


def read_lead_time_mix(
    lake: DeltaLake, dataset: Dataset, origin: date, default_review_days: int = DEFAULT_REVIEW_DAYS
) -> LeadTimeMix:
    """The mix as known at an origin; where `features/lead_time` has no rows of that origin, of the newest before it."""
    as_of = origin_instant(origin, dataset.zone, dataset.cutoff)
    products = _live(lake, "gold/dim_product", "sku_id", as_of)
    suppliers = _live(lake, "gold/dim_supplier", "supplier_id", as_of)
    return LeadTimeMix(
        counts=_counts(lake, dataset, origin),
        supplier_of=_pairs(products, "sku_id", "supplier_id"),
        review_days_of=_pairs(suppliers, "supplier_id", "review_period_days"),
        default_review_days=default_review_days,
    )


def _counts(lake: DeltaLake, dataset: Dataset, origin: date) -> dict[tuple[str | None, str | None], dict[int, int]]:
    counts: dict[tuple[str | None, str | None], dict[int, int]] = {}
    rows = lake.read(LEAD_TIME_TABLE) if lake.has(LEAD_TIME_TABLE) else pl.DataFrame()
    known = rows.filter(pl.col("origin_date") <= origin) if rows.height else rows
    if known.height:
        newest = known.filter(pl.col("origin_date") == pl.col("origin_date").max())
        for row in newest.sort("supplier_id", "location_id", "lead_time_days").iter_rows(named=True):
            keys = [(row["supplier_id"], row["location_id"])]
            # Rows of a location repeat lines of the whole supplier: only the latter make the mix of all.
            keys += [(None, None)] if row["location_id"] is None else []
            for key in keys:
                found = counts.setdefault(key, {})
                found[row["lead_time_days"]] = found.get(row["lead_time_days"], 0) + row["n_lines"]
    assumed = dataset.assumptions.get("lead_time_days")
    if not counts and isinstance(assumed, int):
        counts[(None, None)] = {assumed: 1}
    return counts


def _live(lake: DeltaLake, table: str, key: str, as_of: datetime) -> pl.DataFrame:
    if not lake.has(table):
        return pl.DataFrame()
    ledger = lake.read(table)
    live = live_versions(ledger, key=[key, "event_time"], as_of=as_of).filter(pl.col("event_time") <= as_of)
    return live.sort(key, "event_time").group_by(key, maintain_order=True).last()


def _pairs(frame: pl.DataFrame, key: str, value: str) -> dict[str, Any]:
    if frame.is_empty():
        return {}
    return dict(frame.filter(pl.col(value).is_not_null()).select(key, value).iter_rows())
