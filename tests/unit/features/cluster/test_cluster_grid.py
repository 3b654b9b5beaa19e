"""A grid whose new origins another engine makes: the same table as the embedded engine's, by the query in DuckDB."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from polars.testing import assert_frame_equal

from replenish.errors import AuditFailed, BrokenPromise
from replenish.features.cluster.duckdb_engine import evaluate_in_duckdb
from replenish.features.cluster.engine import EmbeddedEngine
from replenish.features.cluster.ledger_view import SQL_CASTS, ledger_query
from replenish.features.cluster.staged_parts import PartedColumn, commit_parts
from replenish.features.state_logs.definition import LEDGER_CASTS
from replenish.features.state_logs.grid_definition import ORIGIN_DATE, FeatureGrid
from replenish.features.state_logs.grid_update import NewOrigins, read_feature_grid, update_feature_grid
from replenish.stores.lake import DeltaLake
from replenish.stores.lake_maintenance import compact
from tests.cluster.retail import ENTITY, retail_grid, retail_silver

N_SERIES, N_DAYS = 8, 42
BY_ORIGIN = PartedColumn(ORIGIN_DATE, pa.date32(), 2)


def by_origin(folder: Path, rows: pl.DataFrame) -> None:
    """Part files in folders, as Spark leaves them."""
    folder.mkdir()
    for (origin,), part in rows.partition_by(ORIGIN_DATE, as_dict=True, include_key=False).items():
        place = folder / f"{ORIGIN_DATE}={origin}"
        place.mkdir()
        part.write_parquet(place / "part-0.parquet")
    (folder / "_SUCCESS").touch()


def write_by_duckdb(lake: DeltaLake, new: NewOrigins) -> int:
    """New origins by the query over the stored columns, committed as part files."""
    grid = new.grid
    spine = grid.spine(new.keys, new.origins)
    ledgers = {name: lake.read(table.table, version=new.versions[name]) for name, table in grid.tables.items()}
    rows = evaluate_in_duckdb(grid.feature_set, spine, ledgers, grid.zone, grid.cutoff, stored=grid.tables)
    commit_parts(lake, grid.table, lambda folder: by_origin(folder, rows), new.app, BY_ORIGIN)
    return rows.height


def update_by_duckdb(lake: DeltaLake, grid: FeatureGrid, through: date) -> int:
    return update_feature_grid(lake, grid, None, through, write=write_by_duckdb, rows_at_once=30).n_new_rows


def test_another_engine_stores_what_the_embedded_one_stores(tmp_path: Path) -> None:
    grid = retail_grid()
    lakes = [retail_silver(tmp_path / name, N_SERIES, N_DAYS) for name in ("embedded", "other")]
    through, n_rows = grid.first_origin + timedelta(days=6), 0
    for step in range(3):
        done = EmbeddedEngine().update_grid(lakes[0], grid, through)
        assert update_by_duckdb(lakes[1], grid, through) == done.n_new_rows > 0
        n_rows += done.n_new_rows
        ours, theirs = (read_feature_grid(lake, grid) for lake in lakes)
        assert_frame_equal(theirs, ours, rel_tol=1e-12, abs_tol=0)
        assert ours.height == n_rows
        assert lakes[0].schema(grid.table) == lakes[1].schema(grid.table)
        # Stragglers, by the same code on both: sales known of old that arrive now.
        for lake in lakes:
            late = (
                lake.read("silver/sales")
                .filter(pl.col("posting_kind") == "version")
                .sort("event_time")[step : step + 3]
            )
            again = late.with_columns(pl.lit(f"late-{step}").alias("sale_id"), pl.col("quantity") + 1)
            lake.append("silver/sales", again, partition_by=["event_month"])
        through += timedelta(days=2)
    assert ours["is_promotion"].drop_nulls().len() > ours.height / 2


def test_the_log_names_the_origin_of_every_file_and_merging_keeps_rows(tmp_path: Path) -> None:
    grid, lake = retail_grid(), retail_silver(tmp_path, N_SERIES, N_DAYS)
    update_by_duckdb(lake, grid, grid.first_origin + timedelta(days=1))
    for _ in range(2):
        actions = pl.DataFrame(DeltaTable(str(lake.path(grid.table))).get_add_actions(flatten=True))
        in_path = actions["path"].str.extract(f"{ORIGIN_DATE}=([0-9-]+)/").str.to_date()
        assert in_path.to_list() == actions[f"partition.{ORIGIN_DATE}"].to_list()
        assert actions["num_records"].sum() == lake.row_count(grid.table) > 0
        before = read_feature_grid(lake, grid)
        # A second file for an origin, so that there is something to merge.
        twice = before.head(1).with_columns(sku_id=pl.lit("another"))
        lake.append(grid.table, twice, partition_by=[ORIGIN_DATE])
        assert compact(lake, grid.table, every=1)
        assert_frame_equal(read_feature_grid(lake, grid), pl.concat([before, twice]).sort(ORIGIN_DATE, *ENTITY))


def test_a_reader_of_one_origin_opens_only_its_files(tmp_path: Path) -> None:
    grid, lake = retail_grid(), retail_silver(tmp_path, N_SERIES, N_DAYS)
    update_by_duckdb(lake, grid, grid.first_origin + timedelta(days=2))
    kept = f"{ORIGIN_DATE}={grid.first_origin}"
    for path in lake.path(grid.table).rglob("*.parquet"):
        if kept not in str(path):
            path.write_bytes(b"not to be read")
    rows = lake.read(grid.table, filters=[(ORIGIN_DATE, "in", [grid.first_origin])])
    assert rows.height > 0


def test_the_query_of_a_ledger_is_the_grids_own_reading(tmp_path: Path) -> None:
    assert set(SQL_CASTS) == set(LEDGER_CASTS)
    grid, lake = retail_grid(), retail_silver(tmp_path, N_SERIES, N_DAYS)
    for name in grid.source_names:
        source, table = grid.feature_set.source(name), grid.tables[name]
        expected = grid.ledger(name, lake.scan(table.table)).collect()
        text = ledger_query(grid.feature_set, source, table).sql("spark")
        assert f"`stored_{name}`" in text
        for column in expected.columns:
            assert f"`{table.stored_name(column)}`" in text
        assert ("CAST(`is_promotion` AS BIGINT)" in text) == (name == "prices")


def test_part_files_outside_of_a_partition_are_refused(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path / "lake")

    def flat(folder: Path) -> None:
        folder.mkdir()
        pl.DataFrame({"sku_id": ["a"]}).write_parquet(folder / "part-0.parquet")

    with pytest.raises(BrokenPromise, match="without its partition"):
        commit_parts(lake, "features/flat", flat, ("run", 1), BY_ORIGIN)
    assert not lake.has("features/flat")
    assert not list(lake.path("features/flat").glob("parts-*"))


def test_rows_that_do_not_pass_are_not_committed(tmp_path: Path) -> None:
    grid, lake = retail_grid(), retail_silver(tmp_path, N_SERIES, N_DAYS)

    def refuse(frame: pl.DataFrame) -> None:
        raise AuditFailed("none is good enough", n=frame.height)

    with pytest.raises(AuditFailed):
        EmbeddedEngine().update_grid(lake, grid, grid.first_origin, refuse)
    assert not lake.has(grid.table)
