"""Windows of unconstrained demand: what was sold and what is estimated to have been lost, and the latter by itself."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl

from replenish.bitemporal_windows import IntArray, Window, known_window_sums
from replenish.contracts.profile import ForecastProfile
from replenish.errors import StoreError
from replenish.features.demand_history import FeatureArrays
from replenish.features.series import BuildAxes, OriginBlock, demand_changes
from replenish.stores.lake import DeltaLake
from replenish.units import MILLI

LOST_SALES_TABLE = "features/lost_sales"
ESTIMATOR = "product_limit@1"
"""How sold-out days are estimated. One of another meaning gets another name, and the table is built anew."""
WATERMARK = f"lost_sales:{ESTIMATOR}"
"""Consumer that the table names, with the ordinal of the newest origin that was estimated."""


def check_estimated(lake: DeltaLake, through: date) -> None:
    """Nothing where the lost sales of an origin are there, or nothing is estimated in this lake at all.

    Raises:
        StoreError: They are of older origins only: features would be too low, and rows of an origin never change.
    """
    done = lake.app_version(LOST_SALES_TABLE, WATERMARK) if lake.has(LOST_SALES_TABLE) else through.toordinal()
    if done is None or done < through.toordinal():
        known = "none" if done is None else date.fromordinal(done)
        raise StoreError("lost sales come before features: update `lost_sales` first", known=known, wanted=through)


def unconstrained_features(
    lost_sales: pl.DataFrame | None,
    axes: BuildAxes,
    profile: ForecastProfile,
    units_sums: dict[int, IntArray],
    block: OriginBlock,
) -> FeatureArrays:
    """`unconstrained_milli_sum__<w>` and, as its flag, how much of it nobody sold: `lost_milli_sum__<w>`.

    Args:
        lost_sales: `features/lost_sales`, up to the last origin of the block; None gives NaN everywhere.
        axes: Series and periods.
        profile: Windows.
        units_sums: Window sums of units by window length, each (n_series, n_origins).
        block: Origins.
    """
    names = ("unconstrained_milli_sum", "lost_milli_sum")
    if lost_sales is None:
        return {f"{name}__{w}": np.full(units.shape, np.nan) for w, units in units_sums.items() for name in names}
    changes = demand_changes(axes, axes.numbered(lost_sales), "lost_milli")
    windows = [Window(1, w) for w in profile.windows]
    shape = {"n_series": axes.n_series, "first_origin": block.first_origin, "n_origins": block.n_origins}
    features: FeatureArrays = {}
    for w, lost in zip(profile.windows, known_window_sums(changes, windows, **shape), strict=True):
        features[f"unconstrained_milli_sum__{w}"] = units_sums[w] * MILLI + lost
        features[f"lost_milli_sum__{w}"] = lost
    return features
