"""The built-in retailer's true demand over protection intervals: the measure of what a forecast of them is worth."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl

from replenish.errors import OutOfRange
from replenish.outcomes.retailer import World
from replenish.outcomes.retailer_assortment import HIDDEN_SUPPLIERS
from replenish.outcomes.retailer_stock import draw_lead_days


def true_protection_demand(world: World, origins: Sequence[date]) -> pl.DataFrame:
    """What customers really wanted until the order after the next could arrive.

    An order of the origin's morning has to last until the order of the next review arrives: a review period plus the
    true lead time of an order placed then, whether or not the retailer placed one.

    Returns:
        (origin_date, sku_id, location_id), one row each, sorted, with `protection_days` and `demand_units` of the days
        from the origin on.

    Raises:
        OutOfRange: An interval reaches past the last day of the world.
    """
    assortment, plan = world.assortment, world.plan
    shape = (plan.n_world_days, assortment.n_locations, assortment.n_skus)
    demand = world.truth["demand_units"].to_numpy().reshape(shape)
    until = np.concatenate([np.zeros((1, *shape[1:]), dtype=np.int64), np.cumsum(demand, axis=0)])
    review = np.array([HIDDEN_SUPPLIERS[i].review_days for i in assortment.supplier])
    location, sku = np.indices(shape[1:])
    parts = []
    for origin in origins:
        day = (origin - plan.first_date).days
        length = np.empty(shape[1:], dtype=np.int64)
        for days in np.unique(review):
            length[:, review == days] = days + draw_lead_days(plan, assortment, day + int(days))[:, review == days]
        if day < 0 or day + length.max() > plan.n_world_days:
            raise OutOfRange("a protection interval lies outside the world", origin=origin)
        units = until[day + length, location, sku] - until[day, location, sku]
        parts.append(
            pl.DataFrame(
                {
                    "origin_date": pl.Series([origin], dtype=pl.Date).new_from_index(0, units.size),
                    "sku_id": np.array(assortment.sku_ids)[sku.ravel()],
                    "location_id": np.array(assortment.location_ids)[location.ravel()],
                    "protection_days": length.ravel(),
                    "demand_units": units.ravel(),
                }
            )
        )
    return pl.concat(parts).sort("origin_date", "sku_id", "location_id")
