"""pandera schemas of the derived tables: what must hold of features, forecasts, drift scores, decisions and outcomes.

Streams have theirs from their contract (`contracts.table_schema`). Columns beyond those named here are allowed: a
profile decides how many lags and quantiles there are. pandera is imported when a schema is made, never at load.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import polars as pl

SERIES = {"sku_id": pl.String(), "location_id": pl.String()}
ORIGIN = {"origin_date": pl.Date()}
VERDICTS = ("auto", "approval", "freeze", "no_action")
MODES = ("champion", "previous", "naive")


def features_schema() -> Any:
    """`features/feat_demand`: one row per origin and series."""
    columns = {**SERIES, **ORIGIN, "feature_set_id": pl.String()}
    return _schema("features/feat_demand", columns, unique=("origin_date", "sku_id", "location_id"))


def lead_time_schema() -> Any:
    """`features/lead_time`: counts of received lines by lead time, as known at an origin."""
    columns = {**ORIGIN, "lead_time_days": None, "n_lines": None}
    return _schema("features/lead_time", columns, at_least={"lead_time_days": 0, "n_lines": 1})


def lost_sales_schema() -> Any:
    """`features/lost_sales`: one row per series, day and origin that sees its estimate otherwise."""
    columns = {**SERIES, "event_date": pl.Date(), "knowledge_date": pl.Date(), "lost_milli": None}
    key = (*SERIES, "event_date", "knowledge_date")
    return _schema(
        "features/lost_sales", {**columns, "censored_days": None}, allowed={"censored_days": (-1, 0, 1)}, unique=key
    )


def stored_grid_schema(entity: Sequence[str]) -> Any:
    """`features/grid_<set>`: one row per key and origin; what a feature may be is its definition's affair."""
    columns = {**dict.fromkeys(entity), **ORIGIN, "as_of": pl.Datetime("us", "UTC")}
    return _schema("features/grid", columns, unique=(*entity, "origin_date"))


def state_log_schema(entity: Sequence[str]) -> Any:
    """`features/state_<source>`: one row per key and instant from which on another version is the latest."""
    columns = {**dict.fromkeys(entity), "known_from": pl.Datetime("us", "UTC"), "is_live": pl.Boolean()}
    return _schema("features/state", columns, unique=(*entity, "known_from"))


def backtest_schema() -> Any:
    """`forecasts/backtest`: one row per origin, series, step and method."""
    columns = {**SERIES, "step": None, "method": pl.String(), "mean_milli": None}
    return _schema("forecasts/backtest", columns, at_least={"step": 1, "mean_milli": 0}, frame_check=quantiles_rise)


def forecast_schema() -> Any:
    """`forecasts/demand`: one row per origin, series and step; quantiles never cross."""
    columns = {**ORIGIN, **SERIES, "step": None, "target_date": pl.Date(), "mean_milli": None, "mode": pl.String()}
    return _schema(
        "forecasts/demand",
        columns,
        at_least={"step": 1, "mean_milli": 0},
        allowed={"mode": MODES},
        unique=("origin_date", "sku_id", "location_id", "step"),
        frame_check=quantiles_rise,
    )


def protection_schema() -> Any:
    """`forecasts/protection_demand`: one row per origin, series and quantile level of the sum over the interval."""
    columns = {**ORIGIN, **SERIES, "quantile_level": pl.Float64(), "units_milli": None}
    return _schema(
        "forecasts/protection_demand",
        columns,
        at_least={"quantile_level": 0, "units_milli": 0},
        at_most={"quantile_level": 1},
        unique=("origin_date", "sku_id", "location_id", "quantile_level"),
    )


def drift_schema() -> Any:
    """`monitoring/drift`: one score per origin, signal and subject."""
    columns = {**ORIGIN, "signal": pl.String(), "subject": pl.String(), "is_breach": pl.Boolean()}
    return _schema("monitoring/drift", columns)


def decision_schema() -> Any:
    """`decisions/replenishment`: one row per slot and revision; never a negative order, never an unknown verdict."""
    columns = {**ORIGIN, **SERIES, "decision_id": pl.String(), "slot_id": pl.String(), "revision": None}
    return _schema(
        "decisions/replenishment",
        {**columns, "verdict": pl.String(), "order_units": None},
        at_least={"order_units": 0},
        allowed={"verdict": VERDICTS},
        unique=("slot_id", "revision"),
    )


def policy_levels_schema() -> Any:
    """`forecasts/policy_levels`: one level per past origin and series, in whole units."""
    return _schema(
        "forecasts/policy_levels",
        {**ORIGIN, **SERIES, "base_stock_level_units": None},
        at_least={"base_stock_level_units": 0},
        unique=("origin_date", "sku_id", "location_id"),
    )


def outcome_schema() -> Any:
    """`outcomes/service`: one row per method, origin, series and day; stock and lost units are never negative."""
    columns = {**ORIGIN, **SERIES, "event_date": pl.Date(), "method": pl.String()}
    figures = {"demand_units": 0, "lost_units": 0, "on_hand_units": 0}
    return _schema(
        "outcomes/service",
        {**columns, **dict.fromkeys(figures)},
        at_least=figures,
        unique=("origin_date", "method", "sku_id", "location_id", "event_date"),
    )


def late_effects_schema() -> Any:
    """`monitoring/late_effects`: one row per report, origin, kind of effect and subject."""
    columns = {"report_date": pl.Date(), **ORIGIN, "effect": pl.String(), "subject": pl.String()}
    return _schema(
        "monitoring/late_effects",
        {**columns, "n_compared": None, "n_changed": None},
        at_least={"n_compared": 0, "n_changed": 0},
        allowed={"effect": ("feature", "forecast", "order")},
        unique=("report_date", "origin_date", "effect", "subject"),
    )


def reconciliation_schema() -> Any:
    """`monitoring/reconciliation`: counts of values by origin, set, feature, outcome and cause."""
    columns = {**ORIGIN, "feature_set": pl.String(), "outcome": pl.String(), "cause": pl.String(), "n_values": None}
    return _schema(
        "monitoring/reconciliation",
        columns,
        at_least={"n_values": 0},
        allowed={"outcome": ("match", "missing", "extra", "difference")},
    )


def quantiles_rise(frame: pl.DataFrame) -> bool:
    """Whether in every row the `q*_milli` columns rise with their level."""
    names = sorted((c for c in frame.columns if c.startswith("q") and c.endswith("_milli")), key=_level_of)
    pairs = [pl.col(low) <= pl.col(high) for low, high in pairwise(names)]
    return not pairs or bool(frame.select(pl.all_horizontal(pairs).fill_null(True).all()).item())


def _level_of(name: str) -> float:
    digits = name.removeprefix("q").removesuffix("_milli").replace("_", "")
    return float(f"0.{digits}")


def _schema(
    name: str,
    columns: Mapping[str, pl.DataType | None],
    *,
    at_least: Mapping[str, float] | None = None,
    at_most: Mapping[str, float] | None = None,
    allowed: Mapping[str, Sequence[str | int]] | None = None,
    unique: Sequence[str] = (),
    frame_check: Callable[[pl.DataFrame], bool] | None = None,
) -> Any:
    from pandera.polars import Check, Column, DataFrameSchema

    checks: dict[str, list[Any]] = {column: [] for column in columns}
    for column, limit in (at_least or {}).items():
        checks[column].append(Check.ge(limit))
    for column, limit in (at_most or {}).items():
        checks[column].append(Check.le(limit))
    for column, values in (allowed or {}).items():
        checks[column].append(Check.isin(list(values)))
    whole = [Check(lambda data: frame_check(data.lazyframe.collect()))] if frame_check else []
    return DataFrameSchema(
        {column: Column(dtype, checks=checks[column], nullable=False) for column, dtype in columns.items()},
        checks=whole,
        unique=list(unique) or None,
        strict=False,
        name=name,
    )
