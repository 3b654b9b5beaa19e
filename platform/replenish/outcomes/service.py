"""Service and cost that our orders would have given in the last weeks, beside (s, S) on seasonal naive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from replenish.bitemporal import origin_instant
from replenish.contracts.dataset import Dataset
from replenish.contracts.profile import PERIOD_ANCHOR
from replenish.control.present_streams import has_stream
from replenish.errors import NotApplicable
from replenish.outcomes.demand_estimate import estimate_demand
from replenish.outcomes.order_rules import base_stock_rule, economic_order_quantity, seasonal_naive_levels
from replenish.outcomes.policy_levels import read_policy_levels
from replenish.outcomes.service_cost import BASIS_POINTS, DAYS_PER_YEAR, CostRates
from replenish.outcomes.service_inputs import (
    SERIES_KEY,
    ServiceSeries,
    empty_shelf_days,
    lead_days_at,
    lead_time_counts,
    lead_time_moments,
    pipeline_units,
    read_series,
    stock_before,
    units_by_day,
)
from replenish.outcomes.service_options import ServiceOptions, read_service_options
from replenish.outcomes.service_table import service_rows, service_summary
from replenish.outcomes.simulate import OrderRule, StockTrajectory, simulate_stock
from replenish.stores.lake import DeltaLake, TableCommit, accept_all

SERVICE_TABLE = "outcomes/service"
SERVICE_SUMMARY_TABLE = "outcomes/service_summary"
OURS, BASELINE = "replenish", "s_S_seasonal_naive"
SEASON_DAYS = 7
HISTORY_DAYS = 56
"""Days before a review day from which the baseline takes its last season and its errors."""


@dataclass(frozen=True)
class ServiceUpdate:
    """What `update_service` wrote; `summary` has one row per method."""

    commit: TableCommit
    summary_commit: TableCommit
    summary: pl.DataFrame


def update_service(
    lake: DeltaLake, dataset: Dataset, origin: date, audit: Callable[[pl.DataFrame], None] = accept_all
) -> ServiceUpdate:
    """Simulate the weeks before an origin under each order rule and replace that origin's rows of `outcomes/service`.

    Reads gold demand, supply, stock and dimensions, and our base-stock levels of past origins (`policy_levels`); where
    there are none, only the baseline is simulated. Demand is what was sold, and on days that
    ended with an empty shelf at least the usual (see `demand_estimate`). Options: `ServiceOptions`.

    Raises:
        NotApplicable: The data set has no sales, no purchase orders or no receipts.
    """
    window = _read_window(lake, dataset, origin)
    parts = [
        service_rows(
            method, window.series.frame, window.dates, trajectory, window.rates, window.is_warm_up, window.is_estimated
        )
        for method, trajectory in _simulate(window).items()
    ]
    rows = pl.concat([part.rows for part in parts]).with_columns(origin_date=pl.lit(origin))
    audit(rows)
    summary = service_summary(parts).with_columns(origin_date=pl.lit(origin))
    commit = lake.replace_partitions(SERVICE_TABLE, rows, column="origin_date", values=[origin])
    summary_commit = lake.replace_partitions(SERVICE_SUMMARY_TABLE, summary, column="origin_date", values=[origin])
    return ServiceUpdate(commit, summary_commit, summary)


@dataclass(frozen=True)
class _Window:
    """Everything the simulation of one origin needs."""

    options: ServiceOptions
    series: ServiceSeries
    dates: list[date]
    increments: pl.DataFrame
    """Rows of `fct_demand` known at the origin, from `HISTORY_DAYS` before the window on."""
    demand: np.ndarray
    is_estimated: np.ndarray
    is_warm_up: np.ndarray
    lead_days: np.ndarray
    lead_mean_days: np.ndarray
    lead_sd_days: np.ndarray
    pipeline: np.ndarray
    on_hand_before: np.ndarray
    levels: pl.DataFrame | None
    rates: CostRates


def _read_window(lake: DeltaLake, dataset: Dataset, origin: date) -> _Window:
    options = read_service_options(dataset)
    if not lake.has("gold/fct_demand") or not has_stream(dataset, "sales", lake):
        raise NotApplicable("not_applicable: no sales feed")
    if not lake.has("gold/fct_supply") or not has_stream(dataset, "purchase_orders", lake):
        raise NotApplicable("not_applicable: no purchase_orders feed")
    as_of = origin_instant(origin, dataset.zone, dataset.cutoff)
    supply = lake.read("gold/fct_supply", filters=[("knowledge_time", "<=", as_of)])
    counts = lead_time_counts(supply)
    if counts.is_empty():
        raise NotApplicable("not_applicable: no receipts feed")
    levels = read_policy_levels(lake, origin, options)
    first = origin - timedelta(days=options.n_days) if levels is None else min(levels["origin_date"].to_list())
    dates = [first + timedelta(days=i) for i in range((origin - first).days)]
    increments = lake.read(
        "gold/fct_demand",
        columns=[*SERIES_KEY, "event_date", "knowledge_date", "units"],
        filters=[
            ("event_date", ">=", first - timedelta(days=HISTORY_DAYS)),
            ("event_date", "<", origin),
            ("knowledge_date", "<=", origin),
        ],
    )
    keys = (increments if levels is None else levels).select(SERIES_KEY).unique()
    if keys.is_empty():
        raise NotApplicable("not_applicable: no sales in the weeks before the origin", origin=origin)
    series = read_series(lake, keys, as_of, options.default_review_days)
    return _window(lake, dataset, options, series, dates, increments, supply, counts, levels)


def _window(
    lake: DeltaLake,
    dataset: Dataset,
    options: ServiceOptions,
    series: ServiceSeries,
    dates: list[date],
    increments: pl.DataFrame,
    supply: pl.DataFrame,
    counts: pl.DataFrame,
    levels: pl.DataFrame | None,
) -> _Window:
    as_of = origin_instant(dates[-1] + timedelta(days=1), dataset.zone, dataset.cutoff)
    known_before = lead_time_counts(supply.filter(pl.col("knowledge_date") <= dates[0]))
    lead_mean, lead_sd = lead_time_moments(counts if known_before.is_empty() else known_before, series)
    days = [dates[0] - timedelta(days=HISTORY_DAYS - i) for i in range(HISTORY_DAYS)] + dates
    demand, is_estimated = estimate_demand(
        units_by_day(increments, series, days, "units"), empty_shelf_days(lake, series, days, as_of)
    )
    share = np.random.Generator(np.random.PCG64(options.seed)).random((len(dates), series.n_series))
    return _Window(
        options=options,
        series=series,
        dates=dates,
        increments=increments,
        demand=demand[HISTORY_DAYS:],
        is_estimated=is_estimated[HISTORY_DAYS:],
        is_warm_up=np.arange(len(dates)) < min(options.warm_up_days, len(dates) - 1),
        lead_days=lead_days_at(counts, series, share),
        lead_mean_days=lead_mean,
        lead_sd_days=lead_sd,
        pipeline=pipeline_units(supply, series, dates, dataset.zone),
        on_hand_before=stock_before(lake, series, dates[0], as_of),
        levels=levels,
        rates=CostRates(
            series.unit_cost_cents,
            series.unit_margin_cents,
            options.holding_rate_bp_per_year,
            options.order_cost_cents,
        ),
    )


def _simulate(window: _Window) -> dict[str, StockTrajectory]:
    """Both rules from the same start, under the same demand and the same lead times."""
    days_since = np.array([(d - PERIOD_ANCHOR).days for d in window.dates])
    is_review_day = days_since[:, None] % window.series.review_days == 0
    baseline = _baseline_rule(window, is_review_day)
    start = np.where(window.on_hand_before >= 0, window.on_hand_before, baseline.order_up_to[0])
    rules = {BASELINE: baseline}
    if window.levels is not None:
        rules = {OURS: _our_rule(window, window.levels, is_review_day)} | rules
    return {
        method: simulate_stock(window.demand, rule, window.lead_days, initial_on_hand=start, pipeline=window.pipeline)
        for method, rule in rules.items()
    }


def _our_rule(window: _Window, levels: pl.DataFrame, is_review_day: np.ndarray) -> OrderRule:
    """Order up to the newest level known at each review day; a series without one yet is not ordered."""
    level = np.full((len(window.dates), window.series.n_series), -1, dtype=np.int64)
    known = levels.join(window.series.frame, on=SERIES_KEY).sort("origin_date", "series")
    for (origin_date,), rows in known.partition_by("origin_date", maintain_order=True, as_dict=True).items():
        day = (origin_date - window.dates[0]).days
        units = np.ceil(rows["base_stock_level_units"].cast(pl.Float64).to_numpy()).astype(np.int64)
        level[day:, rows["series"].to_numpy()] = units
    return base_stock_rule(level, is_review_day & (level >= 0), window.series.pack_size, window.series.min_order)


def _targets(window: _Window) -> np.ndarray:
    """What the baseline aims at: the ratio of our newest level of the series, so that both rules want the same."""
    target = np.full(window.series.n_series, window.options.cycle_service_level)
    if window.levels is not None:
        newest = window.levels.group_by(SERIES_KEY, maintain_order=True).last().join(window.series.frame, on=SERIES_KEY)
        target[newest["series"].to_numpy()] = newest["critical_ratio"].to_numpy()
    return target


def _baseline_rule(window: _Window, is_review_day: np.ndarray) -> OrderRule:
    """(s, S) per review day from what was known on that day."""
    options, series = window.options, window.series
    shape = (len(window.dates), series.n_series)
    target = _targets(window)
    reorder_point, order_up_to = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for i, day in enumerate(window.dates):
        if not (is_review_day[i].any() or i == 0):
            continue
        known = window.increments.filter(pl.col("knowledge_date") <= day)
        days = [day - timedelta(days=HISTORY_DAYS - j) for j in range(HISTORY_DAYS)]
        history = units_by_day(known, series, days, "units")
        holding = (
            np.maximum(series.unit_cost_cents, 1) * options.holding_rate_bp_per_year / BASIS_POINTS / DAYS_PER_YEAR
        )
        quantity = economic_order_quantity(np.array(options.order_cost_cents), holding, history.clip(0).mean(axis=0))
        reorder_point[i], order_up_to[i] = seasonal_naive_levels(
            history,
            window.lead_mean_days,
            window.lead_sd_days,
            series.review_days,
            quantity,
            season_days=SEASON_DAYS,
            cycle_service_level=target,
        )
    return OrderRule(reorder_point, order_up_to, is_review_day, series.pack_size, series.min_order)
