"""The drift study: how often a shift of demand is noticed in time, and how often a quiet world raises a false alarm.

Worlds are the built-in retailer's, with promotions, seasons, stock-outs and late records; the forecast is the mean of
the same weekday of four weeks, which knows no promotions: a better forecast only makes the task easier.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, time, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replenish.bitemporal import origin_instant_expr
from replenish.drift.episode import DriftEpisode, find_episodes
from replenish.drift.error_score import score_errors
from replenish.outcomes.retailer import World, build_world
from replenish.outcomes.retailer_plan import RETAILER_ZONE, DemandShift, RetailerPlan

STUDY_SEEDS = tuple(range(1, 21))
SHIFT_FACTOR = 1.5
SHIFT_CATEGORY = "C1"
N_DAYS = 400
SHIFT_DAY = 380
QUIET_STUDY_DAYS = 30
WITHIN_DAYS = 3
CUTOFF = time(6)
WEEKS = 4
WARM_UP_DAYS = 62
"""Days scored before the counted ones, so that every score is scaled by a whole history."""


def first_look_sales(world: World) -> pl.DataFrame:
    """Units of each item and day as the records of the next morning say: `article`, `store`, `sale_date`, `units`."""
    sales = world.records["sales"].with_columns(
        pl.col("sold_at").str.head(10).str.to_date().alias("sale_date"),
        pl.col("recorded_at").str.to_datetime(time_zone="UTC").alias("recorded"),
    )
    next_cutoff = origin_instant_expr(pl.col("sale_date").dt.offset_by("1d"), RETAILER_ZONE, CUTOFF)
    seen = sales.filter(pl.col("recorded") <= next_cutoff).sort("recorded", maintain_order=True)
    newest = seen.unique(["store", "receipt", "line"], keep="last", maintain_order=True).filter(pl.col("op") == "I")
    return newest.group_by("article", "store", "sale_date").agg(pl.col("qty").cast(pl.Int64).sum().alias("units"))


def category_matrices(world: World) -> dict[str, NDArray[np.float64]]:
    """First-look units per category, shape (n_series, n_days), days from the world's first."""
    plan = world.plan
    sales = first_look_sales(world)
    categories = world.reference["products"].select("article", "category")
    series = sales.select("article", "store").unique().sort("article", "store").join(categories, on="article")
    matrices = {}
    for (category,), group in series.group_by("category", maintain_order=True):
        numbered = group.with_row_index("row")
        cells = sales.join(numbered, on=["article", "store"])
        days = (cells["sale_date"] - pl.Series([plan.first_date])).dt.total_days().to_numpy()
        matrix = np.zeros((numbered.height, plan.n_world_days))
        within = days < plan.n_world_days
        matrix[cells["row"].to_numpy()[within], days[within]] = cells["units"].to_numpy()[within]
        matrices[str(category)] = matrix
    return dict(sorted(matrices.items()))


def same_weekday_mean(actual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the same weekday of the last four weeks, shape as `actual`; NaN in the first four weeks."""
    forecast = np.full(actual.shape, np.nan)
    for day in range(7 * WEEKS, actual.shape[1]):
        forecast[:, day] = actual[:, day - 7 * WEEKS : day : 7].mean(axis=1)
    return forecast


def world_episodes(world: World, first_day: int, last_day: int) -> tuple[DriftEpisode, ...]:
    """Drift episodes of the days from `first_day` to `last_day` (inclusive), each judged on the morning after."""
    rows = []
    for category, actual in category_matrices(world).items():
        window = slice(first_day - WARM_UP_DAYS, last_day + 1)
        scores = score_errors(actual[:, window], same_weekday_mean(actual)[:, window])
        for day in range(first_day, last_day + 1):
            origin = world.plan.first_date + timedelta(days=day + 1)
            rows.append((origin, "error", category, bool(scores.is_breach[day - first_day + WARM_UP_DAYS])))
    names = ["origin_date", "signal", "subject", "is_breach"]
    return find_episodes(pl.DataFrame(rows, schema=names, orient="row"))


def requests_of(episodes: Iterable[DriftEpisode]) -> list[date]:
    """The days on which retraining was asked for."""
    return [episode.requested_on for episode in episodes if episode.requested_on is not None]


def drift_study(seeds: Iterable[int] = STUDY_SEEDS) -> dict[str, object]:
    """Figures of the study: shifted worlds with exactly one request in time, and requests in all quiet worlds.

    A shifted world counts when, from thirty days before the shift to the end of the world, retraining is asked for
    once, at one of the three origins after the first shifted day.
    """
    in_time, shifted_requests, quiet_requests, n_seeds = 0, 0, 0, 0
    delays = []
    for seed in seeds:
        n_seeds += 1
        shift = DemandShift(SHIFT_CATEGORY, SHIFT_FACTOR, SHIFT_DAY)
        world = build_world(RetailerPlan(seed=seed, n_days=N_DAYS, with_faults=False, demand_shift=shift))
        asked = requests_of(world_episodes(world, SHIFT_DAY - QUIET_STUDY_DAYS, world.plan.n_world_days - 1))
        days = [(day - world.plan.first_date).days - SHIFT_DAY for day in asked]
        shifted_requests += len(days)
        delays += [day for day in days if day > 0]
        in_time += len(days) == 1 and 1 <= days[0] <= WITHIN_DAYS
        quiet = build_world(RetailerPlan(seed=seed, n_days=N_DAYS, with_faults=False))
        quiet_requests += len(requests_of(world_episodes(quiet, N_DAYS - QUIET_STUDY_DAYS, N_DAYS - 1)))
    return {
        "n_seeds": n_seeds,
        "shifted_exactly_one_request_within_3_days": in_time,
        "shifted_requests": shifted_requests,
        "mean_days_to_request": float(np.mean(delays)) if delays else float("nan"),
        "unshifted_requests": quiet_requests,
        "unshifted_days": n_seeds * QUIET_STUDY_DAYS,
    }
