"""Drift scores of one origin: have inputs, predictions or errors moved away from what they were?"""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl

from replenish.contracts.profile import ForecastProfile
from replenish.drift.daily_errors import FORECAST_SCHEMA, CategoryErrors, read_category_errors
from replenish.drift.error_score import ERROR_THRESHOLD, score_errors
from replenish.drift.psi import PSI_THRESHOLD, psi_against, reference_bins
from replenish.stores.lake import Audit, DeltaLake, TableCommit, accept_all

DRIFT_TABLE = "monitoring/drift"
DRIFT_SCHEMA: dict[str, pl.DataType] = {
    "origin_date": pl.Date(),
    "signal": pl.String(),
    "subject": pl.String(),
    "statistic": pl.String(),
    "score": pl.Float64(),
    "threshold": pl.Float64(),
    "is_breach": pl.Boolean(),
    "n_reference": pl.Int64(),
    "n_current": pl.Int64(),
}
RECENT_PERIODS = 28
REFERENCE_PERIODS = 56
"""Whole weeks on both sides, so that both hold every weekday equally often."""

MIN_ROWS = 500
"""With fewer rows on a side the index of equal samples is no longer small beside its threshold."""

WINDOW_FEATURES = ("units_mean__", "units_sd__", "active_periods__", "in_stock_days__", "price_ratio__")
SINGLE_FEATURES = ("units_lag_1", "price_cents", "is_promotion", "lead_time_mean_days")
"""What demand was, how it varied, what it cost, whether it could be met. Further lags only say the same again."""


def feature_windows(lake: DeltaLake, profile: ForecastProfile, origin: date) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Feature rows of the reference and of the recent origins of a profile; two frames, empty where there are none."""
    if not lake.has("features/feat_demand"):
        return pl.DataFrame(), pl.DataFrame()
    anchor = profile.origin_at_or_before(origin)
    recent = anchor - timedelta(days=RECENT_PERIODS * profile.period_days)
    first = recent - timedelta(days=REFERENCE_PERIODS * profile.period_days)
    rows = lake.read("features/feat_demand", filters=[("origin_date", ">", first), ("origin_date", "<=", anchor)])
    rows = rows.filter(pl.col("feature_set_id") == profile.feature_set_id)
    return rows.filter(pl.col("origin_date") <= recent), rows.filter(pl.col("origin_date") > recent)


def key_features(frame: pl.DataFrame) -> list[str]:
    """Names of the features whose distribution is watched, sorted."""
    numeric = [name for name, dtype in frame.schema.items() if dtype.is_numeric() or dtype == pl.Boolean]
    return sorted(name for name in numeric if name in SINGLE_FEATURES or name.startswith(WINDOW_FEATURES))


def psi_scores(reference: pl.DataFrame, current: pl.DataFrame, columns: list[str], signal: str) -> pl.DataFrame:
    """Stability index per column, rows of `DRIFT_SCHEMA` without the origin; none with too few rows on a side."""
    rows = []
    for column in columns if min(reference.height, current.height) >= MIN_ROWS else []:
        before, now = (side.get_column(column).cast(pl.Float64).to_numpy() for side in (reference, current))
        if np.isnan(before).all() or np.isnan(now).all():
            continue
        score = psi_against(reference_bins(before), now)
        rows.append((signal, column, "psi", score, PSI_THRESHOLD, score >= PSI_THRESHOLD, before.size, now.size))
    return pl.DataFrame(rows, schema=_without_origin(), orient="row")


def prediction_scores(lake: DeltaLake, profile: ForecastProfile, origin: date) -> pl.DataFrame:
    """Stability index of the mean forecast: this origin's first season against those of earlier origins."""
    rows = []
    if lake.has("forecasts/demand"):
        names = [*FORECAST_SCHEMA, "step"]
        within = [("origin_date", "<=", origin), ("step", "<=", profile.season_length)]
        forecasts = lake.read("forecasts/demand", columns=names, filters=within)
        current = forecasts.filter(pl.col("origin_date") == origin).select("mean_milli")
        oldest = origin - timedelta(days=REFERENCE_PERIODS * profile.period_days)
        earlier = forecasts.filter((pl.col("origin_date") < origin) & (pl.col("origin_date") > oldest))
        rows.append((earlier.select("mean_milli"), current))
    if lake.has("forecasts/backtest") and (not rows or rows[0][0].height < MIN_ROWS):
        # A young deployment has made no forecast before: what the backtest would have made stands in for it.
        within = [("method", "==", "lightgbm"), ("step", "<=", profile.season_length), ("origin_date", "<", origin)]
        backtest = lake.read("forecasts/backtest", columns=["mean_milli"], filters=within)
        rows = [(backtest, rows[0][1] if rows else backtest.clear())]
    frames = [psi_scores(reference, current, ["mean_milli"], "prediction") for reference, current in rows]
    return pl.concat([pl.DataFrame(schema=_without_origin()), *frames])


def error_scores(errors: tuple[CategoryErrors, ...]) -> pl.DataFrame:
    """Score of each category's newest period; none where its window of forecasts is not complete."""
    rows = []
    for category in errors:
        scores = score_errors(category.actual, category.forecast)
        score = float(scores.score[-1])
        if np.isfinite(score):
            n_series, n_periods = category.actual.shape
            breach = bool(scores.is_breach[-1])
            rows.append(("error", category.category_id, "error_z", score, ERROR_THRESHOLD, breach, n_periods, n_series))
    return pl.DataFrame(rows, schema=_without_origin(), orient="row")


def score_drift(lake: DeltaLake, profile: ForecastProfile, origin: date, *, audit: Audit = accept_all) -> TableCommit:
    """Score one origin and keep the rows in `monitoring/drift`; the same origin again replaces them.

    Signals: `input` (psi per key feature), `prediction` (psi of the mean), `error` (score per category). What cannot be
    scored for lack of rows has no row.

    Raises:
        AuditFailed: `audit` refused the rows; nothing was written.
    """
    reference, current = feature_windows(lake, profile, origin)
    scores = pl.concat(
        [
            psi_scores(reference, current, key_features(current), "input"),
            prediction_scores(lake, profile, origin),
            error_scores(read_category_errors(lake, profile, origin)),
        ]
    )
    frame = (
        scores.with_columns(pl.lit(origin).alias("origin_date")).select(list(DRIFT_SCHEMA)).sort("signal", "subject")
    )
    audit(frame)
    return lake.replace_partitions(DRIFT_TABLE, frame, column="origin_date", values=[origin])


def _without_origin() -> dict[str, pl.DataType]:
    return {name: dtype for name, dtype in DRIFT_SCHEMA.items() if name != "origin_date"}
