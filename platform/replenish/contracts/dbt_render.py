"""Renders the dbt sources of the silver layer, with a data test for every rule of the contracts.

The file is generated and committed (`dbt/models/staging/_staging__sources.yml`), so that dbt needs no Python to start.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from replenish.contracts.model import CLOCK_COLUMNS, POSTING_COLUMNS, Column, Contract
from replenish.contracts.table_schema import table_columns

SOURCE_NAME = "silver"
SOURCES_FILE = "_staging__sources.yml"
LAKE_VARIABLE = "REPLENISH_LAKE"
"""Environment variable with the lake's folder; dbt fills it in when it reads the file."""

_HEADER = (
    "# Generated from platform/contracts by `replenish.contracts.dbt_render`; edit the contracts, not this file.\n"
)


def render_sources(contracts: Mapping[str, Contract]) -> str:
    """The sources file as YAML text: one source `silver`, one table per stream, in stream order."""
    tables = [_table(contract) for _, contract in sorted(contracts.items())]
    source = {
        "name": SOURCE_NAME,
        "description": "Ledgers of versions, one table per stream: what happened when, and known since when.",
        "tables": tables,
    }
    body = yaml.safe_dump({"version": 2, "sources": [source]}, sort_keys=False, width=118, allow_unicode=True)
    return _HEADER + body


def write_sources(contracts: Mapping[str, Contract], path: Path) -> Path:
    """Write the sources file (`path` is the file) and return its path; unchanged text is not touched."""
    text = render_sources(contracts)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path


def _table(contract: Contract) -> dict[str, object]:
    # With a stand-in dbt can parse where no lake is set (CI, the manifest); reading then fails, naming the variable.
    location = f"{{{{ env_var('{LAKE_VARIABLE}', '{LAKE_VARIABLE}_is_not_set') }}}}/silver/{contract.stream}"
    descriptions = {row.name: row.description for row in table_columns(contract, "silver")}
    added = (*CLOCK_COLUMNS, *POSTING_COLUMNS)
    return {
        "name": contract.stream,
        "description": f"{contract.description} One row per posting of a version of a fact.",
        "config": {
            "plugin": "delta",
            "delta_table_path": location,
            "meta": {"owner": contract.owner, "tier": contract.sla.tier, "contract_version": contract.version},
        },
        "columns": [*map(_column, contract.columns), *({"name": n, "description": descriptions[n]} for n in added)],
    }


def _column(column: Column) -> dict[str, object]:
    tests: list[object] = ["not_null"] if column.is_required else []
    if column.minimum is not None:
        tests.append({"at_least": {"arguments": {"minimum": _plain(column.minimum)}}})
    if column.maximum is not None:
        tests.append({"at_most": {"arguments": {"maximum": _plain(column.maximum)}}})
    if column.pattern is not None:
        tests.append({"matches_pattern": {"arguments": {"pattern": column.pattern}}})
    if column.allowed:
        tests.append(_accepted(column.allowed))
    rendered: dict[str, object] = {"name": column.name, "description": column.description}
    return rendered | ({"data_tests": tests} if tests else {})


def _accepted(values: tuple[str, ...]) -> dict[str, object]:
    return {"accepted_values": {"arguments": {"values": list(values)}}}


def _plain(number: float) -> int | float:
    """1, not 1.0, where a number is whole."""
    return int(number) if float(number).is_integer() else number
