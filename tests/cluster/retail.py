"""A retailer's gold as increments and ledgers, drawn from a seed: late, corrected, retracted, prices planned."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from replenish.bitemporal import knowledge_date_expr, origin_instant_expr
from replenish.features.cluster.engine import FeatureJob, pinned
from replenish.features.definitions.model import FeatureSet
from replenish.features.definitions.reader import read_feature_sets
from replenish.features.state_logs.grid_definition import FeatureGrid, grid_on_silver
from replenish.stores.lake import DeltaLake

ZONE, CUTOFF, FIRST = "Europe/Berlin", time(6), date(2025, 1, 6)
ENTITY = ("sku_id", "location_id")
SPINE = "gold/dim_spine"
HOUR = 3_600_000_000


def ledger(
    seed: int, n_series: int, n_days: int, rate: float, low: int, high: int, *, ahead_days: int = 0
) -> pl.DataFrame:
    """Postings of one stream: versions, corrections a few days later, retractions; a share of all is known late.

    Args:
        rate: Facts per series and day.
        low: Least amount.
        high: Greatest amount.
        ahead_days: A fact may be known up to so many days before it happens.
    """
    chance = np.random.default_rng(seed)
    n_facts = int(n_series * n_days * rate)
    start = np.datetime64(FIRST, "us").astype(np.int64)
    event = start + chance.integers(0, n_days * 24, n_facts) * HOUR + chance.integers(0, 4, n_facts) * HOUR // 4
    late = np.where(
        chance.random(n_facts) < 0.05, chance.integers(1, 14 * 24, n_facts), chance.integers(0, 12, n_facts)
    )
    ahead = chance.integers(0, ahead_days * 24 + 1, n_facts)
    facts = pl.DataFrame(
        {
            "series": chance.integers(0, n_series, n_facts),
            "event": event,
            "known": event + (late - ahead) * HOUR,
            "amount": chance.integers(low, high + 1, n_facts),
            "end": chance.random(n_facts),
            "after": chance.integers(1, 20 * 24, n_facts),
        }
    ).with_row_index("fact")
    facts = facts.unique(["series", "event"], maintain_order=True)
    ended = facts.filter(pl.col("end") < 0.03).with_columns(known=pl.col("known") + pl.col("after") * HOUR)
    corrected = ended.filter(pl.col("end") < 0.02).with_columns(amount=pl.col("amount") + 1)
    rows = [
        _postings(facts, "version", 1, 1),
        _postings(ended, "reversal", -1, 1),
        _postings(corrected, "version", 1, 2),
    ]
    return pl.concat(rows).sample(fraction=1, shuffle=True, seed=seed)


def _postings(facts: pl.DataFrame, kind: str, sign: int, version: int) -> pl.DataFrame:
    event, known = (pl.from_epoch(name, time_unit="us").dt.replace_time_zone("UTC") for name in ("event", "known"))
    return facts.select(
        sku_id=pl.format("sku-{}", pl.col("series") // 4),
        location_id=pl.format("shop-{}", pl.col("series") % 4),
        event_time=event,
        event_date=event.dt.convert_time_zone(ZONE).dt.date(),
        knowledge_time=known,
        version_nr=pl.lit(version, pl.Int32),
        posting_kind=pl.lit(kind),
        posting_sign=pl.lit(sign, pl.Int32),
        amount=pl.col("amount"),
    )


def demand_increments(postings: pl.DataFrame) -> pl.DataFrame:
    """Sales postings summed by knowledge date, as `gold/fct_demand` has them."""
    known = knowledge_date_expr("knowledge_time", ZONE, CUTOFF)
    rows = postings.with_columns(knowledge_date=known, sign=pl.col("posting_sign").cast(pl.Int64))
    sums = rows.group_by(*ENTITY, "event_date", "knowledge_date").agg(
        units=(pl.col("sign") * pl.col("amount")).sum(),
        revenue_cents=(pl.col("sign") * pl.col("amount") * 199).sum(),
        lines=pl.col("sign").sum(),
    )
    return sums.filter(pl.any_horizontal(pl.col("units", "revenue_cents", "lines") != 0))


def spine(n_series: int, n_days: int) -> pl.DataFrame:
    """Every series at the cut-off of every second day, with a column that is nobody's business."""
    series = pl.DataFrame({"series": np.arange(n_series)}).select(
        sku_id=pl.format("sku-{}", pl.col("series") // 4), location_id=pl.format("shop-{}", pl.col("series") % 4)
    )
    days = pl.DataFrame(
        {"day": pl.date_range(FIRST, interval="2d", end=FIRST.fromordinal(FIRST.toordinal() + n_days), eager=True)}
    )
    instants = days.select(as_of=origin_instant_expr("day", ZONE, CUTOFF), fold=pl.int_range(pl.len()) % 5)
    return series.join(instants, how="cross")


def retail_lake(root: Path, n_series: int, n_days: int, seed: int = 1) -> DeltaLake:
    """A lake with demand, prices and stock in gold, the demand in months and in two commits, and the spine."""
    lake = DeltaLake(root / "lake")
    demand = demand_increments(ledger(seed, n_series, n_days, 2.0, 1, 9)).with_columns(
        event_month=pl.col("event_date").dt.strftime("%Y%m").cast(pl.Int32)
    )
    for part in (demand[: demand.height // 2], demand[demand.height // 2 :]):
        lake.append("gold/fct_demand", part, partition_by=["event_month"])
    prices = ledger(seed + 1, n_series, n_days, 0.1, 99, 999, ahead_days=20).rename({"amount": "unit_price_cents"})
    is_promotion = (pl.col("unit_price_cents") % 3 == 0).cast(pl.Int32)
    lake.append("gold/fct_price", prices.with_columns(is_promotion=is_promotion))
    stock = ledger(seed + 2, n_series, n_days, 0.3, 0, 40).rename({"amount": "on_hand_units"})
    lake.append("gold/fct_stock", stock)
    lake.append(SPINE, spine(n_series, n_days))
    return lake


def retail_silver(root: Path, n_series: int, n_days: int, seed: int = 1) -> DeltaLake:
    """A lake with the silver tables behind the demand features, under other names and types than the sets read."""
    lake = DeltaLake(root / "lake")
    month = pl.col("event_date").dt.strftime("%Y%m").cast(pl.Int32).alias("event_month")
    sales = ledger(seed, n_series, n_days, 2.0, 1, 9).with_columns(
        pl.col("amount").cast(pl.Int32).alias("quantity"),
        month,
        revenue_cents=pl.col("amount") * 199,
        sale_id=pl.format("{}", pl.col("event_time").dt.epoch("us")),
    )
    for part in (sales[: sales.height // 2], sales[sales.height // 2 :]):
        lake.append("silver/sales", part.drop("amount"), partition_by=["event_month"])
    prices = ledger(seed + 1, n_series, n_days, 0.1, 99, 999, ahead_days=20).rename({"amount": "unit_price_cents"})
    lake.append("silver/prices", prices.with_columns(is_promotion=pl.col("unit_price_cents") % 3 == 0))
    stock = ledger(seed + 2, n_series, n_days, 0.3, 0, 40).rename({"amount": "counted"})
    lake.append("silver/stock_counts", stock)
    return lake


def retail_grid(feature_set: FeatureSet | None = None) -> FeatureGrid:
    """The grid of the platform's demand features over `retail_silver`, from its fifth week on."""
    grid = grid_on_silver(feature_set or read_feature_sets()["demand_daily"], ZONE, CUTOFF, FIRST + timedelta(days=28))
    named = {"sales": (("units", "quantity"),), "prices": (), "stock": (("on_hand_units", "counted"),)}
    return replace(grid, tables={name: replace(table, renamed=named[name]) for name, table in grid.tables.items()})


def demand_job(lake: DeltaLake, target: str, feature_set: FeatureSet | None = None) -> FeatureJob:
    """The platform's demand features over the retailer's lake."""
    wanted = feature_set or read_feature_sets()["demand_daily"]
    ledgers = {source.name: pinned(lake, source.table) for source in wanted.sources}
    return FeatureJob(wanted, pinned(lake, SPINE), ledgers, ZONE, CUTOFF, target, ("demand_daily", 1))
