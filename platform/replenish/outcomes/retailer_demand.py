"""The built-in retailer's hidden true demand: what customers want, whether or not it is on the shelf."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from replenish.outcomes.retailer_assortment import WEEKLY_PROFILE, YEARLY_AMPLITUDE, YEARLY_PEAK_DAY, Assortment
from replenish.outcomes.retailer_plan import CATEGORY_IDS, Draw, RetailerPlan, draw_stream
from replenish.outcomes.retailer_prices import PricePlan


def expected_demand(plan: RetailerPlan, assortment: Assortment, prices: PricePlan) -> np.ndarray:
    """Mean units wanted, shape (n_days, n_locations, n_skus).

    level x weekday x yearly wave x trend x (price / first list price)^-elasticity x promotion uplift x shift.
    """
    days = np.arange(plan.n_world_days)
    dates = [plan.first_date + timedelta(days=int(d)) for d in days]
    weekday = np.array([d.weekday() for d in dates])
    day_of_year = np.array([d.timetuple().tm_yday for d in dates])
    category = assortment.category
    amplitude, peak = np.array(YEARLY_AMPLITUDE)[category], np.array(YEARLY_PEAK_DAY)[category]
    wave = 1 + amplitude * np.cos(2 * np.pi * (day_of_year[:, None] - peak) / 365.25)
    trend = 1 + assortment.trend_per_year * days[:, None] / 365.25
    ratio = prices.price_cents / assortment.list_price_cents
    price_effect = ratio**-assortment.elasticity * np.where(prices.is_promotion, assortment.promotion_uplift, 1.0)
    factor = WEEKLY_PROFILE[category[None, :], weekday[:, None]] * wave * trend * price_effect
    return assortment.level[None] * (factor * _shift_factor(plan, assortment))[:, None, :]


def draw_demand(plan: RetailerPlan, assortment: Assortment, expected: np.ndarray) -> np.ndarray:
    """Units really wanted, int64 of the shape of `expected`: negative binomial, as a Poisson mixed by a gamma."""
    demand = np.empty(expected.shape, dtype=np.int64)
    shape = assortment.dispersion
    for day in range(len(expected)):
        rng = draw_stream(plan.seed, Draw.DEMAND, day)
        mixing = rng.standard_gamma(np.broadcast_to(shape, expected.shape[1:])) / shape
        demand[day] = rng.poisson(expected[day] * mixing)
    return demand


def _shift_factor(plan: RetailerPlan, assortment: Assortment) -> np.ndarray:
    factor = np.ones((plan.n_world_days, assortment.n_skus))
    shift = plan.demand_shift
    if shift is not None:
        factor[shift.from_day :, assortment.category == CATEGORY_IDS.index(shift.category_id)] = shift.factor
    return factor
