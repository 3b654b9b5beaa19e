"""Contracts: the eight streams as declared, and every way a file can be wrong."""

import math
from pathlib import Path

import pytest
import yaml

from replenish.contracts.reader import CONTRACT_FOLDER, contract_of, read_contract, read_contracts
from replenish.errors import ContractError, UnknownStream

SALES = (CONTRACT_FOLDER / "sales.odcs.yaml").read_text(encoding="utf-8")


def _changed(tmp_path: Path, old: str, new: str) -> Path:
    assert SALES.count(old) >= 1, old
    path = tmp_path / "sales.odcs.yaml"
    path.write_text(SALES.replace(old, new, 1), encoding="utf-8")
    return path


def test_every_stream_of_the_plan_has_a_contract() -> None:
    assert list(read_contracts()) == [
        "locations", "prices", "products", "purchase_orders", "receipts", "sales", "stock_counts", "suppliers",
    ]  # fmt: skip


def test_the_sales_contract_is_read_as_written() -> None:
    sales = read_contracts()["sales"]
    assert sales.fact_key == ("location_id", "sold_at", "sale_id")
    assert sales.event_time == "sold_at"
    assert sales.is_keyed_by_date
    assert sales.additive_columns == ("units", "revenue_cents")
    assert sales.column("units").minimum == 0
    assert sales.column("units").unit == "units"
    assert sales.column("customer_id").classification == "personal"
    assert (sales.sla.warn_after_hours, sales.sla.fail_after_hours, sales.sla.tier) == (30, 54, "gold")
    assert sales.retention_days == 3650


def test_only_reference_data_is_never_late() -> None:
    for contract in read_contracts().values():
        assert math.isinf(contract.sla.fail_after_hours) == contract.is_reference, contract.stream


@pytest.mark.parametrize("path", sorted(CONTRACT_FOLDER.glob("*.odcs.yaml")), ids=lambda path: path.stem)
def test_contract_files_have_the_shape_that_odcs_3_1_asks_for(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"apiVersion", "kind", "id", "version", "status"} <= set(document)
    assert (document["apiVersion"], document["kind"]) == ("v3.1.0", "DataContract")
    assert path.name == f"{document['name']}.odcs.yaml"
    assert isinstance(document["team"]["members"], list)
    for item in document["slaProperties"]:
        assert {"property", "value"} <= set(item)
    for column in document["schema"][0]["properties"]:
        assert {"name", "logicalType", "physicalType", "description", "required", "classification"} <= set(column)
        assert column["logicalType"] in {"string", "integer", "number", "boolean", "timestamp", "date"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("apiVersion: v3.1.0", "apiVersion: v2.0.0", "apiVersion: must be one of v3.1.0"),
        ("status: active", "status: aktive", r"status: .*did you mean 'active'"),
        ("version: 1.0.0", "version: 1.0.0.0", "version: must read major.minor.patch"),
        ("name: sales\nversion", "name: Sales\nversion", r"schema\[0\]\.name|name: must be"),
        (
            "        required: true",
            "        requird: true",
            r"properties\[0\]\.requird: unknown key \(did you mean 'requ",
        ),
        ("logicalType: string", "logicalType: varchar", r"properties\[0\]\.logicalType: must be one of"),
        ("minimum: 0", "minimum: zero", r"logicalTypeOptions\.minimum: must be a number"),
        ("minimum: 0", "minimum: 5, maximum: 4", r"logicalTypeOptions\.minimum: lies above maximum"),
        ("minimum: 0", "pattern: x", r"logicalTypeOptions\.pattern: belongs to strings"),
        (r"pattern: '\S(.*\S)?'", "pattern: '('", r"pattern: is not a regular expression"),
        (r"pattern: '\S(.*\S)?'", "pattern: '(?=a)b'", r"pattern: is not a regular expression"),
        (r"pattern: '\S(.*\S)?'", "minimum: 1", r"minimum and maximum belong to integers"),
        ("primaryKeyPosition: 2", "primaryKeyPosition: 1", "position of its own"),
        ("primaryKeyPosition: 3", "primaryKeyPosition: 4", r"must count 1, 2"),
        ("eventTime, value: sold_at", "eventTime, value: sold", "eventTime: no such column: 'sold'"),
        ("eventTime, value: sold_at", "eventTime, value: units", "required timestamp or date"),
        ("maxDeadShare, value: 0.2", "maxDeadShare, value: 20", r"maxDeadShare: must lie in \[0, 1\]"),
        ("maxDeadShare", "maxDeedShare", "maxDeadShare: is missing"),
        ("freshnessWarn, value: 30", "freshnessWarn, value: 90", "not above freshnessFail"),
        ("property: retention", "property: retentoin", "did you mean 'retention'"),
        ("unit: d}", "unit: weeks}", "unit: must be one of d"),
        ("role: escalation", "role: owner", "nobody with the role escalation"),
        ("name: customer_id", "name: units", "column 'units' is given twice"),
        ("name: customer_id", "name: customer__id", "single _"),
        ("classification: personal", "classification: secret", "classification: must be one of public"),
    ],
)
def test_a_malformed_contract_names_file_field_and_rule(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = _changed(tmp_path, old, new)
    with pytest.raises(ContractError, match=message) as caught:
        read_contract(path)
    assert str(path) in str(caught.value)


def test_additive_columns_are_integers(tmp_path: Path) -> None:
    path = _changed(tmp_path, "logicalType: integer", "logicalType: number")
    with pytest.raises(ContractError, match="sums are kept in integers"):
        read_contract(path)


def test_allowed_values_are_a_library_rule(tmp_path: Path) -> None:
    rule = "quality: [{type: library, metric: invalidValues, arguments: {validValues: [a, b]}, mustBe: 0}]"
    path = _changed(tmp_path, "        classification: personal", f"        classification: personal\n        {rule}")
    assert read_contract(path).column("customer_id").allowed == ("a", "b")


def test_two_files_cannot_name_one_stream(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.odcs.yaml").write_text(SALES, encoding="utf-8")
    with pytest.raises(ContractError, match="already has a contract"):
        read_contracts(tmp_path)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="holds no"):
        read_contracts(tmp_path)


def test_an_unknown_stream_names_the_known_ones() -> None:
    with pytest.raises(UnknownStream, match="known: locations, prices"):
        contract_of(read_contracts(), "sale")
