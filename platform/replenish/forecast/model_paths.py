"""Forecast paths of a trained model: mean and quantiles of every step, in units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from replenish.contracts.profile import ForecastProfile
from replenish.forecast.block_models import (
    MEAN,
    Float32Array,
    FloatArray,
    model_targets,
    predict_blocks,
    rising_quantiles,
)
from replenish.forecast.design import build_design, prepare_rows
from replenish.forecast.forecast_frame import forecast_frame
from replenish.forecast.inputs import ForecastInputs, series_codes
from replenish.forecast.month_days import month_day_indices
from replenish.forecast.train import ModelCard


def model_forecasts(
    files: Mapping[str, str], card: ModelCard, inputs: ForecastInputs, features: pl.DataFrame, profile: ForecastProfile
) -> pl.DataFrame:
    """Forecast rows (see `forecast_frame`) for every given feature row.

    Args:
        files: Verified model texts by file name.
        card: Card of the same model.
        inputs: Demand, stock, prices and categories.
        features: Rows of `features/feat_demand`, any origins.
        profile: The profile that the model was trained with.
    """
    codes, _ = series_codes(features, inputs.categories, card.lists)
    rows = prepare_rows(features, profile, codes)
    rows = replace(rows, month_days=month_day_indices(inputs, rows.frame, profile))
    matrices = {
        (first, last): _of_columns(card.columns, *build_design(rows, range(first, last + 1), profile, inputs.prices))
        for first, last in profile.blocks
    }
    forecasts = predict_blocks(files, matrices, card.columns, profile)

    def in_units(target: str) -> FloatArray:
        return np.maximum(forecasts[target].reshape(profile.horizon_steps, -1).T * rows.scale[:, None], 0.0)

    quantiles = rising_quantiles([in_units(target) for target in model_targets(profile)[1:]])
    return forecast_frame(rows.frame, in_units(MEAN), quantiles, profile)


def _of_columns(wanted: Sequence[str], matrix: Float32Array, names: Sequence[str]) -> Float32Array:
    """The columns a model was trained with: one that is made no more is unknown, one made only since is left out."""
    place = {name: number for number, name in enumerate(names)}
    missing = np.full(matrix.shape[0], np.nan, dtype=np.float32)
    return np.column_stack([matrix[:, place[name]] if name in place else missing for name in wanted])
