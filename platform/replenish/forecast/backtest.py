"""Rolling-origin backtest: the model against the baselines, one code path for every profile.

Models are trained with what was known at the first backtest origin and, within a budget of fits, at later ones; each
origin is forecast by the newest model trained at or before it, so every forecast is out of sample. Features and
baselines are as known at each origin, actuals as known at the newest one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from replenish.contracts.dataset import Dataset
from replenish.contracts.profile import ForecastProfile
from replenish.errors import NotApplicable, OutOfRange
from replenish.forecast.backtest_scores import score_backtest
from replenish.forecast.baseline_paths import MOVING_AVERAGE, SEASONAL_NAIVE, baseline_forecasts
from replenish.forecast.block_models import n_fits
from replenish.forecast.forecast_frame import FORECAST_KEY
from replenish.forecast.inputs import ForecastInputs, read_inputs
from replenish.forecast.model_paths import model_forecasts
from replenish.forecast.panel import SERIES_KEY, build_panel
from replenish.forecast.plausible import implausible_periods
from replenish.forecast.train import TrainedModel, train_model
from replenish.stores.lake import DeltaLake, TableCommit, accept_all

BACKTEST_TABLE = "forecasts/backtest"
SUMMARY_TABLE = "forecasts/backtest_summary"
PATH_TABLE = "forecasts/past_paths"
OUR_METHOD = "lightgbm"

MAX_BACKTEST_FITS = 32
"""Two trainings of three blocks, or one for each of four origins with two blocks: seconds, not minutes."""

PATH_DAYS = 56
"""Eight weeks of replayed orders: several cycles of any supplier inside the horizon."""
PATH_STRIDE_DAYS = 2


@dataclass(frozen=True)
class BacktestReport:
    """What a backtest wrote and its summary: method, steps, metric, value, ratio to seasonal naive."""

    commit: TableCommit
    summary: pl.DataFrame


def run_backtest(
    lake: DeltaLake,
    dataset: Dataset,
    profile: ForecastProfile,
    origin: date,
    audit: Callable[[pl.DataFrame], None] = accept_all,
) -> BacktestReport:
    """Backtest as of an origin; rows to `forecasts/backtest`, their summary to `forecasts/backtest_summary`.

    The tables hold the newest backtest only. Rows: `origin_date, sku_id, location_id, step, target_date, method,
    mean_milli`, the `q*_milli`, `actual_units` and `is_censored` (a stock-out: the actual is a lower bound).
    `forecasts/past_paths` gets the same model's forecasts of the origins since, for `policy_levels`.

    Raises:
        NotApplicable: The history is too short for the profile's backtest.
        AuditFailed: From `audit`; nothing is written.
    """
    inputs = read_inputs(lake, profile)
    newest = profile.origin_at_or_before(origin)
    models = backtest_models(inputs, profile, newest)
    rows = backtest_rows(inputs, profile, newest, models)
    audit(rows)
    summary = score_backtest(rows, profile)
    commit = lake.overwrite(BACKTEST_TABLE, rows)
    lake.overwrite(SUMMARY_TABLE, summary)
    lake.overwrite(PATH_TABLE, _forecasts_by_age(models, inputs, profile, _path_origins(profile, newest)))
    return BacktestReport(commit, summary)


def backtest_profile(
    lake: DeltaLake, dataset: Dataset, profile: ForecastProfile, origin: date | None = None
) -> pl.DataFrame:
    """The backtest summary of any profile whose features exist; nothing is written.

    Raises:
        TableMissing: No features of this profile: `features.demand.update_feat_demand` makes them.
        NotApplicable: The history is too short.
    """
    inputs = read_inputs(lake, profile)
    newest = origin or dataset.origin or inputs.features["origin_date"].max()
    if not isinstance(newest, date):
        raise NotApplicable("no origin to backtest from", dataset=dataset.dataset_id)
    newest = profile.origin_at_or_before(newest)
    return score_backtest(backtest_rows(inputs, profile, newest, backtest_models(inputs, profile, newest)), profile)


def backtest_models(inputs: ForecastInputs, profile: ForecastProfile, newest: date) -> tuple[TrainedModel, ...]:
    """Models as they would have been trained at the first backtest origin and, as far as fits allow, at later ones.

    Raises:
        NotApplicable: Nothing to train on at the first backtest origin.
    """
    origins = profile.backtest_origins(newest)
    n_trainings = min(len(origins), max(1, MAX_BACKTEST_FITS // n_fits(profile, 1)))
    chosen = [origins[n * len(origins) // n_trainings] for n in range(n_trainings)]
    try:
        return tuple(train_model(inputs, profile, day) for day in chosen)
    except OutOfRange as error:
        raise NotApplicable(f"history too short for a backtest: {error}", origin=newest) from error


def backtest_rows(
    inputs: ForecastInputs, profile: ForecastProfile, newest: date, models: tuple[TrainedModel, ...]
) -> pl.DataFrame:
    """Forecasts of all methods at all backtest origins beside what happened, sorted by method and `FORECAST_KEY`.

    A path with an implausible actual is left out: it says nothing about the forecast.
    """
    origins = list(profile.backtest_origins(newest))
    ours = _forecasts_by_age(models, inputs, profile, origins)
    features = inputs.features.filter(pl.col("origin_date").is_in(origins))
    parts = [ours.with_columns(pl.lit(OUR_METHOD).alias("method"))]
    for day in origins:
        keys = features.filter(pl.col("origin_date") == day)
        panel = build_panel(inputs.demand, None, keys, known_at=day, period_days=profile.period_days)
        parts += [
            baseline_forecasts(name, panel, profile).with_columns(pl.lit(name).alias("method"))
            for name in (SEASONAL_NAIVE, MOVING_AVERAGE)
        ]
    actual = actual_rows(inputs, profile, newest)
    rows = pl.concat(parts).join(actual, on=[*SERIES_KEY, "target_date"], how="inner")
    path = ["origin_date", *SERIES_KEY]
    rows = rows.join(rows.filter("is_implausible").select(path).unique(), on=path, how="anti").drop("is_implausible")
    return rows.sort("method", *FORECAST_KEY)


def _forecasts_by_age(
    models: tuple[TrainedModel, ...], inputs: ForecastInputs, profile: ForecastProfile, origins: list[date]
) -> pl.DataFrame:
    """Forecasts of each origin by the newest model that was trained at or before it."""
    parts = []
    for place, model in enumerate(models):
        end = models[place + 1].card.trained_at if place + 1 < len(models) else date.max
        mine = [day for day in origins if model.card.trained_at <= day < end]
        features = inputs.features.filter(pl.col("origin_date").is_in(mine))
        if features.height:
            parts.append(model_forecasts(model.files, model.card, inputs, features, profile))
    return pl.concat(parts)


def _path_origins(profile: ForecastProfile, newest: date) -> list[date]:
    """Origins of the past weeks in which orders are replayed; every other day is often enough for any review period."""
    stride = max(1, PATH_STRIDE_DAYS // profile.period_days)
    oldest = newest - timedelta(days=PATH_DAYS)
    first = max(profile.backtest_origins(newest)[0], oldest)
    last = profile.period_index(newest)
    return [profile.period_start(n) for n in range(last - 1, profile.period_index(first) - 1, -stride)]


def actual_rows(inputs: ForecastInputs, profile: ForecastProfile, known_at: date) -> pl.DataFrame:
    """Every period of every series as known at an origin: keys, `target_date`, `actual_units` and what it is not.

    `is_censored`: a stock-out, the actual is a lower bound; `is_implausible`: see `plausible`.
    """
    panel = build_panel(
        inputs.demand, inputs.stock, inputs.features, known_at=known_at, period_days=profile.period_days
    )
    newest = profile.period_index(known_at)
    starts = pl.Series([profile.period_start(newest - n) for n in range(panel.n_periods, 0, -1)], dtype=pl.Date)
    grid = panel.keys.join(pl.DataFrame({"target_date": starts}), how="cross", maintain_order="left_right")
    return grid.with_columns(
        pl.Series("actual_units", panel.units.ravel()),
        pl.Series("is_censored", panel.is_censored.ravel()),
        pl.Series("is_implausible", implausible_periods(panel.units, profile.period_days).ravel()),
    )
