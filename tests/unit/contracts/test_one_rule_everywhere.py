"""One rule, one place: a changed line of a contract file changes every check that is derived from it, and no code."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
import yaml
from pandera.errors import SchemaErrors

from replenish.contracts.dbt_render import render_sources
from replenish.contracts.model import Contract
from replenish.contracts.reader import CONTRACT_FOLDER, read_contract
from replenish.contracts.table_schema import pandera_schema, table_columns
from replenish.contracts.validate import FAULT_MASK, compile_row_checks

NOW = datetime(2025, 1, 1, tzinfo=UTC)


def _sales_with(folder: Path, old: str, new: str) -> Contract:
    text = (CONTRACT_FOLDER / "sales.odcs.yaml").read_text(encoding="utf-8")
    before, units_and_after = text.split("      - name: units\n")
    assert old in units_and_after
    path = folder / "sales.odcs.yaml"
    path.write_text(before + "      - name: units\n" + units_and_after.replace(old, new, 1), encoding="utf-8")
    return read_contract(path)


def _row(units: int | None) -> dict[str, object]:
    return {
        "location_id": "S1", "sold_at": NOW, "sale_id": "1", "sku_id": "A1", "units": units, "event_time": NOW,
        "event_date": date(2025, 1, 1), "knowledge_time": NOW, "knowledge_date": date(2025, 1, 2), "version_nr": 1,
        "posting_kind": "version", "posting_sign": 1,
    }  # fmt: skip


def _row_is_refused(contract: Contract, units: int | None) -> bool:
    frame = pl.DataFrame([_row(units)], schema=contract.silver_schema).select(contract.names)
    return compile_row_checks(contract).judge(frame)[FAULT_MASK][0] != 0


def _table_is_refused(contract: Contract, units: int | None) -> bool:
    frame = pl.DataFrame([_row(units)], schema=contract.silver_schema)
    try:
        pandera_schema(contract, "silver").validate(frame, lazy=True)
    except SchemaErrors:
        return True
    return False


def _dbt_tests(contract: Contract) -> list[object]:
    (source,) = yaml.safe_load(render_sources({"sales": contract}))["sources"]
    (units,) = (column for column in source["tables"][0]["columns"] if column["name"] == "units")
    return units.get("data_tests", [])


@pytest.mark.parametrize(
    ("old", "new", "units", "bound", "test"),
    [
        ("minimum: 0", "minimum: 3", 2, 3, {"at_least": {"arguments": {"minimum": 3}}}),
        ("minimum: 0", "minimum: 0, maximum: 1", 2, 1, {"at_most": {"arguments": {"maximum": 1}}}),
    ],
)
def test_a_stricter_rule_refuses_the_row_and_the_table_and_reaches_dbt(
    tmp_path: Path, old: str, new: str, units: int, bound: int, test: object
) -> None:
    as_it_is = _sales_with(tmp_path, old, old)
    stricter = _sales_with(tmp_path, old, new)
    assert [_row_is_refused(contract, units) for contract in (as_it_is, stricter)] == [False, True]
    assert [_table_is_refused(contract, units) for contract in (as_it_is, stricter)] == [False, True]
    assert not _row_is_refused(stricter, bound)
    assert not _table_is_refused(stricter, bound)
    assert [test in _dbt_tests(contract) for contract in (as_it_is, stricter)] == [False, True]
    assert table_columns(as_it_is, "silver") != table_columns(stricter, "silver")


def test_a_rule_taken_back_lets_the_row_pass_everywhere(tmp_path: Path) -> None:
    as_it_is = _sales_with(tmp_path, "required: true", "required: true")
    looser = _sales_with(tmp_path, "required: true", "required: false")
    assert [_row_is_refused(contract, None) for contract in (as_it_is, looser)] == [True, False]
    assert [_table_is_refused(contract, None) for contract in (as_it_is, looser)] == [True, False]
    assert ["not_null" in _dbt_tests(contract) for contract in (as_it_is, looser)] == [True, False]
