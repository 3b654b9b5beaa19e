"""Training of the global LightGBM models, with targets as known at the training origin and never later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from replenish.contracts.profile import ForecastProfile
from replenish.errors import OutOfRange
from replenish.forecast.block_models import BlockRows, fit_block
from replenish.forecast.design import FeatureRows, build_design, prepare_rows
from replenish.forecast.inputs import ForecastInputs, series_codes
from replenish.forecast.month_days import month_days_of_panel
from replenish.forecast.panel import SERIES_KEY, DemandPanel, build_panel
from replenish.forecast.plausible import implausible_periods
from replenish.units import MILLI

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ModelCard:
    """What a trained model is: stored in its manifest, and part of its digest."""

    profile: str
    feature_set_id: str
    trained_at: date
    """The origin whose knowledge it was trained with."""
    n_rows: int
    n_series: int
    lists: dict[str, list[str]]
    """Ids behind the category and location codes."""
    columns: tuple[str, ...]
    n_estimated: int = 0
    """Rows whose target is an estimate, of periods that sold out; models of before there were estimates have none."""

    def as_json(self) -> dict[str, Any]:
        """The card as plain JSON values."""
        return asdict(self) | {"trained_at": self.trained_at.isoformat(), "columns": list(self.columns)}


@dataclass(frozen=True)
class TrainedModel:
    """Model texts by file name and their card; not yet in a registry."""

    files: dict[str, str]
    card: ModelCard


def train_model(
    inputs: ForecastInputs, profile: ForecastProfile, origin: date, *, num_threads: int = 1
) -> TrainedModel:
    """Fit every block and target on all training origins before `origin`.

    Only what was known at `origin` is used: demand increments by `knowledge_date`, features of earlier origins as they
    were then. A period with a stock-out counts with its estimated demand. No targets are those that nobody estimated,
    those with an implausible total, those not complete and those of series younger than `min_history`.

    Raises:
        OutOfRange: Nothing to train on.
    """
    chosen = _training_features(inputs.features, profile, origin)
    if chosen.is_empty():
        raise OutOfRange("no training rows before this origin", origin=origin, profile=profile.name)
    codes, lists = series_codes(chosen, inputs.categories)
    rows = prepare_rows(chosen, profile, codes)
    panel = build_panel(
        inputs.demand,
        inputs.stock,
        chosen,
        known_at=origin,
        period_days=profile.period_days,
        lost_sales=inputs.lost_sales,
    )
    if profile.period_days == 1:
        rows = replace(rows, month_days=month_days_of_panel(panel, rows.frame))
    files: dict[str, str] = {}
    n_rows, n_estimated, names = 0, 0, ()  # type: int, int, tuple[str, ...]
    for block in profile.blocks:
        data, is_estimate = block_rows(rows, panel, profile, block, inputs.prices)
        files |= fit_block(data, block, profile, num_threads=num_threads)
        n_rows, n_estimated, names = n_rows + data.target.size, n_estimated + int(is_estimate.sum()), data.names
    counts = n_rows, panel.keys.height, lists, names, n_estimated
    return TrainedModel(files, ModelCard(profile.name, profile.feature_set_id, origin, *counts))


def block_rows(
    rows: FeatureRows,
    panel: DemandPanel,
    profile: ForecastProfile,
    block: tuple[int, int],
    prices: pl.DataFrame | None,
) -> tuple[BlockRows, BoolArray]:
    """Usable training rows of one block in canonical order (step, origin, series), and which targets are estimates."""
    steps = range(block[0], block[1] + 1)
    matrix, names = build_design(rows, steps, profile, prices)
    target, usable, is_estimate = _targets(rows, panel, profile, steps)
    scale = np.tile(rows.scale, len(steps))
    usable &= np.isfinite(target)
    return BlockRows(matrix[usable], names, target[usable] / scale[usable], scale[usable]), is_estimate[usable]


def _training_features(features: pl.DataFrame, profile: ForecastProfile, origin: date) -> pl.DataFrame:
    newest = profile.period_index(origin) - 1
    periods = [profile.period_index(day) for day in features["origin_date"].unique().to_list() if day < origin]
    wanted = [profile.period_start(p) for p in periods if (newest - p) % profile.train_origin_stride == 0]
    return features.filter(pl.col("origin_date").is_in(wanted))


def _targets(
    rows: FeatureRows, panel: DemandPanel, profile: ForecastProfile, steps: range
) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Demand of each row and step, whether it is usable and whether it is an estimate, flattened steps outermost."""
    series = panel.keys.with_row_index("series")
    placed = rows.frame.select(*SERIES_KEY, "origin_date").join(
        series, on=SERIES_KEY, how="left", maintain_order="left"
    )
    index = placed["series"].to_numpy()
    days_back = (pl.lit(panel.known_at) - pl.col("origin_date")).dt.total_days()
    start = panel.n_periods - placed.select(days_back // profile.period_days).to_series().to_numpy()
    demand, is_estimate = demand_of(panel)
    is_target = np.isfinite(demand) & ~implausible_periods(panel.units, panel.period_days)
    is_old_enough = start - panel.first_sale()[index] >= profile.min_history
    wanted = np.full((len(steps), index.size), np.nan)
    usable, estimated = np.zeros(wanted.shape, dtype=np.bool_), np.zeros(wanted.shape, dtype=np.bool_)
    for place, step in enumerate(steps):
        period = start + step - 1
        is_known = (period >= 0) & (period < panel.n_periods)
        at = np.where(is_known, period, 0)
        wanted[place] = np.where(is_known, demand[index, at], np.nan)
        usable[place] = is_known & is_old_enough & is_target[index, at]
        estimated[place] = is_known & is_estimate[index, at]
    return wanted.ravel(), usable.ravel(), estimated.ravel()


def demand_of(panel: DemandPanel) -> tuple[FloatArray, BoolArray]:
    """Demand [units] of each series and period, and whether it is an estimate, shape (n_series, n_periods) each.

    NaN where a stock-out hid it and nobody estimated it.
    """
    units = panel.units.astype(np.float64)
    if panel.lost_milli is None:
        return np.where(panel.is_censored, np.nan, units), np.zeros(units.shape, dtype=np.bool_)
    return units + panel.lost_milli / MILLI, panel.is_censored


def card_from_json(card: Mapping[str, Any]) -> ModelCard:
    """The card as read back from a manifest."""
    return ModelCard(
        **{**card, "trained_at": date.fromisoformat(card["trained_at"]), "columns": tuple(card["columns"])}
    )
