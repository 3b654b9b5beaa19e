"""Tables as their contract describes them: columns, owners, freshness and the pandera schema."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from replenish.contracts.reader import read_contracts
from replenish.contracts.table_schema import (
    FreshnessWindow,
    Layer,
    freshness_window,
    pandera_schema,
    table_columns,
    table_owners,
    table_tags,
)

CONTRACTS = read_contracts()
SALES = CONTRACTS["sales"]
NOW = datetime(2025, 1, 1, tzinfo=UTC)
SALE: dict[str, Any] = {
    "location_id": "S1", "sold_at": NOW, "sale_id": "r1-1", "sku_id": "A1", "units": 2, "revenue_cents": 100,
    "unit_price_cents": 50, "customer_id": None, "event_time": NOW, "event_date": date(2025, 1, 1),
    "knowledge_time": NOW, "knowledge_date": date(2025, 1, 2), "version_nr": 1, "posting_kind": "version",
    "posting_sign": 1,
}  # fmt: skip


def _silver(**changes: object) -> pl.DataFrame:
    return pl.DataFrame([SALE | changes], schema=SALES.silver_schema)


def _is_refused(frame: pl.DataFrame, layer: Layer = "silver") -> bool:
    from pandera.errors import SchemaErrors

    try:
        pandera_schema(SALES, layer).validate(frame, lazy=True)
    except SchemaErrors:
        return True
    return False


@pytest.mark.parametrize("stream", CONTRACTS)
@pytest.mark.parametrize("layer", ["bronze", "silver"])
def test_columns_and_schema_cover_the_table_in_its_order(stream: str, layer: Layer) -> None:
    contract = CONTRACTS[stream]
    table = contract.bronze_schema if layer == "bronze" else contract.silver_schema
    columns = table_columns(contract, layer)
    assert {c.name: c.type for c in columns} == {name: str(dtype) for name, dtype in table.items()}
    assert all(c.description for c in columns)
    pandera_schema(contract, layer).validate(pl.DataFrame(schema=table), lazy=True)


def test_a_column_row_tells_type_constraints_and_tags() -> None:
    columns = {c.name: c for c in table_columns(SALES, "silver")}
    assert columns["units"].constraints == (">= 0",)
    assert dict(columns["units"].tags) == {"classification": "internal", "unit": "units"}
    assert dict(columns["sold_at"].tags)["fact_key"] == "2"
    assert columns["customer_id"].is_nullable
    assert not columns["posting_sign"].is_nullable


def test_bounds_are_inclusive_in_tables_too() -> None:
    assert not _is_refused(_silver(units=0, revenue_cents=0, unit_price_cents=0))


def test_a_sound_row_passes_with_and_without_its_partition_column() -> None:
    assert not _is_refused(_silver())
    assert not _is_refused(_silver().with_columns(event_month=pl.lit(202501, pl.Int32)))


@pytest.mark.parametrize(
    "change",
    [
        {"units": -1}, {"units": None}, {"sku_id": "A1 "}, {"sku_id": None}, {"knowledge_time": None},
        {"posting_kind": "guess"}, {"posting_sign": 0}, {"version_nr": 0}, {"revenue_cents": -1},
    ],
    ids=str,
)  # fmt: skip
def test_a_row_that_breaks_its_contract_is_refused(change: dict[str, object]) -> None:
    assert _is_refused(_silver(**change))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda frame: frame.drop("units"),
        lambda frame: frame.with_columns(guess=1),
        lambda frame: frame.with_columns(pl.col("units").cast(pl.Int32)),
        lambda frame: frame.with_columns(pl.col("sold_at").dt.replace_time_zone(None)),
    ],
    ids=["missing column", "unknown column", "other type", "no zone"],
)
def test_a_table_of_another_shape_is_refused(spoil: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    assert _is_refused(spoil(_silver()))


def test_in_bronze_a_retraction_needs_only_its_key() -> None:
    row = dict.fromkeys(SALES.bronze_schema) | {k: SALE[k] for k in ("location_id", "sold_at", "sale_id")}
    row |= {name: SALE[name] for name in ("event_time", "event_date", "knowledge_time", "knowledge_date")}
    row |= {"is_retraction": True, "is_cancellation": False, "is_correction": False, "journal_seq": 1, "row_nr": 0}
    row |= {"feed_id": "f", "delivery_id": "d", "contract_version": "1.0.0"}
    assert not _is_refused(pl.DataFrame([row], schema=SALES.bronze_schema), "bronze")
    assert _is_refused(pl.DataFrame([row | {"sale_id": None}], schema=SALES.bronze_schema), "bronze")


def test_owners_and_tags_come_from_the_contract() -> None:
    assert table_owners(SALES) == ("team:sales_data", "team:data_on_call")
    assert table_tags(SALES) == {"tier": "gold", "classification": "personal", "contract_version": "1.0.0"}
    assert table_tags(CONTRACTS["locations"])["classification"] == "internal"


def test_freshness_is_declared_for_streams_and_not_for_reference_data() -> None:
    assert freshness_window(SALES) == FreshnessWindow(30, 54)
    assert freshness_window(CONTRACTS["products"]) is None
