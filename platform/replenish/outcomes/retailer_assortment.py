"""What the built-in retailer sells, where, and from whom: the hidden parameters of its world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replenish.outcomes.retailer_plan import CATEGORY_IDS, Draw, RetailerPlan, draw_stream


@dataclass(frozen=True)
class HiddenSupplier:
    """A supplier as it really is: lead times are 1 + a gamma number of days, rounded, at most `lead_days_max`."""

    supplier_id: str
    name: str
    review_days: int
    promised_days: int
    lead_days_mean: float
    lead_days_sd: float
    lead_days_max: int
    min_order_value_cents: int


HIDDEN_SUPPLIERS = (
    HiddenSupplier("V1", "Nordhafen Foods", 2, 3, 3.0, 0.8, 7, 5_000),
    HiddenSupplier("V2", "Elbe Household", 3, 5, 5.0, 1.3, 10, 10_000),
    HiddenSupplier("V3", "Alpine Goods", 7, 7, 7.5, 1.8, 13, 15_000),
    HiddenSupplier("V4", "Erratic Imports", 7, 8, 9.0, 4.0, 20, 20_000),
)
"""The longest lead time plus review period stays below 28 days: the horizon of the daily forecast profile."""

WEEKLY_PROFILE = np.array(
    [
        [0.90, 0.85, 0.90, 0.95, 1.15, 1.35, 0.90],
        [0.95, 0.95, 0.95, 1.00, 1.10, 1.20, 0.85],
        [0.75, 0.80, 0.85, 0.95, 1.20, 1.50, 0.95],
    ]
)
"""Factor per category and weekday (Monday first); each row has mean 1."""

YEARLY_AMPLITUDE = (0.06, 0.12, 0.20)
YEARLY_PEAK_DAY = (350, 200, 355)
"""Per category: relative height of the yearly wave and the day of the year on which it peaks."""

INTERMITTENT_SHARE = 0.12


@dataclass(frozen=True)
class Assortment:
    """Hidden parameters. Arrays over skus have shape (n_skus,), `level` (n_locations, n_skus), in units a day."""

    sku_ids: tuple[str, ...]
    location_ids: tuple[str, ...]
    category: np.ndarray
    supplier: np.ndarray
    level: np.ndarray
    dispersion: np.ndarray
    """Shape of the gamma that mixes the Poisson rate: small = lumpy."""
    trend_per_year: np.ndarray
    elasticity: np.ndarray
    promotion_uplift: np.ndarray
    unit_cost_cents: np.ndarray
    list_price_cents: np.ndarray
    pack_size_units: np.ndarray
    min_order_units: np.ndarray

    @property
    def n_skus(self) -> int:
        """How many articles it sells."""
        return len(self.sku_ids)

    @property
    def n_locations(self) -> int:
        """How many stores it has."""
        return len(self.location_ids)


def build_assortment(plan: RetailerPlan) -> Assortment:
    """Draw the hidden parameters of every sku and location."""
    rng = draw_stream(plan.seed, Draw.ASSORTMENT)
    n = plan.n_skus
    width = max(3, len(str(n)))
    is_intermittent = np.arange(n) % round(1 / INTERMITTENT_SHARE) == 3
    base = np.clip(rng.lognormal(np.log(2.4), 0.95, n), 0.5, 22.0)
    base = np.where(is_intermittent, rng.uniform(0.3, 0.6, n), base)
    share = rng.uniform(0.7, 1.35, plan.n_locations)
    level = np.clip(base[None, :] * share[:, None] * rng.uniform(0.8, 1.25, (plan.n_locations, n)), 0.3, 30.0)
    cost = np.clip(rng.lognormal(np.log(300), 0.8, n), 40, 3_000).astype(np.int64)
    margin = rng.uniform(1.35, 1.9, n)
    packs = np.array([1, 4, 6, 12, 24])
    pack = packs[np.searchsorted([0.8, 2.0, 5.0, 12.0], base)]
    return Assortment(
        sku_ids=tuple(f"A{i + 1:0{width}d}" for i in range(n)),
        location_ids=tuple(f"S{i + 1}" for i in range(plan.n_locations)),
        category=np.arange(n) % len(CATEGORY_IDS),
        supplier=rng.choice(len(HIDDEN_SUPPLIERS), n, p=[0.35, 0.3, 0.2, 0.15]),
        level=level,
        dispersion=np.where(is_intermittent, 0.35, rng.uniform(5.0, 15.0, n)),
        trend_per_year=rng.uniform(-0.12, 0.15, n),
        elasticity=rng.uniform(1.0, 2.2, n),
        promotion_uplift=rng.uniform(1.1, 1.5, n),
        unit_cost_cents=cost,
        list_price_cents=np.round(cost * margin / 10).astype(np.int64) * 10 + 9,
        pack_size_units=pack,
        min_order_units=pack * np.where(rng.random(n) < 0.3, 2, 1),
    )
