"""Published tables: what pyiceberg reads equals what deltalake reads."""

from datetime import UTC, date, datetime

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replenish.digests import table_digest
from replenish.errors import TableMissing
from replenish.stores.catalog import IcebergCatalog
from replenish.stores.lake import DeltaLake

KEY = ("sku_id", "event_date")


def demand(n_rows: int = 3) -> pl.DataFrame:
    """Rows of every type that a published table has, nulls among them."""
    days = [date(2024, 1, 1 + nr) for nr in range(n_rows)]
    return pl.DataFrame(
        {
            "sku_id": [f"A{nr}" for nr in range(n_rows)],
            "event_date": pl.Series(days, dtype=pl.Date),
            "known_at": pl.Series([datetime(2024, 1, 2, 5, 30, tzinfo=UTC)] * n_rows, dtype=pl.Datetime("us", "UTC")),
            "units": pl.Series(range(n_rows), dtype=pl.Int64),
            "posting_sign": pl.Series([1] * n_rows, dtype=pl.Int8),
            "is_assumed": pl.Series([None] + [True] * (n_rows - 1), dtype=pl.Boolean),
            "target": pl.Series([0.9] * n_rows, dtype=pl.Float64),
        }
    )


@pytest.fixture
def catalog(tmp_path) -> IcebergCatalog:
    return IcebergCatalog(tmp_path / "catalog")


def test_iceberg_and_delta_read_equal_rows(tmp_path, catalog) -> None:
    lake = DeltaLake(tmp_path / "lake")
    commit = lake.overwrite("gold/fct_demand", demand())
    published = catalog.publish("gold/fct_demand", lake.read("gold/fct_demand"), key=KEY, source_version=commit.version)
    delta = pl.from_arrow(DeltaTable(str(lake.path("gold/fct_demand"))).to_pyarrow_table())
    assert published.digest == table_digest(delta, KEY)
    assert table_digest(catalog.read("gold/fct_demand"), KEY) == table_digest(delta, KEY)


def test_publishing_the_same_rows_again_makes_no_snapshot(catalog) -> None:
    first = catalog.publish("gold/fct_demand", demand(), key=KEY, source_version=0)
    again = catalog.publish("gold/fct_demand", demand().reverse(), key=KEY, source_version=1)
    assert (first.is_new, again.is_new) == (True, False)
    assert again.snapshot_id == first.snapshot_id


def test_a_column_that_comes_or_goes_is_followed(catalog) -> None:
    catalog.publish("decisions/replenishment", demand(), key=KEY, source_version=0)
    changed = demand().drop("target").with_columns(pl.lit("auto").alias("verdict"))
    catalog.publish("decisions/replenishment", changed, key=KEY, source_version=1)
    assert set(catalog.read("decisions/replenishment").columns) == set(changed.columns)


def test_rows_that_left_the_source_leave_the_copy(catalog) -> None:
    catalog.publish("gold/fct_demand", demand(3), key=KEY, source_version=0)
    catalog.publish("gold/fct_demand", demand().clear(), key=KEY, source_version=1)
    assert catalog.read("gold/fct_demand").is_empty()


def test_a_table_that_was_never_published_is_missing(catalog) -> None:
    with pytest.raises(TableMissing):
        catalog.read("gold/fct_price")
    assert catalog.tables() == ()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(units=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=5), text=st.text("aä|\n 0", max_size=4))
def test_whatever_is_published_reads_back_equal(tmp_path_factory, units, text) -> None:
    catalog = IcebergCatalog(tmp_path_factory.mktemp("catalog"))
    frame = pl.DataFrame({"nr": range(len(units)), "units": units, "sku_id": [text] * len(units)})
    published = catalog.publish("gold/anything", frame, key=["nr"], source_version=0)
    assert published.digest == table_digest(frame, ["nr"])
