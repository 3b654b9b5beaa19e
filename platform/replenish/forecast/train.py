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
    were then. Periods with a stock-out or an implausible total, not yet complete periods and series younger than
    `min_history` are no targets.

    Raises:
        OutOfRange: Nothing to train on.
    """
    chosen = _training_features(inputs.features, profile, origin)
    if chosen.is_empty():
        raise OutOfRange("no training rows before this origin", origin=origin, profile=profile.name)
    codes, lists = series_codes(chosen, inputs.categories)
    rows = prepare_rows(chosen, profile, codes)
    panel = build_panel(inputs.demand, inputs.stock, chosen, known_at=origin, period_days=profile.period_days)
    if profile.period_days == 1:
        rows = replace(rows, month_days=month_days_of_panel(panel, rows.frame))
    files: dict[str, str] = {}
    n_rows, names = 0, ()  # type: int, tuple[str, ...]
    for block in profile.blocks:
        data = block_rows(rows, panel, profile, block, inputs.prices)
        files |= fit_block(data, block, profile, num_threads=num_threads)
        n_rows, names = n_rows + data.target.size, data.names
    card = ModelCard(profile.name, profile.feature_set_id, origin, n_rows, panel.keys.height, lists, names)
    return TrainedModel(files, card)


def block_rows(
    rows: FeatureRows,
    panel: DemandPanel,
    profile: ForecastProfile,
    block: tuple[int, int],
    prices: pl.DataFrame | None,
) -> BlockRows:
    """Training rows of one block in canonical order (step, origin, series), usable targets only."""
    steps = range(block[0], block[1] + 1)
    matrix, names = build_design(rows, steps, profile, prices)
    target, usable = _targets(rows, panel, profile, steps)
    scale = np.tile(rows.scale, len(steps))
    usable &= np.isfinite(target)
    return BlockRows(matrix[usable], names, target[usable] / scale[usable], scale[usable])


def _training_features(features: pl.DataFrame, profile: ForecastProfile, origin: date) -> pl.DataFrame:
    newest = profile.period_index(origin) - 1
    periods = [profile.period_index(day) for day in features["origin_date"].unique().to_list() if day < origin]
    wanted = [profile.period_start(p) for p in periods if (newest - p) % profile.train_origin_stride == 0]
    return features.filter(pl.col("origin_date").is_in(wanted))


def _targets(
    rows: FeatureRows, panel: DemandPanel, profile: ForecastProfile, steps: range
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Units and usability of each row and step, flattened steps outermost."""
    series = panel.keys.with_row_index("series")
    placed = rows.frame.select(*SERIES_KEY, "origin_date").join(
        series, on=SERIES_KEY, how="left", maintain_order="left"
    )
    index = placed["series"].to_numpy()
    days_back = (pl.lit(panel.known_at) - pl.col("origin_date")).dt.total_days()
    start = panel.n_periods - placed.select(days_back // profile.period_days).to_series().to_numpy()
    is_target = ~(panel.is_censored | implausible_periods(panel.units, panel.period_days))
    is_old_enough = start - panel.first_sale()[index] >= profile.min_history
    units = np.full((len(steps), index.size), np.nan)
    usable = np.zeros(units.shape, dtype=np.bool_)
    for place, step in enumerate(steps):
        period = start + step - 1
        is_known = (period >= 0) & (period < panel.n_periods)
        at = np.where(is_known, period, 0)
        units[place] = np.where(is_known, panel.units[index, at], np.nan)
        usable[place] = is_known & is_old_enough & is_target[index, at]
    return units.ravel(), usable.ravel()


def card_from_json(card: Mapping[str, Any]) -> ModelCard:
    """The card as read back from a manifest."""
    return ModelCard(
        **{**card, "trained_at": date.fromisoformat(card["trained_at"]), "columns": tuple(card["columns"])}
    )
