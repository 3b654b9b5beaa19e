"""A stored table under a newer contract: optional columns are added, another meaning is refused before the write."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time

import polars as pl
import pytest

from replenish.contracts.dataset import Dataset
from replenish.contracts.model import Column
from replenish.contracts.reader import read_contracts
from replenish.errors import IncompatibleSchema
from replenish.history.bronze import append_bronze, bronze_table
from replenish.history.silver import silver_table, update_silver
from replenish.stores.journal import Journal
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout

LOCATIONS = read_contracts()["locations"]
WIDER = replace(LOCATIONS, version="1.1.0", columns=(*LOCATIONS.columns, Column("note", "string", "Words")))
DATASET = Dataset("shop", "Europe/Berlin", time(6), "demo", None, ())
NOW = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path):
    """Bronze and silver of `locations` as the recorded contract makes them."""
    layout = RootLayout(tmp_path)
    lake = DeltaLake(layout.lake)
    append_bronze("locations", LOCATIONS, Journal(layout.journal), layout, lake)
    update_silver(LOCATIONS, DATASET, lake)
    return lake


def test_a_new_optional_column_is_added_to_both_tables(lake, tmp_path):
    layout = RootLayout(tmp_path)
    append_bronze("locations", WIDER, Journal(layout.journal), layout, lake)
    update_silver(WIDER, DATASET, lake)
    assert lake.schema(bronze_table("locations"))["note"] == pl.String()
    assert lake.schema(silver_table("locations"))["note"] == pl.String()


def test_another_type_or_a_lost_column_writes_nothing(lake, tmp_path):
    layout = RootLayout(tmp_path)
    before = lake.version(bronze_table("locations")), lake.version(silver_table("locations"))
    name = next(c.name for c in LOCATIONS.columns if c.name not in LOCATIONS.fact_key and c.logical_type == "string")
    retyped = tuple(
        replace(c, logical_type="integer", pattern=None, allowed=()) if c.name == name else c for c in LOCATIONS.columns
    )
    gone = tuple(c for c in LOCATIONS.columns if c.name != name)
    for columns in (retyped, gone):
        contract = replace(LOCATIONS, version="2.0.0", columns=columns)
        with pytest.raises(IncompatibleSchema, match=name):
            append_bronze("locations", contract, Journal(layout.journal), layout, lake)
        with pytest.raises(IncompatibleSchema, match=name):
            update_silver(contract, DATASET, lake)
    assert (lake.version(bronze_table("locations")), lake.version(silver_table("locations"))) == before
