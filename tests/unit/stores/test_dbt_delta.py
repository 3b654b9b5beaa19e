from __future__ import annotations

import polars as pl
import pytest

from replenish.stores.dbt_delta import commit_staged
from replenish.stores.lake import DeltaLake

SCHEMA = {"sku_id": pl.String(), "units": pl.Int64()}


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([{"sku_id": None, "units": None}], 0),
        ([{"sku_id": "A", "units": None}], 1),
        ([{"sku_id": "A", "units": 1}, {"sku_id": None, "units": None}], 2),
    ],
    ids=["dbt's stand-in for no rows", "one row", "a null row among others"],
)
def test_only_the_stand_in_row_of_an_empty_model_is_left_out(tmp_path, rows, kept):
    staged = tmp_path / "fct.parquet"
    pl.DataFrame(rows, schema=SCHEMA).write_parquet(staged)
    lake = DeltaLake(tmp_path / "lake")
    commit = commit_staged(lake, "gold/fct", staged)
    assert commit.n_rows == kept
    assert lake.schema("gold/fct") == SCHEMA


def test_a_second_build_replaces_the_rows_of_the_first(tmp_path):
    staged = tmp_path / "fct.parquet"
    lake = DeltaLake(tmp_path / "lake")
    for units in (1, 2):
        pl.DataFrame([{"sku_id": "A", "units": units}], schema=SCHEMA).write_parquet(staged)
        commit_staged(lake, "gold/fct", staged)
    assert lake.read("gold/fct")["units"].to_list() == [2]
