"""The drift study: how often a shift of demand is noticed in time, and how often a quiet world raises a false alarm.

Worlds are the built-in retailer's, with promotions, seasons, stock-outs and late records. The forecast is the simplest
that knows what is planned: each item's mean of four weeks, times the weekday's and the promotion's usual effect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, time, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replenish.bitemporal import origin_instant_expr
from replenish.drift.episode import DriftEpisode, find_episodes
from replenish.drift.error_score import score_errors, without_empty_shelves
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
LEVEL_DAYS = 28
EFFECT_DAYS = 112
"""Days whose mean is an item's level, and days from which weekday and promotion effects are taken."""

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


def empty_shelves(world: World) -> pl.DataFrame:
    """Items and days whose closing count, known by the next morning, is zero: `is_sold_out` is true."""
    counts = world.records["stock"].with_columns(
        pl.col("counted_at").str.head(10).str.to_date().alias("sale_date"),
        pl.col("recorded_at").str.to_datetime(time_zone="UTC").alias("recorded"),
    )
    next_cutoff = origin_instant_expr(pl.col("sale_date").dt.offset_by("1d"), RETAILER_ZONE, CUTOFF)
    seen = counts.filter((pl.col("recorded") <= next_cutoff) & (pl.col("on_hand").cast(pl.Int64) <= 0))
    return seen.select("article", "store", "sale_date", pl.lit(True).alias("is_sold_out")).unique()


@dataclass(frozen=True)
class CategoryDays:
    """One category: first-look units, planned promotions, empty shelves; all (n_series, n_days) from the first day."""

    units: NDArray[np.float64]
    is_promotion: NDArray[np.bool_]
    is_sold_out: NDArray[np.bool_]


def category_days(world: World) -> dict[str, CategoryDays]:
    """Every category of a world, series sorted by article and store."""
    plan = world.plan
    days = world.truth.select(
        pl.col("sku_id").alias("article"),
        pl.col("location_id").alias("store"),
        pl.col("event_date").alias("sale_date"),
        # Promotions are planned, so the forecast may know them; nothing else of the hidden truth is used.
        "is_promotion",
    )
    categories = world.reference["products"].select("article", "category")
    cell = ["article", "store", "sale_date"]
    rows = days.join(first_look_sales(world), on=cell, how="left").join(categories, on="article")
    rows = rows.join(empty_shelves(world), on=cell, how="left").with_columns(pl.col("is_sold_out").fill_null(False))
    found = {}
    for (category,), group in rows.sort("article", "store", "sale_date").group_by("category", maintain_order=True):
        shape = (-1, plan.n_world_days)
        units = group["units"].fill_null(0).to_numpy().astype(np.float64).reshape(shape)
        promoted, sold_out = (group[name].to_numpy().reshape(shape) for name in ("is_promotion", "is_sold_out"))
        found[str(category)] = CategoryDays(units, promoted, sold_out)
    return dict(sorted(found.items()))


def planned_mean(days: CategoryDays) -> NDArray[np.float64]:
    """Forecast of every day from the days before it, shape as the units; NaN before there is history enough."""
    forecast = np.full(days.units.shape, np.nan)
    for day in range(EFFECT_DAYS, days.units.shape[1]):
        seen = slice(day - EFFECT_DAYS, day)
        units, promoted = days.units[:, seen], days.is_promotion[:, seen]
        plain = (units * ~promoted).sum(axis=1, keepdims=True) / np.maximum((~promoted).sum(axis=1, keepdims=True), 1)
        uplift = max((units * promoted).sum(), 1.0) / max((plain * promoted).sum(), 1.0)
        adjusted = np.where(promoted, units / uplift, units)
        totals = adjusted.sum(axis=0)
        # Whole weeks, so every seventh day back from the end is the forecast day's weekday.
        weekday = totals[::7].mean() / max(totals.mean(), 1e-9)
        level = adjusted[:, -LEVEL_DAYS:].mean(axis=1)
        forecast[:, day] = level * weekday * np.where(days.is_promotion[:, day], uplift, 1.0)
    return forecast


def world_episodes(world: World, first_day: int, last_day: int) -> tuple[DriftEpisode, ...]:
    """Drift episodes of the days from `first_day` to `last_day` (inclusive), each judged on the morning after."""
    rows = []
    window = slice(first_day - WARM_UP_DAYS, last_day + 1)
    for category, days in category_days(world).items():
        forecast = planned_mean(days)
        scores = score_errors(
            without_empty_shelves(days.units, forecast, days.is_sold_out)[:, window], forecast[:, window]
        )
        for day in range(first_day, last_day + 1):
            origin = world.plan.first_date + timedelta(days=day + 1)
            rows.append((origin, "error", category, bool(scores.is_breach[day - first_day + WARM_UP_DAYS])))
    names = ["origin_date", "signal", "subject", "is_breach"]
    return find_episodes(pl.DataFrame(rows, schema=names, orient="row"))


def requests_of(episodes: Iterable[DriftEpisode]) -> list[date]:
    """The days on which retraining was asked for."""
    return [episode.requested_on for episode in episodes if episode.requested_on is not None]


def drift_study(seeds: Iterable[int] = STUDY_SEEDS) -> dict[str, object]:
    """Figures of the study: shifted worlds with exactly one request in time, and requests in all quiet days.

    A shifted world counts when retraining is asked for once in the four weeks that the stand-in forecast needs to learn
    the new level, at one of the three origins after the first shifted day. Nobody answers the request in this study;
    requests after these weeks are reported apart. The thirty days before the shift are quiet days of their own kind:
    the world is the same, the seed too, so they are reported beside the quiet worlds' and not added to them.
    """
    in_time, quiet_requests, before_shift, later, n_seeds = 0, 0, 0, 0, 0
    after_shift: list[int] = []
    for seed in seeds:
        n_seeds += 1
        shift = DemandShift(SHIFT_CATEGORY, SHIFT_FACTOR, SHIFT_DAY)
        world = build_world(RetailerPlan(seed=seed, n_days=N_DAYS, with_faults=False, demand_shift=shift))
        asked = requests_of(world_episodes(world, SHIFT_DAY - QUIET_STUDY_DAYS, world.plan.n_world_days - 1))
        days = [(day - world.plan.first_date).days - SHIFT_DAY for day in asked]
        after = [day for day in days if day > 0]
        before_shift += len(days) - len(after)
        answered = [day for day in after if day <= LEVEL_DAYS]
        after_shift += answered
        later += len(after) - len(answered)
        in_time += len(answered) == 1 and answered[0] <= WITHIN_DAYS
        quiet = build_world(RetailerPlan(seed=seed, n_days=N_DAYS, with_faults=False))
        quiet_requests += len(requests_of(world_episodes(quiet, N_DAYS - QUIET_STUDY_DAYS, N_DAYS - 1)))
    return {
        "n_seeds": n_seeds,
        "shifted_exactly_one_request_within_3_days": in_time,
        "shifted_requests_after_shift": len(after_shift),
        "shifted_mean_days_to_request": float(np.mean(after_shift)) if after_shift else float("nan"),
        "shifted_requests_before_shift": before_shift,
        "shifted_requests_after_four_weeks": later,
        "unshifted_requests": quiet_requests,
        "unshifted_days": n_seeds * QUIET_STUDY_DAYS,
    }
