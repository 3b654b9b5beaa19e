"""Features of the selling price as known at each origin."""

from __future__ import annotations

import numpy as np
import polars as pl

from replenish.contracts.profile import ForecastProfile
from replenish.features.demand_history import FeatureArrays
from replenish.features.series import SERIES_COLUMNS, BuildAxes, KnownValues, OriginBlock, known_values


def price_values(axes: BuildAxes, prices: pl.DataFrame | None) -> KnownValues | None:
    """The state log of `fct_price` on the axes; None where the data set has no prices."""
    if prices is None:
        return None
    values = ["unit_price_cents", "is_promotion"]
    return known_values(axes, prices, axes.series, fact_key=[*SERIES_COLUMNS, "event_time"], values=values)


def price_features(
    values: KnownValues | None, axes: BuildAxes, profile: ForecastProfile, block: OriginBlock
) -> FeatureArrays:
    """Price, promotion and the price relative to its mean over the origins of four weeks, each as known then.

    Floats with NaN for null: `price_cents` and `is_promotion` (0 or 1) come out of integers and return to them.
    """
    n_origins = profile.price_window
    ratio_name = f"price_ratio__{n_origins}"
    empty = np.full((axes.n_series, block.n_origins), np.nan)
    if values is None:
        return {"price_cents": empty, ratio_name: empty, "is_promotion": empty}
    rows = values.at(block.widened(n_origins - 1))
    price = _taken(values.rows["unit_price_cents"], rows)
    promotion = _taken(values.rows["is_promotion"], rows)
    is_known = ~np.isnan(price)
    sums = _trailing_sums(np.where(is_known, price, 0).astype(np.int64), n_origins)
    counts = _trailing_sums(is_known.astype(np.int64), n_origins)
    current = price[:, n_origins - 1 :]
    ratio = np.divide(current * counts, sums, out=np.full(current.shape, np.nan), where=sums > 0)
    return {"price_cents": current, ratio_name: ratio, "is_promotion": promotion[:, n_origins - 1 :]}


def _taken(column: pl.Series, rows: np.ndarray) -> np.ndarray:
    """Values of a column at row numbers, as floats; NaN for nulls and for row -1."""
    padded = np.append(column.cast(pl.Float64).fill_null(np.nan).to_numpy(), np.nan)
    return padded[rows]


def _trailing_sums(values: np.ndarray, length: int) -> np.ndarray:
    """Sums over `length` columns up to each column; the first `length - 1` columns have none and are left out."""
    running = np.zeros((values.shape[0], values.shape[1] + 1), dtype=np.int64)
    np.cumsum(values, axis=1, out=running[:, 1:])
    return running[:, length:] - running[:, :-length]
