"""A stored grid whose new origins Spark makes, beside the one of the embedded engine: rows, table, stragglers, gate."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from replenish.errors import AuditFailed
from replenish.features.cluster.engine import EmbeddedEngine
from replenish.features.cluster.spark_engine import ClusterEngine
from replenish.features.definitions.model import FeatureSet
from replenish.features.definitions.reader import read_feature_sets
from replenish.features.state_logs.grid_update import read_feature_grid
from tests.cluster.retail import retail_grid, retail_silver

N_SERIES, N_DAYS = 20, 50
KEPT = (
    *("units_lag_7", "units_sum__28", "units_mean__28", "days_since_first_sale"),
    *("days_since_last_sale", "revenue_cents_sum__28", "unit_revenue_cents__28"),
    *("price_cents", "is_promotion", "on_hand_units"),
)
"""Of every source, of every way to look back, with a cast and a ratio."""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def small_set(kept: Collection[str] = KEPT) -> FeatureSet:
    daily = read_feature_sets()["demand_daily"]
    return replace(daily, features=tuple(feature for feature in daily.features if feature.name in kept))


def test_spark_keeps_the_grid_that_the_embedded_engine_keeps(spark_address: str, tmp_path: Path) -> None:
    grid, engines = retail_grid(small_set()), (EmbeddedEngine(), ClusterEngine(spark_address))
    lakes = [retail_silver(tmp_path / name, N_SERIES, N_DAYS) for name in ("embedded", "cluster")]
    audited: list[int] = []

    def audit(frame: pl.DataFrame) -> None:
        assert frame.select(*grid.feature_set.entity, "origin_date").is_unique().all()
        audited.append(frame.height)

    through, n_values = grid.first_origin + timedelta(days=10), 0
    for step in range(2):
        ours, theirs = (
            engine.update_grid(lake, grid, through, audit) for engine, lake in zip(engines, lakes, strict=True)
        )
        assert theirs.n_new_rows == ours.n_new_rows > 0
        assert theirs.n_restated == ours.n_restated
        assert (ours.n_restated > 0) == (step > 0)
        found, expected = (read_feature_grid(lake, grid) for lake in reversed(lakes))
        assert_frame_equal(found, expected, rel_tol=1e-12, abs_tol=0)
        assert lakes[0].schema(grid.table) == lakes[1].schema(grid.table)
        n_values = expected.height * len(grid.feature_set.features)
        for lake in lakes:
            # Known before the first origin, and in the table only now.
            old = pl.col("knowledge_time") < grid.instant(grid.first_origin)
            sales = lake.read("silver/sales").filter(old, pl.col("posting_kind") == "version")
            late = sales.sort("event_time", "sale_id").tail(20)
            again = late.with_columns(pl.lit(f"late-{step}").alias("sale_id"), pl.col("quantity") + 1)
            lake.append("silver/sales", again, partition_by=["event_month"])
        through += timedelta(days=20)
    assert len(audited) >= 4
    # A repeat is a look at the log: no session begins.
    again = ClusterEngine("sc://nowhere.invalid:1").update_grid(lakes[1], grid, through - timedelta(days=40))
    assert again.n_new_rows == 0
    print(f"\n{grid.feature_set.name} as a grid: {found.height} rows, {n_values} values, 0 differences")


def test_rows_of_spark_that_do_not_pass_are_not_committed(spark_address: str, tmp_path: Path) -> None:
    grid, lake = retail_grid(small_set(("units_lag_7",))), retail_silver(tmp_path, 8, 42)

    def refuse(frame: pl.DataFrame) -> None:
        raise AuditFailed("none is good enough", n=frame.height)

    with pytest.raises(AuditFailed):
        ClusterEngine(spark_address).update_grid(lake, grid, grid.first_origin, refuse)
    assert not lake.has(grid.table)
    assert not list(lake.path(grid.table).glob("parts-*"))
