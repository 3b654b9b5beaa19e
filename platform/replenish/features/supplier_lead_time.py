"""Features of the lead time of a series' supplier, as known at each origin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from replenish.bitemporal_windows import IntArray
from replenish.features.demand_history import FeatureArrays
from replenish.features.lead_time import MIN_LINES_PER_LOCATION
from replenish.features.series import BuildAxes, KnownValues, OriginBlock, known_values

_STATISTICS = ("n_lines", "sum_days", "sum_squares")


@dataclass(frozen=True)
class SupplierLeadTimes:
    """Receipts of each (supplier, location) by the origin that knows them, and the supplier of each article."""

    receipts: pl.DataFrame
    """Integer columns supplier, location, known, n_lines, sum_days, sum_squares."""
    suppliers: tuple[str, ...]
    locations: IntArray
    """Location number of each series."""
    skus: IntArray
    """Article number of each series."""
    supplier_of_sku: KnownValues


def supplier_lead_times(
    axes: BuildAxes, supply: pl.DataFrame | None, products: pl.DataFrame | None
) -> SupplierLeadTimes | None:
    """What `fct_supply` and `dim_product` say about lead times; None where either is missing."""
    if supply is None or products is None:
        return None
    received = supply.filter(
        (pl.col("supply_event") == "received")
        & (pl.col("lead_time_flag") == "ok")
        & (pl.col("lead_time_days") >= 0)
        & pl.col("supplier_id").is_not_null()
    )
    suppliers = received["supplier_id"].unique().sort()
    locations = axes.series["location_id"].unique().sort()
    skus = axes.series.select("sku_id").unique().sort("sku_id")
    sign = pl.col("posting_sign").cast(pl.Int64)
    days = pl.col("lead_time_days").cast(pl.Int64)
    receipts = (
        received.join(_numbers(suppliers, "supplier"), on="supplier_id")
        # A receipt of a place that is not forecast still tells about its supplier.
        .join(_numbers(locations, "location"), on="location_id", how="left")
        .group_by(
            "supplier",
            pl.col("location").fill_null(len(locations)),
            known=axes.known_period("knowledge_date"),
        )
        .agg(n_lines=sign.sum(), sum_days=(sign * days).sum(), sum_squares=(sign * days * days).sum())
    )
    return SupplierLeadTimes(
        receipts=receipts,
        suppliers=tuple(suppliers),
        locations=axes.series.join(
            _numbers(locations, "location"), on="location_id", maintain_order="left", how="left"
        )["location"].to_numpy(),
        skus=axes.series.join(_numbers(skus["sku_id"], "sku"), on="sku_id", maintain_order="left", how="left")[
            "sku"
        ].to_numpy(),
        supplier_of_sku=known_values(axes, products, skus, fact_key=["sku_id"], values=["supplier_id"]),
    )


def _numbers(values: pl.Series, name: str) -> pl.DataFrame:
    return pl.DataFrame({values.name: values, name: np.arange(len(values), dtype=np.int64)})


def supplier_lead_time_features(
    lead_times: SupplierLeadTimes | None, axes: BuildAxes, block: OriginBlock
) -> FeatureArrays:
    """Number, mean and deviation [days] of the lead times known, of the supplier to the location or else to anywhere.

    NaN where no receipt of the article's supplier is known, or no supplier.
    """
    names = ("lead_time_n_lines", "lead_time_mean_days", "lead_time_sd_days")
    shape = (axes.n_series, block.n_origins)
    if lead_times is None or not lead_times.suppliers:
        return {name: np.full(shape, np.nan) for name in names}
    supplier = _supplier_numbers(lead_times, block)[lead_times.skus]
    here = _cumulative(lead_times, block, axes.series["location_id"].n_unique())
    anywhere = here.sum(axis=2)
    origin = np.arange(block.n_origins)
    own = here[:, supplier, lead_times.locations[:, None], origin]
    whole = anywhere[:, supplier, origin]
    n, total, squares = np.where(own[0] >= MIN_LINES_PER_LOCATION, own, whole)
    has_lines = (n > 0) & (supplier >= 0)
    n_lines = np.where(has_lines, n, 1)
    deviation = np.sqrt(np.maximum(n_lines * squares - total * total, 0)) / n_lines
    values = (n_lines.astype(np.float64), total / n_lines, deviation)
    return {name: np.where(has_lines, value, np.nan) for name, value in zip(names, values, strict=True)}


def _supplier_numbers(lead_times: SupplierLeadTimes, block: OriginBlock) -> IntArray:
    """Supplier number of each article at each origin, (n_skus, n_origins); -1 where none is known."""
    numbers = {supplier: number for number, supplier in enumerate(lead_times.suppliers)}
    of_row = [numbers.get(s, -1) for s in lead_times.supplier_of_sku.rows["supplier_id"]]
    return np.append(np.array(of_row, dtype=np.int64), -1)[lead_times.supplier_of_sku.at(block)]


def _cumulative(lead_times: SupplierLeadTimes, block: OriginBlock, n_locations: int) -> IntArray:
    """Sums known at each origin: (3 statistics, n_suppliers, n_locations + 1, n_origins)."""
    sums = np.zeros((3, len(lead_times.suppliers), n_locations + 1, block.n_origins), dtype=np.int64)
    rows = lead_times.receipts.filter(pl.col("known") < block.first_origin + block.n_origins)
    place = (
        rows["supplier"].to_numpy(),
        rows["location"].to_numpy(),
        np.clip(rows["known"].to_numpy() - block.first_origin, 0, None),
    )
    for statistic, name in zip(sums, _STATISTICS, strict=True):
        np.add.at(statistic, place, rows[name].to_numpy())
    return np.cumsum(sums, axis=3)
