"""The figures of a backtest: every metric by method and horizon block, beside its ratio to seasonal naive."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from replenish.contracts.profile import ForecastProfile
from replenish.forecast.baseline_paths import SEASONAL_NAIVE
from replenish.forecast.forecast_frame import quantile_column
from replenish.forecast.metrics import bias, coverage, pinball_loss, wape
from replenish.units import MILLI

ALL_STEPS = "all"
RATIO_METRICS = ("pinball", "wape", "wape_mean")
"""Losses: a ratio to seasonal naive below one is better. Bias and coverage have no such ratio."""


def score_backtest(rows: pl.DataFrame, profile: ForecastProfile) -> pl.DataFrame:
    """Summary of backtest rows: `method, steps, metric, value, ratio_to_seasonal_naive`, sorted.

    `steps` is `all` or a block such as `1-7`. Censored rows are left out: their actual is not the demand. `pinball` is
    the mean over the profile's levels [units], `wape` that of the median, `wape_mean` and `bias` those of the mean.
    """
    usable = rows.filter(~pl.col("is_censored"))
    spans = [(ALL_STEPS, 1, profile.horizon_steps), *((f"{a}-{b}", a, b) for a, b in profile.blocks)]
    found = []
    for (method,), group in usable.group_by("method", maintain_order=True):
        for name, first, last in spans:
            part = group.filter(pl.col("step").is_between(first, last))
            found += [(method, name, metric, value) for metric, value in _metrics(part, profile).items()]
    summary = pl.DataFrame(found, schema=["method", "steps", "metric", "value"], orient="row")
    naive = summary.filter(pl.col("method") == SEASONAL_NAIVE).select("steps", "metric", naive="value")
    ratio = pl.when(pl.col("metric").is_in(RATIO_METRICS) & (pl.col("naive") > 0)).then(
        pl.col("value") / pl.col("naive")
    )
    joined = summary.join(naive, on=["steps", "metric"], how="left")
    return joined.select("method", "steps", "metric", "value", ratio.alias("ratio_to_seasonal_naive")).sort(
        "method", "steps", "metric"
    )


def mean_pinball(rows: pl.DataFrame, profile: ForecastProfile) -> float:
    """Mean pinball loss [units] over rows and the profile's levels; NaN without rows."""
    actual = _units(rows, "actual_units", 1)
    losses = [pinball_loss(actual, _units(rows, quantile_column(q), MILLI), q) for q in profile.quantile_levels]
    return float(np.mean(losses))


def _metrics(rows: pl.DataFrame, profile: ForecastProfile) -> dict[str, float]:
    actual, mean = _units(rows, "actual_units", 1), _units(rows, "mean_milli", MILLI)
    figures = {
        "pinball": mean_pinball(rows, profile),
        "wape_mean": wape(actual, mean),
        "bias": bias(actual, mean),
    }
    if 0.5 in profile.quantile_levels:
        figures["wape"] = wape(actual, _units(rows, quantile_column(0.5), MILLI))
    for level in profile.quantile_levels:
        figures[f"coverage_{level:g}"] = coverage(actual, _units(rows, quantile_column(level), MILLI))
    return figures


def _units(rows: pl.DataFrame, column: str, per_unit: int) -> npt.NDArray[np.float64]:
    return rows[column].cast(pl.Float64).to_numpy() / per_unit
