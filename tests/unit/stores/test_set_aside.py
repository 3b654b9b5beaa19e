"""Readers and maintenance of a table that a rebuild takes away meanwhile."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from replenish.errors import StoreError, TableSetAside
from replenish.stores import lake_maintenance
from replenish.stores.lake import DeltaLake
from replenish.stores.set_aside import noticing_set_aside

TABLE = "bronze/sales"
NOW = datetime(2025, 3, 1, tzinfo=UTC)


class TakenWhileRead(DeltaLake):
    """A lake whose table is renamed between the moment it is opened and the moment its files are read."""

    def scan(self, table: str, *, version: int | None = None) -> pl.LazyFrame:
        opened = super().scan(table, version=version)
        set_aside(self)
        return opened


def set_aside(lake: DeltaLake) -> None:
    lake.path(TABLE).rename(lake.root / "aside")


@pytest.fixture
def lake(tmp_path: Path) -> TakenWhileRead:
    lake = TakenWhileRead(tmp_path / "lake")
    lake.append(TABLE, pl.DataFrame({"units": [1, 2]}))
    return lake


def test_a_reader_is_told_that_the_table_was_set_aside_and_what_to_do(lake: TakenWhileRead):
    with pytest.raises(TableSetAside, match="by a rebuild or the doctor; nothing is lost: run this again"):
        lake.read(TABLE)


def test_maintenance_names_the_table_and_goes_on_with_the_others(lake: TakenWhileRead, monkeypatch):
    lake.append("silver/sales", pl.DataFrame({"units": [1]}))
    monkeypatch.setattr(lake_maintenance, "vacuum", lambda *_, **__: set_aside(lake) if lake.has(TABLE) else [])
    first, second = lake_maintenance.maintain_lake(lake, now=NOW)
    assert first.table == TABLE and "set aside" in (first.fault or "")
    assert second.fault is None


def test_another_error_of_a_table_that_is_there_passes(lake: TakenWhileRead):
    with pytest.raises(StoreError, match="else") as raised, noticing_set_aside(TABLE, lake.path(TABLE)):
        raise StoreError("something else")
    assert not isinstance(raised.value, TableSetAside)
