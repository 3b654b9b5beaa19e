"""Recorded versions of contracts: what may follow them, what is live, and that none is altered."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner

from replenish.cli.main import app
from replenish.contracts.reader import CONTRACT_FOLDER, read_contracts
from replenish.contracts.versions import (
    EvolutionFinding,
    check_evolution,
    read_contract_versions,
    record_version,
    verify_records,
)
from replenish.errors import ContractError

TODAY = date(2026, 11, 21)
NOTE = """      - name: note
        description: Free words.
        logicalType: string
        physicalType: VARCHAR
        required: false
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The eight contracts with their records, to be changed."""
    return Path(shutil.copytree(CONTRACT_FOLDER, tmp_path / "contracts"))


def edit(folder: Path, old: str, new: str, version: str | None = None) -> None:
    path = folder / "sales.odcs.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    text = text.replace(old, new, 1)
    if version is not None:
        text = text.replace("version: 1.0.0", f"version: {version}", 1)
    path.write_text(text, encoding="utf-8")


def add_note(folder: Path, version: str = "1.1.0") -> None:
    edit(folder, "\nteam:", f"{NOTE}\nteam:", version)


def remove_customer(folder: Path, version: str) -> None:
    text = (folder / "sales.odcs.yaml").read_text(encoding="utf-8")
    start = text.index("      - name: customer_id")
    edit(folder, text[start : text.index("\nteam:")], "", version)


def refusals(folder: Path) -> list[EvolutionFinding]:
    return [finding for finding in check_evolution(folder, today=TODAY) if finding.is_refused]


def test_every_contract_of_the_project_is_recorded_and_unchanged_since() -> None:
    assert check_evolution(today=TODAY) == []
    for stream, contract in read_contracts().items():
        assert contract.version in read_contract_versions(stream)


def test_an_altered_or_lost_record_is_refused(folder: Path) -> None:
    record = folder / "versions" / "sales@1.0.0.odcs.yaml"
    text = record.read_text(encoding="utf-8")
    record.write_text(text.replace("minimum: 0", "minimum: 1", 1), encoding="utf-8")
    with pytest.raises(ContractError, match="altered"):
        verify_records(folder)
    record.unlink()
    with pytest.raises(ContractError, match="is gone"):
        verify_records(folder)


def test_a_record_that_nobody_digested_is_refused(folder: Path) -> None:
    shutil.copy(folder / "sales.odcs.yaml", folder / "versions" / "sales@0.9.0.odcs.yaml")
    with pytest.raises(ContractError, match="SHA256SUMS"):
        verify_records(folder)


def test_a_rule_does_not_change_under_its_number(folder: Path) -> None:
    edit(folder, "minimum: 0", "minimum: 1")
    assert "raise `version`" in refusals(folder)[0].text


def test_additive_passes_with_a_minor_version_and_both_are_live(folder: Path) -> None:
    add_note(folder, "1.0.1")
    assert "minor" in refusals(folder)[0].text
    edit(folder, "version: 1.0.1", "version: 1.1.0")
    assert refusals(folder) == []
    assert record_version("sales", folder) is not None
    assert record_version("sales", folder) is None
    live = read_contract_versions("sales", folder)
    assert list(live) == ["1.0.0", "1.1.0"]
    assert "note" in live["1.1.0"].names
    assert "note" not in live["1.0.0"].names


def test_breaking_needs_a_major_version_and_the_old_one_live(folder: Path) -> None:
    remove_customer(folder, "1.1.0")
    assert "needs version 2.0.0" in refusals(folder)[0].text
    with pytest.raises(ContractError, match=r"2\.0\.0"):
        record_version("sales", folder)
    edit(folder, "version: 1.1.0", "version: 2.0.0")
    assert refusals(folder) == []
    retired = folder / "versions" / "retired"
    retired.mkdir()
    (folder / "versions" / "sales@1.0.0.odcs.yaml").rename(retired / "sales@1.0.0.odcs.yaml")
    assert "retired before" in refusals(folder)[0].text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("logicalType: integer\n        physicalType: BIGINT", "logicalType: number\n        physicalType: DOUBLE"),
        ("{property: unit, value: cents}", "{property: unit, value: euros}"),
        ("{property: eventTime, value: sold_at}", "{property: eventTime, value: paid_at}"),
    ],
)
def test_what_no_table_can_hold_beside_the_old_is_refused_under_any_number(folder: Path, old: str, new: str) -> None:
    if "number" in new:
        edit(folder, "          - {property: isAdditive, value: true}\n", "")
    if "paid_at" in new:
        column = NOTE.replace("note", "paid_at").replace("string", "timestamp").replace("false", "true")
        edit(folder, "\nteam:", f"{column}\nteam:")
    edit(folder, old, new, "2.0.0")
    assert "no table can hold both" in refusals(folder)[0].text
    with pytest.raises(ContractError, match="cannot be live beside"):
        read_contract_versions("sales", folder)


def test_fields_on_their_way_out_are_reported(folder: Path) -> None:
    edit(
        folder,
        "        classification: personal\n",
        "        classification: personal\n        customProperties:\n"
        "          - {property: deprecated, value: {since: 1.1.0, removeAfter: 2026-06-30}}\n",
        "1.1.0",
    )
    texts = [f.text for f in check_evolution(folder, today=TODAY) if f.field == "customer_id"]
    assert [text.split(":")[0] for text in texts] == ["deprecation", "deprecated since 1.1.0, after 2026-06-30"]
    assert "next major" in texts[1]


def test_feeds_check_says_so_and_ends_with_an_error(folder: Path) -> None:
    result = CliRunner().invoke(app, ["feeds", "check", "--contracts", str(folder)])
    assert result.exit_code == 0 and "8 contracts follow their recorded versions" in result.output
    remove_customer(folder, "1.1.0")
    result = CliRunner().invoke(app, ["feeds", "check", "--contracts", str(folder)])
    assert result.exit_code == 1
    assert "customer_id" in result.output
