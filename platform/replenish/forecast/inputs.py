"""What the forecasts read from the lake, once per run: gold facts and features, cut by nothing yet."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from replenish.contracts.profile import ForecastProfile
from replenish.errors import TableMissing
from replenish.forecast.panel import SERIES_KEY
from replenish.stores.lake import DeltaLake


@dataclass(frozen=True)
class ForecastInputs:
    """Gold and feature tables as frames; `stock` and `prices` are None where the data set has none."""

    demand: pl.DataFrame
    stock: pl.DataFrame | None
    prices: pl.DataFrame | None
    features: pl.DataFrame
    categories: pl.DataFrame
    """`sku_id, category_id`: any version of the product, since it only groups series."""
    lost_sales: pl.DataFrame | None = None
    """Increments of what is estimated beyond the sales of sold-out days; None where nothing was estimated."""


def read_inputs(lake: DeltaLake, profile: ForecastProfile) -> ForecastInputs:
    """Read everything; only rows of the profile's feature set.

    Raises:
        TableMissing: No demand or no features yet.
    """
    features = lake.read("features/feat_demand")
    if "feature_set_id" in features.columns:
        features = features.filter(pl.col("feature_set_id") == profile.feature_set_id)
    if features.is_empty():
        raise TableMissing("no features of this profile yet", table="features/feat_demand", profile=profile.name)
    return ForecastInputs(
        demand=lake.read("gold/fct_demand"),
        stock=_read_or_none(lake, "gold/fct_stock"),
        prices=_read_or_none(lake, "gold/fct_price"),
        features=features,
        categories=_categories(lake),
        lost_sales=_read_or_none(lake, "features/lost_sales"),
    )


def series_codes(
    keys: pl.DataFrame, categories: pl.DataFrame, lists: dict[str, list[str]] | None = None
) -> tuple[pl.DataFrame, dict[str, list[str]]]:
    """Small integers for category and location of each series, and the lists they index.

    Args:
        keys: `sku_id, location_id`.
        categories: `sku_id, category_id`.
        lists: Lists of an earlier training; ids outside them have no code (null).
    """
    known = keys.select(SERIES_KEY).unique().join(categories, on="sku_id", how="left").sort(SERIES_KEY)
    if lists is None:
        lists = {
            name: sorted(v for v in known[column].unique().to_list() if v is not None)
            for name, column in (("categories", "category_id"), ("locations", "location_id"))
        }
    coded = known.with_columns(
        _code("category_id", lists["categories"]).alias("category_code"),
        _code("location_id", lists["locations"]).alias("location_code"),
    )
    return coded.select(*SERIES_KEY, "category_code", "location_code"), lists


def _code(column: str, values: list[str]) -> pl.Expr:
    codes = dict(zip(values, range(len(values)), strict=True))
    return pl.col(column).replace_strict(codes, default=None, return_dtype=pl.Int64)


def _categories(lake: DeltaLake) -> pl.DataFrame:
    products = _read_or_none(lake, "gold/dim_product")
    if products is None:
        return pl.DataFrame(schema={"sku_id": pl.String, "category_id": pl.String})
    live = products.filter(pl.col("posting_sign") > 0).sort("sku_id", "version_nr")
    return live.group_by("sku_id", maintain_order=True).last().select("sku_id", "category_id")


def _read_or_none(lake: DeltaLake, table: str) -> pl.DataFrame | None:
    if not lake.has(table):
        return None
    frame = lake.read(table)
    return None if frame.is_empty() else frame
