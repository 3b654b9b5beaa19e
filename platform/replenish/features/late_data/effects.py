"""What would have been otherwise: features, forecasts and order lines of past origins, with late rows on time.

All sums are integers: changes in thousandths of the subject's unit, money in cents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import polars as pl

from replenish.units import MILLI

LATE_EFFECTS_TABLE = "monitoring/late_effects"
"""One row per report, origin, kind of effect and subject."""
LATE_ORDERS_TABLE = "monitoring/late_orders"
"""One row per report, origin and item whose order line would have been another."""

ITEM_KEY = ("sku_id", "location_id")
FEATURE, FORECAST, ORDER = "feature", "forecast", "order"

LATE_EFFECTS_SCHEMA: dict[str, pl.DataType] = {
    "report_date": pl.Date(),
    "origin_date": pl.Date(),
    "effect": pl.String(),
    "subject": pl.String(),
    "n_compared": pl.Int64(),
    "n_changed": pl.Int64(),
    "net_change_milli": pl.Int64(),
    "absolute_change_milli": pl.Int64(),
    "net_change_cents": pl.Int64(),
    "absolute_change_cents": pl.Int64(),
    "n_as_recorded": pl.Int64(),
}
LATE_ORDERS_SCHEMA: dict[str, pl.DataType] = {
    "report_date": pl.Date(),
    "origin_date": pl.Date(),
    "sku_id": pl.String(),
    "location_id": pl.String(),
    "order_units": pl.Int64(),
    "order_units_on_time": pl.Int64(),
    "order_cost_cents": pl.Int64(),
    "order_cost_cents_on_time": pl.Int64(),
    "verdict": pl.String(),
    "verdict_on_time": pl.String(),
}
ORDER_LINE_SCHEMA: dict[str, pl.DataType] = {
    "sku_id": pl.String(),
    "location_id": pl.String(),
    "order_units": pl.Int64(),
    "order_cost_cents": pl.Int64(),
    "verdict": pl.String(),
}
"""Order lines of one origin; units and cents are 0 where nothing would be ordered, null where nobody can say."""

_ON_TIME = "_on_time"


def feature_effects(
    known: pl.DataFrame, punctual: pl.DataFrame, key: Sequence[str], features: Sequence[str]
) -> pl.DataFrame:
    """How often each feature would have had another value, per origin.

    A row that only one of the frames has counts as changed in every feature that is not null in the other. Changes of
    values are summed where both are known.

    Args:
        known: `key` and features, as known at each origin.
        punctual: The same, had all rows been on time.
        key: Columns of a row, `origin_date` among them.
        features: Names.

    Returns:
        Rows of `LATE_EFFECTS_SCHEMA` without `report_date`, in order of origin and of `features`.
    """
    both = known.select(*key, *features, pl.lit(True).alias("_known")).join(
        punctual.select(*key, *features), on=list(key), how="full", suffix=_ON_TIME, coalesce=True
    )
    frames = []
    for name in features:
        before, after = pl.col(name), pl.col(f"{name}{_ON_TIME}")
        dtype = known.schema[name]
        change = pl.lit(None, pl.Int64) if dtype == pl.String else _milli(after, dtype) - _milli(before, dtype)
        rows = both.select("origin_date", is_changed=before.ne_missing(after), change=change)
        frames.append(_counted(rows, FEATURE, name))
    return _in_order(frames, features)


def forecast_effects(known: pl.DataFrame, punctual: pl.DataFrame) -> pl.DataFrame:
    """How many forecast means of an origin would have been others; columns as `feature_effects`.

    Args:
        known: `origin_date`, the item's key, `step` and `mean_milli`, forecast from what was known.
        punctual: The same with late rows on time.
    """
    key = ["origin_date", *ITEM_KEY, "step"]
    both = known.select(*key, "mean_milli").join(
        punctual.select(*key, "mean_milli"), on=key, how="full", suffix=_ON_TIME, coalesce=True
    )
    before, after = pl.col("mean_milli"), pl.col(f"mean_milli{_ON_TIME}")
    change = after.fill_null(0) - before.fill_null(0)
    rows = both.select("origin_date", is_changed=before.ne_missing(after), change=change)
    return _in_order([_counted(rows, FORECAST, "mean_milli")], ("mean_milli",))


def order_changes(known: pl.DataFrame, punctual: pl.DataFrame, origin: date) -> pl.DataFrame:
    """Order lines of an origin that would have had other units or another verdict.

    Args:
        known: Rows of `ORDER_LINE_SCHEMA`.
        punctual: The same with late rows on time.
        origin: Their origin date.

    Returns:
        Rows of `LATE_ORDERS_SCHEMA` without `report_date`, sorted by item.
    """
    names = list(ORDER_LINE_SCHEMA)
    both = known.select(names).join(
        punctual.select(names), on=list(ITEM_KEY), how="full", suffix="_on_time", coalesce=True
    )
    is_other = pl.any_horizontal(
        pl.col(name).ne_missing(pl.col(f"{name}_on_time")) for name in ("order_units", "verdict")
    )
    columns = [name for name in LATE_ORDERS_SCHEMA if name != "report_date"]
    return both.filter(is_other).with_columns(origin_date=pl.lit(origin)).select(columns).sort(ITEM_KEY)


def order_effects(
    known: pl.DataFrame, changed: pl.DataFrame, origin: date, recorded: Mapping[tuple[str, str], int]
) -> pl.DataFrame:
    """The changed order lines of an origin as one row of effects.

    Args:
        known: All order lines as they were, rows of `ORDER_LINE_SCHEMA`.
        changed: From `order_changes`.
        origin: Their origin date.
        recorded: Units that were decided at the time, by item; `n_as_recorded` counts lines of `known` that agree.
            Another model, policy or error pool since then makes fewer agree, on both sides alike.
    """
    units = [pl.col(name).fill_null(0) for name in ("order_units", "order_units_on_time")]
    cents = [pl.col(name).fill_null(0) for name in ("order_cost_cents", "order_cost_cents_on_time")]
    sums = changed.select(
        net_change_milli=((units[1] - units[0]) * MILLI).sum(),
        absolute_change_milli=((units[1] - units[0]).abs() * MILLI).sum(),
        net_change_cents=(cents[1] - cents[0]).sum(),
        absolute_change_cents=(cents[1] - cents[0]).abs().sum(),
    ).row(0, named=True)
    lines = known.select(*ITEM_KEY, "order_units").iter_rows()
    n_as_recorded = sum(recorded.get((sku, place)) == (n or 0) for sku, place, n in lines)
    row = {"origin_date": origin, "effect": ORDER, "subject": "order_units", "n_compared": known.height}
    row |= {"n_changed": changed.height, **sums, "n_as_recorded": n_as_recorded}
    return _as_effects(pl.DataFrame([row]))


def _milli(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """A number in thousandths; rounded before it is summed, so that no order of rows matters."""
    return (value * MILLI).round().cast(pl.Int64) if dtype.is_float() else value.cast(pl.Int64) * MILLI


def _counted(rows: pl.DataFrame, effect: str, subject: str) -> pl.DataFrame:
    counted = rows.group_by("origin_date").agg(
        n_compared=pl.len(),
        n_changed=pl.col("is_changed").sum(),
        net_change_milli=pl.col("change").sum(),
        absolute_change_milli=pl.col("change").abs().sum(),
    )
    return counted.with_columns(effect=pl.lit(effect), subject=pl.lit(subject))


def _in_order(frames: Sequence[pl.DataFrame], subjects: Sequence[str]) -> pl.DataFrame:
    order = dict(zip(subjects, range(len(subjects)), strict=True))
    rows = pl.concat([_as_effects(frame) for frame in frames])
    return rows.sort("origin_date", pl.col("subject").replace_strict(order, return_dtype=pl.Int64))


def _as_effects(rows: pl.DataFrame) -> pl.DataFrame:
    """The columns of `LATE_EFFECTS_SCHEMA` but the report's date; null where they say nothing of an effect."""
    columns = [
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in LATE_EFFECTS_SCHEMA.items()
        if name != "report_date"
    ]
    return rows.select(columns)
