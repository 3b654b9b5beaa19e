"""dbt sources from contracts: every rule is a data test, and the committed file is what the contracts say."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from replenish.contracts.dbt_render import SOURCES_FILE, render_sources, write_sources
from replenish.contracts.model import Contract
from replenish.contracts.reader import PLATFORM_FOLDER, read_contracts

DBT_FOLDER = PLATFORM_FOLDER.parent / "dbt"
CONTRACTS = read_contracts()


SOURCES = yaml.safe_load(render_sources(CONTRACTS))["sources"]


def _table(stream: str) -> dict[str, Any]:
    (source,) = SOURCES
    (table,) = (table for table in source["tables"] if table["name"] == stream)
    return table


def _tests(stream: str, column: str) -> dict[str, Any]:
    """Data tests of a column: name -> arguments."""
    (entry,) = (entry for entry in _table(stream)["columns"] if entry["name"] == column)
    tests: dict[str, Any] = {}
    for test in entry.get("data_tests", []):
        name, body = (test, {"arguments": {}}) if isinstance(test, str) else next(iter(test.items()))
        tests[name] = body["arguments"]
    return tests


def test_the_committed_sources_are_in_step_with_the_contracts() -> None:
    committed = DBT_FOLDER / "models" / "staging" / SOURCES_FILE
    assert committed.read_text(encoding="utf-8") == render_sources(CONTRACTS), "run write_sources and commit the file"


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=lambda contract: contract.stream)
def test_every_rule_of_a_contract_is_a_data_test(contract: Contract) -> None:
    for column in contract.columns:
        expected: dict[str, Any] = {}
        if column.is_required:
            expected["not_null"] = {}
        if column.minimum is not None:
            expected["at_least"] = {"minimum": column.minimum}
        if column.maximum is not None:
            expected["at_most"] = {"maximum": column.maximum}
        if column.pattern is not None:
            expected["matches_pattern"] = {"pattern": column.pattern}
        if column.allowed:
            expected["accepted_values"] = {"values": list(column.allowed)}
        assert _tests(contract.stream, column.name) == expected, column.name


def test_every_custom_test_that_is_rendered_has_its_macro() -> None:
    for name in ("at_least", "at_most", "matches_pattern"):
        text = (DBT_FOLDER / "tests" / "generic" / f"{name}.sql").read_text(encoding="utf-8")
        assert f"{{% test {name}(model, column_name, " in text


def test_a_source_lists_all_columns_of_its_silver_table_and_reads_it_as_delta() -> None:
    table = _table("sales")
    assert [column["name"] for column in table["columns"]] == list(CONTRACTS["sales"].silver_schema)
    assert table["config"]["plugin"] == "delta"
    assert table["config"]["delta_table_path"].endswith("}}/silver/sales")
    assert "env_var('REPLENISH_LAKE'" in table["config"]["delta_table_path"]


def test_the_order_of_the_contracts_does_not_matter() -> None:
    assert render_sources(dict(reversed(CONTRACTS.items()))) == render_sources(CONTRACTS)


def test_writing_twice_leaves_the_file_untouched(tmp_path: Path) -> None:
    path = write_sources(CONTRACTS, tmp_path / "models" / SOURCES_FILE)
    before = path.stat().st_mtime_ns
    write_sources(CONTRACTS, path)
    assert path.stat().st_mtime_ns == before
