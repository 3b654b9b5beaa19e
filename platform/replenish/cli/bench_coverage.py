"""The coverage study: do quantiles of protection-interval demand hold on true demand, which no platform ever sees?

A clean retailer is taken through all stages. At past origins demand of the interval is forecast with the backtest's
model (trained before them) and the errors known then; hidden demand says how often it stayed below each quantile.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from replenish.cli.demo import lay_out_retailer
from replenish.cli.deployment import open_deployment
from replenish.cli.stages import run_lead_times, run_to_features
from replenish.contracts.profile import ForecastProfile, read_profile
from replenish.errors import NotApplicable
from replenish.forecast.backtest import OUR_METHOD, PATH_TABLE, run_backtest
from replenish.forecast.lead_time_mix import read_lead_time_mix
from replenish.forecast.protection import protection_rows
from replenish.forecast.residual_pools import ResidualPools, build_pools
from replenish.outcomes.retailer import build_world
from replenish.outcomes.retailer_plan import RetailerPlan
from replenish.outcomes.retailer_protection import true_protection_demand
from replenish.stores.lake import DeltaLake
from replenish.units import MILLI

LEVELS = (0.1, 0.5, 0.8, 0.9, 0.95, 0.99)
DAYS_AFTER_THE_ORIGIN = 40
"""The longest interval that starts at the last origin has to lie inside the world."""
ARRIVAL = datetime(2026, 1, 1, tzinfo=UTC)
KEY = ["origin_date", "sku_id", "location_id"]


def coverage_study(seed: int = 7, n_skus: int = 50, n_locations: int = 3, n_days: int = 400) -> dict[str, object]:
    """Coverage of each quantile level over (sku, location, origin), and how many of these there are."""
    plan = RetailerPlan(
        seed=seed,
        n_skus=n_skus,
        n_locations=n_locations,
        n_days=n_days,
        with_faults=False,
        n_extra_days=DAYS_AFTER_THE_ORIGIN,
    )
    with tempfile.TemporaryDirectory(prefix="replenish-coverage-") as folder:
        lay_out_retailer(Path(folder), plan)
        deployment = open_deployment(Path(folder))
        origin = plan.first_date + timedelta(days=n_days)
        run_to_features(deployment, now=ARRIVAL)
        run_lead_times(deployment, [origin])
        profile = read_profile(deployment.dataset.profile)
        run_backtest(deployment.lake, deployment.dataset, profile, origin)
        mix = read_lead_time_mix(deployment.lake, deployment.dataset, origin)
        forecasts = pl.concat(
            [
                protection_rows(paths, pools, mix, profile)
                for paths, pools in _past_origins(deployment.lake, profile, origin)
            ]
        )
    truth = true_protection_demand(build_world(plan), sorted(forecasts["origin_date"].unique()))
    return covered_shares(forecasts, truth)


def _past_origins(lake: DeltaLake, profile: ForecastProfile, origin: date) -> list[tuple[pl.DataFrame, ResidualPools]]:
    """Forecast paths of each past origin with the residual pools known at it; origins with too few errors left out."""
    paths = lake.read(PATH_TABLE).filter(pl.col("origin_date") < origin)
    backtest = lake.read("forecasts/backtest")
    found = []
    for day in sorted(paths["origin_date"].unique()):
        try:
            pools = build_pools(backtest, profile, method=OUR_METHOD, known_at=day)
        except NotApplicable:
            continue
        found.append((paths.filter(pl.col("origin_date") == day), pools))
    return found


def covered_shares(forecasts: pl.DataFrame, truth: pl.DataFrame) -> dict[str, object]:
    """Share of true demand at or below each quantile.

    Args:
        forecasts: `(origin_date, sku_id, location_id, quantile_level, units_milli)`.
        truth: `(origin_date, sku_id, location_id, demand_units)`.
    """
    both = forecasts.join(truth, on=KEY, how="inner")
    figures: dict[str, object] = {"n": both.select(KEY).unique().height}
    for level in LEVELS:
        at_level = both.filter((pl.col("quantile_level") - level).abs() < 1e-9)
        share = (at_level["demand_units"] * MILLI <= at_level["units_milli"]).mean()
        figures[f"coverage_{level}"] = share
    return figures
