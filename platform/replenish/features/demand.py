"""The demand features: one row per series and origin, holding only what was known at the origin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time

import numpy as np
import polars as pl

from replenish.bitemporal_windows import NO_EVENT
from replenish.contracts.dataset import Dataset
from replenish.contracts.profile import ForecastProfile
from replenish.control.present_streams import has_stream
from replenish.errors import BrokenPromise, NotApplicable
from replenish.features.censoring import CensoredDemand, censored_demand, censoring_features
from replenish.features.demand_history import DemandHistory, FeatureArrays, demand_features
from replenish.features.price import price_features, price_values
from replenish.features.series import (
    DEMAND_TABLE,
    SERIES_COLUMNS,
    BuildAxes,
    KnownValues,
    OriginBlock,
    oldest_known_origin,
    origin_blocks,
    series_of,
)
from replenish.features.supplier_lead_time import (
    SupplierLeadTimes,
    supplier_lead_time_features,
    supplier_lead_times,
)
from replenish.features.unconstrained.lost_windows import LOST_SALES_TABLE, check_estimated, unconstrained_features
from replenish.stores.lake import DeltaLake, TableCommit, accept_all

FEAT_DEMAND_TABLE = "features/feat_demand"

_INTEGER_COLUMNS = (
    *("price_cents", "is_promotion", "lead_time_n_lines", "in_stock_units__", "in_stock_days__"),
    *("unconstrained_milli_sum__", "lost_milli_sum__"),
)
"""Columns that are integers or null; they are built as floats only where NaN has to stand for null."""


@dataclass(frozen=True)
class GoldFrames:
    """The gold tables that features are built from; None where the data set has no such table."""

    demand: pl.DataFrame
    prices: pl.DataFrame | None = None
    stock: pl.DataFrame | None = None
    products: pl.DataFrame | None = None
    supply: pl.DataFrame | None = None
    lost_sales: pl.DataFrame | None = None
    """`features/lost_sales`, which is estimated before features are built."""


def update_feat_demand(
    lake: DeltaLake,
    dataset: Dataset,
    profile: ForecastProfile,
    audit: Callable[[pl.DataFrame], None] = accept_all,
    *,
    through: date | None = None,
) -> TableCommit:
    """Append the rows of all origins since the last update to `features/feat_demand`; rows there never change.

    The watermark is kept per feature set, so another profile's rows stand beside these and are told apart by
    `feature_set_id`. With `max_series` the series are chosen once, at the first backtest origin of the first update.

    Args:
        lake: Reads gold, writes features.
        dataset: Zone, cut-off and which streams there are.
        profile: What to build.
        audit: Called on each block of rows before its commit.
        through: Newest origin to build; None = the newest knowledge date of demand.

    Raises:
        NotApplicable: No demand is known, or none was at `through`.
        StoreError: Lost sales are estimated in this lake, but not up to `through`.
        AuditFailed: From `audit`; blocks committed before stay.
    """
    gold = _read_gold(lake, dataset)
    first = oldest_known_origin(profile, gold.demand)
    if first is None:
        raise NotApplicable("not_applicable: no demand is known", dataset=dataset.dataset_id)
    newest = profile.period_index(through or _newest_knowledge_date(gold.demand))
    if newest < first:
        raise NotApplicable("not_applicable: no demand was known then", dataset=dataset.dataset_id, through=through)
    check_estimated(lake, profile.period_start(newest))
    watermark = f"feat_demand:{profile.feature_set_id[:16]}"
    done = lake.app_version(FEAT_DEMAND_TABLE, watermark) if lake.has(FEAT_DEMAND_TABLE) else None
    start = first if done is None else done + 1
    origins = [profile.period_start(n) for n in range(start, newest + 1)]
    series = _chosen_series(lake, profile, gold.demand, profile.period_start(newest), is_new=done is None)
    commit = None
    for last_origin, frame in demand_feature_blocks(
        gold, profile, origins, zone=dataset.zone, cutoff=dataset.cutoff, series=series
    ):
        audit(frame)
        commit = lake.append(
            FEAT_DEMAND_TABLE, _padded(lake, frame), app=(watermark, profile.period_index(last_origin))
        )
    return commit or TableCommit(
        FEAT_DEMAND_TABLE, lake.version(FEAT_DEMAND_TABLE) or 0, lake.row_count(FEAT_DEMAND_TABLE)
    )


def _padded(lake: DeltaLake, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with a null column for each feature that only another feature set in the table has."""
    held = lake.schema(FEAT_DEMAND_TABLE) if lake.has(FEAT_DEMAND_TABLE) else {}
    missing = {name: dtype for name, dtype in held.items() if name not in frame.columns}
    return frame.with_columns(pl.lit(None, dtype=dtype).alias(name) for name, dtype in missing.items())


def _newest_knowledge_date(demand: pl.DataFrame) -> date:
    newest = demand["knowledge_date"].max()
    if not isinstance(newest, date):
        raise BrokenPromise("demand has no knowledge dates")
    return newest


def _read_gold(lake: DeltaLake, dataset: Dataset) -> GoldFrames:
    """Gold as far as the data set has the streams behind it."""

    def table(name: str, *streams: str) -> pl.DataFrame | None:
        is_delivered = all(has_stream(dataset, stream, lake) for stream in streams)
        return lake.read(name) if is_delivered and lake.has(name) else None

    columns = [*SERIES_COLUMNS, "event_date", "knowledge_date", "units", "revenue_cents"]
    return GoldFrames(
        demand=lake.read(DEMAND_TABLE, columns=columns),
        prices=table("gold/fct_price", "prices"),
        stock=table("gold/fct_stock", "stock_counts"),
        products=table("gold/dim_product", "products"),
        supply=table("gold/fct_supply", "purchase_orders", "receipts"),
        lost_sales=table(LOST_SALES_TABLE, "stock_counts"),
    )


def _chosen_series(
    lake: DeltaLake, profile: ForecastProfile, demand: pl.DataFrame, newest: date, *, is_new: bool
) -> pl.DataFrame | None:
    """The series to build; None = all."""
    if profile.max_series is None:
        return None
    if is_new:
        as_of = profile.backtest_origins(newest)[0]
        return select_series(demand, as_of=as_of, max_series=profile.max_series)
    rows = lake.scan(FEAT_DEMAND_TABLE).filter(pl.col("feature_set_id") == profile.feature_set_id)
    return rows.select(SERIES_COLUMNS).unique().sort(SERIES_COLUMNS).collect()


def select_series(demand: pl.DataFrame, *, as_of: date, max_series: int) -> pl.DataFrame:
    """The series with most units known at an origin date, sorted by key; ties go to the smaller key."""
    known = demand.filter(pl.col("knowledge_date") <= as_of).group_by(SERIES_COLUMNS).agg(pl.col("units").sum())
    ranked = known.sort("units", *SERIES_COLUMNS, descending=[True, False, False])
    return ranked.head(max_series).select(SERIES_COLUMNS).sort(SERIES_COLUMNS)


def build_demand_features(
    gold: GoldFrames,
    profile: ForecastProfile,
    origins: Sequence[date],
    *,
    zone: str,
    cutoff: time,
    series: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Demand features of every series at every origin, as known at the origin.

    Args:
        gold: Gold tables, whole: rows known after an origin have no influence on its features.
        profile: Period, lags and windows.
        origins: Origin dates of the profile, any order.
        zone: IANA zone of the cut-off.
        cutoff: Cut-off of an origin.
        series: Series to build (`sku_id`, `location_id`); None = all.

    Returns:
        (sku_id, location_id, origin_date), sorted, one row per series and origin at which any sale of it is known;
        every other column but `feature_set_id` is a feature. Null: not known, or the data set has no such input.
    """
    blocks = list(demand_feature_blocks(gold, profile, origins, zone=zone, cutoff=cutoff, series=series))
    if not blocks:
        blocks = list(_built(gold, profile, [OriginBlock(0, 1)], zone, cutoff, series_of(gold.demand).clear()))
    return pl.concat([frame for _, frame in blocks]).sort(*SERIES_COLUMNS, "origin_date")


def demand_feature_blocks(
    gold: GoldFrames,
    profile: ForecastProfile,
    origins: Sequence[date],
    *,
    zone: str,
    cutoff: time,
    series: pl.DataFrame | None = None,
) -> Iterator[tuple[date, pl.DataFrame]]:
    """The rows of `build_demand_features` in blocks, so that memory stays bounded: (last origin, rows), ascending."""
    chosen = series_of(gold.demand) if series is None else series.select(SERIES_COLUMNS).sort(SERIES_COLUMNS)
    blocks = list(origin_blocks(origins, profile, chosen.height))
    return _built(gold, profile, blocks, zone, cutoff, chosen)


def _built(
    gold: GoldFrames,
    profile: ForecastProfile,
    blocks: Sequence[OriginBlock],
    zone: str,
    cutoff: time,
    series: pl.DataFrame,
) -> Iterator[tuple[date, pl.DataFrame]]:
    axes = BuildAxes(series, profile.period_days, zone, cutoff)
    numbered = axes.numbered(gold.demand)
    sources = _Sources(
        history=DemandHistory.from_increments(axes, numbered),
        censored=censored_demand(axes, numbered, gold.stock),
        prices=price_values(axes, gold.prices),
        lead_times=supplier_lead_times(axes, gold.supply, gold.products),
        lost_sales=gold.lost_sales,
    )
    for block in blocks:
        features = _block_arrays(sources, axes, profile, block)
        last_origin = profile.period_start(block.first_origin + block.n_origins - 1)
        yield last_origin, _block_frame(axes, profile, features, block)


@dataclass(frozen=True)
class _Sources:
    """Everything read from gold, on the axes of the build."""

    history: DemandHistory
    censored: CensoredDemand | None
    prices: KnownValues | None
    lead_times: SupplierLeadTimes | None
    lost_sales: pl.DataFrame | None


def _block_arrays(sources: _Sources, axes: BuildAxes, profile: ForecastProfile, block: OriginBlock) -> FeatureArrays:
    features = demand_features(sources.history, profile, axes.n_series, block)
    sums = {w: features[f"units_sum__{w}"].astype(np.int64) for w in profile.windows}
    age = features["periods_since_first_sale"].astype(np.int64)
    features |= censoring_features(sources.censored, profile, sums, age, block)
    features |= unconstrained_features(sources.lost_sales, axes, profile, sums, block)
    features |= price_features(sources.prices, axes, profile, block)
    features |= supplier_lead_time_features(sources.lead_times, axes, block)
    return features


def _block_frame(
    axes: BuildAxes, profile: ForecastProfile, features: FeatureArrays, block: OriginBlock
) -> pl.DataFrame:
    """One row per series and origin that has a first sale, in key order."""
    is_row = features["periods_since_first_sale"] != NO_EVENT
    series, origin = np.nonzero(is_row)
    starts = pl.Series([profile.period_start(block.first_origin + n) for n in range(block.n_origins)], dtype=pl.Date)
    keys = axes.series[series] if len(series) else axes.series.clear()
    columns = [pl.Series("origin_date", starts.gather(origin), dtype=pl.Date)]
    columns += [_feature_column(name, values[is_row]) for name, values in features.items()]
    frame = keys.with_columns(columns)
    day = pl.col("origin_date").dt
    return frame.with_columns(
        day_of_week=day.weekday().cast(pl.Int64),
        day_of_month=day.day().cast(pl.Int64),
        day_of_year=day.ordinal_day().cast(pl.Int64),
        week_of_year=day.week().cast(pl.Int64),
        month=day.month().cast(pl.Int64),
        feature_set_id=pl.lit(profile.feature_set_id),
    ).select(
        *SERIES_COLUMNS,
        "origin_date",
        *profile.feature_columns,
        "feature_set_id",
    )


def _feature_column(name: str, values: np.ndarray) -> pl.Series:
    column = pl.Series(name, values)
    if column.dtype.is_float():
        column = column.fill_nan(None)
    return column.cast(pl.Int64) if name.startswith(_INTEGER_COLUMNS) else column
