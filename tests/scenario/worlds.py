"""Small deployments for scenarios: a few articles of the built-in retailer, or a handful of hand-made files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from replenish.cli.demo import lay_out_retailer
from replenish.cli.deployment import Deployment, open_deployment
from replenish.digests import table_digest
from replenish.outcomes.retailer_plan import RetailerPlan
from replenish.stores.lake import DeltaLake

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
GOLD = ("fct_demand", "fct_price", "fct_stock", "fct_supply", "dim_product", "dim_location", "dim_supplier")


def small_retailer(root: Path, *, with_faults: bool = False, n_days: int = 120, seed: int = 3) -> Deployment:
    """Six articles in two stores."""
    lay_out_retailer(root, RetailerPlan(seed=seed, n_skus=6, n_locations=2, n_days=n_days, with_faults=with_faults))
    return open_deployment(root)


def digests_of(lake: DeltaLake, tables: tuple[str, ...]) -> dict[str, str]:
    """Digest of every table that exists; run ids and wall clocks are not among their columns."""
    return {table: table_digest(lake.read(table), []) for table in tables if lake.has(table)}


def gold_digests(lake: DeltaLake) -> dict[str, str]:
    """Digests of all gold tables."""
    return digests_of(lake, tuple(f"gold/{name}" for name in GOLD))


def demand_as_of(lake: DeltaLake, knowledge_date: object) -> pl.DataFrame:
    """Units per article, store and day as known at an origin, zero totals left out."""
    known = lake.read("gold/fct_demand").filter(pl.col("knowledge_date") <= knowledge_date)
    keys = ["sku_id", "location_id", "event_date"]
    return known.group_by(keys).agg(pl.col("units").sum()).filter(pl.col("units") != 0).sort(keys)
