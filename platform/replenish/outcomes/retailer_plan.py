"""What a built-in retailer is asked to be, and the random streams it is drawn from.

Every draw has its own stream per purpose and day. So a longer world begins with the days of a shorter one, and a shift
of demand leaves every earlier day, and every other draw, as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from enum import IntEnum

import numpy as np

from replenish.errors import OutOfRange

RETAILER_ZONE = "Europe/Berlin"
CATEGORY_IDS = ("C1", "C2", "C3")


@dataclass(frozen=True)
class DemandShift:
    """From `from_day` (0 = first day) on, true demand of one category is multiplied by `factor`."""

    category_id: str
    factor: float
    from_day: int


@dataclass(frozen=True)
class RecordShares:
    """Shares of a day's sale lines that come late, that are corrected later, and that are taken back again."""

    late: float = 0.02
    corrected: float = 0.005
    retracted: float = 0.002


@dataclass(frozen=True)
class RetailerPlan:
    """Size, seed and peculiarities of a built-in retailer.

    `n_days` are the days up to the origin; the world goes on for `n_extra_days`, which tests may drop day by day.
    `with_faults` adds what goes wrong in real files: rows with text for a number, negative prices, repeated rows, one
    absurd sale on the last day and a location whose stock counts stop three days before the end. Late, corrected and
    retracted records are ordinary life and always there.
    """

    seed: int
    n_skus: int = 50
    n_locations: int = 3
    n_days: int = 400
    first_date: date = date(2024, 1, 1)
    demand_shift: DemandShift | None = None
    with_faults: bool = True
    n_extra_days: int = 14
    shares: RecordShares = RecordShares()

    def __post_init__(self) -> None:
        if min(self.n_skus, self.n_locations, self.n_days) < 1 or self.n_extra_days < 0:
            raise OutOfRange("a retailer has at least one sku, location and day", seed=self.seed)
        if self.demand_shift is not None and self.demand_shift.category_id not in CATEGORY_IDS:
            raise OutOfRange("no such category", category_id=self.demand_shift.category_id)

    @property
    def n_world_days(self) -> int:
        """Days that exist at all: those up to the origin and those after it."""
        return self.n_days + self.n_extra_days

    @property
    def first_daily_file_day(self) -> int:
        """From this day on files come daily, before it monthly: the first of the month, at least four weeks back.

        No month has both kinds: by name `sales-2024-12-31.csv` comes before `sales-2024-12.csv`.
        """
        four_weeks_back = self.first_date + timedelta(days=self.n_days - 28)
        return max((four_weeks_back.replace(day=1) - self.first_date).days, 0)


class Draw(IntEnum):
    """Purposes of random streams; the numbers are part of what a seed means and never change."""

    ASSORTMENT = 1
    PRICES = 2
    DEMAND = 3
    LEAD_TIMES = 4
    BASKETS = 5
    SALES_KNOWLEDGE = 6
    STOCK_KNOWLEDGE = 7
    SUPPLY_KNOWLEDGE = 8
    FAULTS = 9


def draw_stream(seed: int, draw: Draw, day: int = 0) -> np.random.Generator:
    """The random stream of one purpose on one day; equal arguments give equal draws (PCG64)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, int(draw), day])))
