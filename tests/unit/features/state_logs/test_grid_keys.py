"""Who has rows in a grid: those of whom the target's source knows something, whatever else names them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from replenish.features.state_logs.grid_definition import FIRST_KNOWN, FeatureGrid
from replenish.features.state_logs.grid_keys import grid_keys
from replenish.stores.lake import DeltaLake
from tests.cluster.retail import ENTITY, retail_grid, retail_silver


def keys_of(lake: DeltaLake, grid: FeatureGrid) -> dict[object, object]:
    versions = {name: lake.state(grid.tables[name].table).version for name in grid.source_names}
    rows = grid_keys(lake, grid, versions).iter_rows(named=True)
    return {tuple(row[name] for name in ENTITY): row[FIRST_KNOWN] for row in rows}


def first_known(*ledgers: pl.DataFrame) -> dict[object, object]:
    first: dict[object, object] = {}
    for ledger in ledgers:
        for *key, known in ledger.select(*ENTITY, "knowledge_time").iter_rows():
            first[tuple(key)] = min(first.get(tuple(key), known), known)
    return first


def test_the_targets_source_says_who_has_rows_and_without_targets_all_do(tmp_path: Path) -> None:
    lake, grid = retail_silver(tmp_path, n_series=10, n_days=20), retail_grid()
    ledgers = [lake.read(f"silver/{stream}") for stream in ("sales", "prices", "stock_counts")]
    # Named by a price list only, and never sold.
    lake.append("silver/prices", ledgers[1].head(1).with_columns(sku_id=pl.lit("listed")))
    ledgers[1] = lake.read("silver/prices")
    assert keys_of(lake, grid) == first_known(ledgers[0])
    untargeted = replace(grid, feature_set=replace(grid.feature_set, targets=()))
    everyone = first_known(*ledgers)
    assert keys_of(lake, untargeted) == everyone
    assert len(everyone) > len(first_known(ledgers[0]))
    assert everyone != {**everyone, **first_known(ledgers[0])}


def test_a_posting_of_another_kind_makes_no_series(tmp_path: Path) -> None:
    lake, grid = retail_silver(tmp_path, n_series=4, n_days=10), retail_grid()
    before = keys_of(lake, grid)
    sale = lake.read("silver/sales").head(1).with_columns(sku_id=pl.lit("returned"), posting_kind=pl.lit("return"))
    lake.append("silver/sales", sale, partition_by=["event_month"])
    assert keys_of(lake, grid) == before
    taken = sale.with_columns(posting_kind=pl.lit("cancellation"))
    lake.append("silver/sales", taken, partition_by=["event_month"])
    assert len(keys_of(lake, grid)) == len(before) + 1
