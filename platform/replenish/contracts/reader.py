"""Reads ODCS 3.1 contract files into typed contracts; everything that is wrong in a file is refused here."""

from __future__ import annotations

import math
import re
from datetime import date
from pathlib import Path
from typing import get_args

from replenish.contracts.document import YamlNode, read_yaml
from replenish.contracts.model import Classification, Column, Contract, Deprecation, LogicalType, ServiceLevel
from replenish.errors import ContractError, UnknownStream

PLATFORM_FOLDER = Path(__file__).resolve().parents[2]
"""The checkout's `platform/`: contracts, feeds and policies lie beside the package."""

CONTRACT_FOLDER = PLATFORM_FOLDER / "contracts"
ODCS_VERSION = "v3.1.0"


def read_contracts(folder: Path = CONTRACT_FOLDER) -> dict[str, Contract]:
    """The contract of every stream, by stream name, in name order.

    Raises:
        ContractError: A file is malformed, two files name one stream, or the folder holds none.
    """
    contracts: dict[str, Contract] = {}
    for path in sorted(folder.glob("*.odcs.yaml")):
        contract = read_contract(path)
        if contract.stream in contracts:
            raise ContractError(f"{path}: name: stream {contract.stream!r} already has a contract")
        contracts[contract.stream] = contract
    if not contracts:
        raise ContractError(f"{folder}: holds no *.odcs.yaml")
    return contracts


def contract_of(contracts: dict[str, Contract], stream: str) -> Contract:
    """The contract of a stream; UnknownStream names those that exist."""
    if stream not in contracts:
        raise UnknownStream(f"no contract for stream {stream!r}; known: {', '.join(contracts)}", stream=stream)
    return contracts[stream]


def read_contract(path: Path) -> Contract:
    """One contract file, typed.

    Raises:
        ContractError: Names file, field and rule.
    """
    top = read_yaml(path)
    top.choice("apiVersion", (ODCS_VERSION,))
    top.choice("kind", ("DataContract",))
    top.choice("status", ("draft", "active", "deprecated"))
    top.text("id")
    top.optional_text("domain")
    description = top.child("description")
    purpose = description.text("purpose")
    description.optional_text("limitations")
    description.optional_text("usage")
    description.finish()
    owner, escalation = _team(top.child("team"))
    columns, key = _schema(top)
    custom = _custom_properties(top)
    tier = custom.choice("tier", ("gold", "silver", "bronze"))
    sla, retention_days = _service_level(top, tier)
    contract = Contract(
        stream=top.text("name"),
        version=top.text("version"),
        description=purpose,
        owner=owner,
        escalation=escalation,
        runbook=custom.text("runbook"),
        columns=columns,
        fact_key=key,
        event_time=custom.text("eventTime"),
        is_reference=custom.flag("isReference"),
        max_dead_share=custom.number("maxDeadShare"),
        sla=sla,
        retention_days=retention_days,
    )
    custom.finish()
    top.finish()
    _check_whole(contract, top)
    return contract


def _check_whole(contract: Contract, top: YamlNode) -> None:
    """Rules that no single field can break alone."""
    if contract.event_time not in contract.names:
        raise top.error("customProperties.eventTime", f"no such column: {contract.event_time!r}")
    event = contract.column(contract.event_time)
    if event.logical_type not in ("timestamp", "date") or not event.is_required:
        raise top.error("customProperties.eventTime", f"{event.name} must be a required timestamp or date")
    if not 0.0 <= contract.max_dead_share <= 1.0:
        raise top.error("customProperties.maxDeadShare", "must lie in [0, 1]")
    if not re.fullmatch(r"\d+\.\d+\.\d+", contract.version):
        raise top.error("version", "must read major.minor.patch")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", contract.stream):
        raise top.error("name", "must be lower case letters, digits and _")


def _schema(top: YamlNode) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    tables = top.children("schema")
    if len(tables) != 1:
        raise top.error("schema", f"must hold exactly one table, holds {len(tables)}")
    table = tables[0]
    table.choice("name", (top.text("name"),))
    table.choice("logicalType", ("object",))
    table.choice("physicalType", ("table",))
    table.optional_text("description")
    columns: list[Column] = []
    positions: dict[int, str] = {}
    for node in table.children("properties"):
        column = _column(node)
        if column.name in {c.name for c in columns}:
            raise node.error("name", f"column {column.name!r} is given twice")
        position = node.integer("primaryKeyPosition") if node.flag("primaryKey", False) else None
        node.finish()
        if position is not None:
            if not column.is_required or position in positions:
                raise node.error("primaryKeyPosition", "a key column is required and has a position of its own")
            positions[position] = column.name
        columns.append(column)
    table.finish()
    if sorted(positions) != list(range(1, len(positions) + 1)) or not positions:
        raise table.error("properties", "primaryKeyPosition must count 1, 2, ... over at least one column")
    return tuple(columns), tuple(positions[i] for i in sorted(positions))


def _column(node: YamlNode) -> Column:
    name = node.text("name")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or "__" in name:
        raise node.error("name", "must be lower case letters, digits and single _")
    logical_type: LogicalType = node.choice("logicalType", get_args(LogicalType))  # type: ignore[assignment]
    classification: Classification = node.choice(  # type: ignore[assignment]
        "classification", get_args(Classification), "internal"
    )
    node.text("physicalType")
    minimum, maximum, pattern = _options(node, logical_type)
    custom = _custom_properties(node)
    column = Column(
        name=name,
        logical_type=logical_type,
        description=node.text("description"),
        is_required=node.flag("required", False),
        unit=custom.optional_text("unit"),
        classification=classification,
        minimum=minimum,
        maximum=maximum,
        pattern=pattern,
        allowed=_allowed(node, logical_type),
        is_additive=custom.flag("isAdditive", False),
        is_closed_set=custom.flag("isClosedSet", False),
        deprecated=_deprecation(custom),
    )
    custom.finish()
    if column.is_closed_set and not column.allowed:
        raise node.error("customProperties.isClosedSet", "belongs to columns with allowed values")
    if column.deprecated is not None and column.is_required:
        raise node.error("customProperties.deprecated", "a required field cannot be on its way out: relax it first")
    if column.is_additive and logical_type != "integer":
        raise node.error("customProperties.isAdditive", "sums are kept in integers: logicalType must be integer")
    return column


def _deprecation(custom: YamlNode) -> Deprecation | None:
    """`deprecated: {since: 1.2.0, removeAfter: 2027-06-30}` of a column, or None."""
    custom.declare(("deprecated",))
    if not custom.has("deprecated"):
        return None
    node = custom.child("deprecated")
    since, day = node.text("since"), node.text("removeAfter")
    node.finish()
    if not re.fullmatch(r"\d+\.\d+\.\d+", since):
        raise node.error("since", "must read major.minor.patch")
    try:
        return Deprecation(since, date.fromisoformat(day))
    except ValueError as error:
        raise node.error("removeAfter", "must be a date, yyyy-mm-dd") from error


def _options(node: YamlNode, logical_type: str) -> tuple[float | None, float | None, str | None]:
    if not node.has("logicalTypeOptions"):
        return None, None, None
    options = node.child("logicalTypeOptions")
    minimum, maximum = options.optional_number("minimum"), options.optional_number("maximum")
    pattern = options.optional_pattern("pattern")
    options.finish()
    if (minimum is not None or maximum is not None) and logical_type not in ("integer", "number"):
        raise options.error("minimum", "minimum and maximum belong to integers and numbers")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise options.error("minimum", "lies above maximum")
    if pattern is not None and logical_type != "string":
        raise options.error("pattern", "belongs to strings")
    return minimum, maximum, pattern


def _allowed(node: YamlNode, logical_type: str) -> tuple[str, ...]:
    """Allowed values: the library metric `invalidValues`, the one quality rule the platform derives checks from."""
    allowed: tuple[str, ...] = ()
    for rule in node.children("quality"):
        rule.choice("type", ("library",))
        rule.choice("metric", ("invalidValues",))
        arguments = rule.child("arguments")
        allowed = arguments.texts("validValues")
        arguments.finish()
        if rule.integer("mustBe") != 0:
            raise rule.error("mustBe", "must be 0: every invalid value is a row fault")
        rule.finish()
    if allowed and logical_type != "string":
        raise node.error("quality", "allowed values belong to strings")
    return allowed


def _custom_properties(node: YamlNode) -> YamlNode:
    """The list of {property, value} as one mapping."""
    values: dict[str, object] = {}
    for item in node.children("customProperties"):
        name = item.text("property")
        if name in values:
            raise item.error("property", f"{name!r} is given twice")
        values[name] = item.raw("value")
        item.optional_text("description")
        item.finish()
    return YamlNode(node.file, ".".join(part for part in (node.place, "customProperties") if part), values)


def _team(team: YamlNode) -> tuple[str, str]:
    roles: dict[str, str] = {}
    team.text("name")
    for member in team.children("members"):
        role = member.choice("role", ("owner", "escalation"))
        roles[role] = member.text("username")
        member.finish()
    team.finish()
    for role in ("owner", "escalation"):
        if role not in roles:
            raise team.error("members", f"has nobody with the role {role}")
    return roles["owner"], roles["escalation"]


def _service_level(top: YamlNode, tier: str) -> tuple[ServiceLevel, int]:
    """Freshness in hours (never judged where none is declared) and retention in days."""
    hours = {"freshnessWarn": math.inf, "freshnessFail": math.inf}
    retention_days: int | None = None
    for item in top.children("slaProperties"):
        name = item.choice("property", ("freshnessWarn", "freshnessFail", "retention"))
        item.optional_text("element")
        item.optional_text("description")
        if name == "retention":
            item.choice("unit", ("d",))
            retention_days = item.integer("value")
        else:
            item.choice("unit", ("h",))
            hours[name] = float(item.number("value"))
        item.finish()
    if retention_days is None:
        raise top.error("slaProperties", "retention is missing")
    if not 0 < hours["freshnessWarn"] <= hours["freshnessFail"]:
        raise top.error("slaProperties", "freshnessWarn must be above 0 and not above freshnessFail")
    return ServiceLevel(hours["freshnessWarn"], hours["freshnessFail"], tier), retention_days
