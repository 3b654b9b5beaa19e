"""Forecasts of one origin by the best model that can be trusted: champion, previous champion or seasonal naive."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import polars as pl

from replenish.contracts.dataset import Dataset
from replenish.contracts.profile import ForecastProfile
from replenish.errors import NotApplicable
from replenish.forecast.baseline_paths import baseline_forecasts
from replenish.forecast.inputs import ForecastInputs, read_inputs
from replenish.forecast.model_paths import model_forecasts
from replenish.forecast.panel import build_panel
from replenish.forecast.train import card_from_json
from replenish.stores.lake import DeltaLake, TableCommit, accept_all
from replenish.stores.registry import Mode, ModelRegistry, StoredModel

FORECAST_TABLE = "forecasts/demand"
NAIVE_DIGEST = "seasonal_naive"
"""Stands in the model digest column where no model was used."""


def forecast_origin(
    lake: DeltaLake,
    registry: ModelRegistry,
    dataset: Dataset,
    profile: ForecastProfile,
    origin: date,
    audit: Callable[[pl.DataFrame], None] = accept_all,
) -> TableCommit:
    """Forecast every series known at the origin and write `forecasts/demand`, replacing the origin's earlier rows.

    Columns: `origin_date, sku_id, location_id, step, target_date, mean_milli`, one `q*_milli` per level,
    `model_digest, feature_set_id, mode`; quantiles never cross.

    Raises:
        NotApplicable: No series has features at this origin.
        AuditFailed: From `audit`; nothing is written.
    """
    anchor = profile.origin_at_or_before(origin)
    inputs = read_inputs(lake, profile)
    features = inputs.features.filter(pl.col("origin_date") == anchor)
    if features.is_empty():
        raise NotApplicable("no features at this origin", origin=origin, dataset=dataset.dataset_id)
    stored, mode = usable_for(registry, profile, origin)
    frame = _forecasts(stored, inputs, features, profile, anchor)
    digest = stored.digest if stored else NAIVE_DIGEST
    labelled = frame.with_columns(
        pl.lit(origin).alias("origin_date"),
        pl.lit(digest).alias("model_digest"),
        pl.lit(profile.feature_set_id).alias("feature_set_id"),
        pl.lit(mode).alias("mode"),
    )
    audit(labelled)
    return lake.replace_partitions(FORECAST_TABLE, labelled, column="origin_date", values=[origin])


def usable_for(registry: ModelRegistry, profile: ForecastProfile, origin: date) -> tuple[StoredModel | None, Mode]:
    """The champion of an origin's day if it was trained for this profile's features, else (None, "naive")."""
    stored, mode = registry.usable_model(as_of=origin.isoformat())
    if stored is not None and stored.card["model"]["feature_set_id"] != profile.feature_set_id:
        return None, "naive"
    return stored, mode


def _forecasts(
    stored: StoredModel | None, inputs: ForecastInputs, features: pl.DataFrame, profile: ForecastProfile, origin: date
) -> pl.DataFrame:
    if stored is not None:
        return model_forecasts(stored.files, card_from_json(stored.card["model"]), inputs, features, profile)
    panel = build_panel(inputs.demand, None, features, known_at=origin, period_days=profile.period_days)
    return baseline_forecasts("seasonal_naive", panel, profile)
