"""CON-2: what passes as a new version of a contract and what is refused, one row per kind of change."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import polars as pl
import pytest

from replenish.contracts.evolution import compare_contracts
from replenish.contracts.model import Column, Contract, Deprecation, ServiceLevel
from replenish.contracts.stored_schema import guard_stored_schema, schema_faults
from replenish.errors import IncompatibleSchema

COLUMNS = (
    Column("location_id", "string", "Shop", is_required=True),
    Column("sold_at", "timestamp", "When", is_required=True),
    Column("units", "integer", "Sold", is_required=True, unit="units", minimum=0, maximum=100, is_additive=True),
    Column("customer_id", "string", "Buyer", classification="personal", pattern="C[0-9]+"),
    Column("channel", "string", "Where", allowed=("web", "shop")),
    Column("status", "string", "How it stands", allowed=("open", "done"), is_closed_set=True),
)
OLD = Contract(
    "sales", "1.0.0", "Sales.", "a", "b", "c", COLUMNS, ("location_id", "sold_at"), "sold_at", False, 0.2,
    ServiceLevel(1, 2, "gold"), 10,
)  # fmt: skip


def changed(name: str, **values: object) -> Contract:
    columns = [replace(c, **values) if c.name == name else c for c in COLUMNS]  # type: ignore[arg-type]
    return replace(OLD, columns=tuple(columns))


def added(*columns: Column) -> Contract:
    return replace(OLD, columns=(*COLUMNS, *columns))


def without(name: str, *columns: Column) -> Contract:
    return replace(OLD, columns=(*(c for c in COLUMNS if c.name != name), *columns))


COMPATIBLE = {
    "new optional column": (added(Column("note", "string", "Words")), ["additive"]),
    "lower minimum": (changed("units", minimum=-5), ["widening"]),
    "higher maximum": (changed("units", maximum=200), ["widening"]),
    "no bounds": (changed("units", minimum=None, maximum=None), ["widening", "widening"]),
    "no pattern": (changed("customer_id", pattern=None), ["widening"]),
    "new allowed value": (changed("channel", allowed=("web", "shop", "phone")), ["widening"]),
    "any value allowed": (changed("channel", allowed=()), ["widening"]),
    "may be missing": (changed("units", is_required=False), ["relaxation"]),
    "better protected": (changed("channel", classification="personal"), ["protection_raised"]),
    "on its way out": (changed("channel", deprecated=Deprecation("1.1.0", date(2027, 1, 1))), ["deprecation"]),
    "other words": (changed("channel", description="Which way it was sold"), ["editorial"]),
    "other order": (replace(OLD, columns=COLUMNS[::-1]), ["editorial"]),
    "nothing": (replace(OLD), []),
}
BREAKING = {
    "removed": (without("channel"), ["removal"]),
    "renamed, same words": (without("channel", Column("way", "string", "Where")), ["rename"]),
    "renamed, same unit and rules": (
        without("units", replace(COLUMNS[2], name="quantity", description="Pieces")),
        ["rename", "required_added"],
    ),
    "another type": (changed("units", logical_type="number"), ["type_change"]),
    "narrower type": (changed("customer_id", logical_type="integer", pattern=None), ["type_change"]),
    "higher minimum": (changed("units", minimum=1), ["range_narrowing"]),
    "lower maximum": (changed("units", maximum=50), ["range_narrowing"]),
    "another pattern": (changed("customer_id", pattern="[0-9]+"), ["pattern_narrowing"]),
    "a pattern where none was": (changed("channel", pattern="w.*"), ["pattern_narrowing"]),
    "a value less": (changed("channel", allowed=("web",)), ["enum_narrowing"]),
    "values where none were": (changed("customer_id", allowed=("C1",)), ["enum_narrowing"]),
    "a value more in a closed set": (changed("status", allowed=("open", "done", "lost")), ["enum_opened"]),
    "a closed set opened": (changed("status", allowed=(), is_closed_set=False), ["enum_opened"]),
    "required now": (changed("channel", is_required=True), ["required_added"]),
    "new and required": (added(Column("till", "string", "Till", is_required=True)), ["required_added"]),
    "another unit": (changed("units", unit="boxes"), ["unit_change"]),
    "no longer summed": (changed("units", is_additive=False), ["additivity_lost"]),
    "longer key": (replace(OLD, fact_key=("location_id", "sold_at", "units")), ["key_change"]),
    "key in another order": (replace(OLD, fact_key=("sold_at", "location_id")), ["key_change"]),
    "another event time": (replace(OLD, event_time="known_at"), ["event_time_change"]),
    "reference data now": (replace(OLD, is_reference=True), ["reference_change"]),
    "less protected": (changed("customer_id", classification="internal"), ["protection_lowered"]),
}  # fmt: skip


@pytest.mark.parametrize(("new", "kinds"), COMPATIBLE.values(), ids=COMPATIBLE)
def test_compatible_changes_pass(new: Contract, kinds: list[str]) -> None:
    changes = compare_contracts(OLD, new)
    assert [change.kind for change in changes] == kinds
    assert all(change.verdict == "compatible" for change in changes)


@pytest.mark.parametrize(("new", "kinds"), BREAKING.values(), ids=BREAKING)
def test_breaking_changes_are_named(new: Contract, kinds: list[str]) -> None:
    changes = compare_contracts(OLD, new)
    assert [change.kind for change in changes] == kinds
    assert all(change.verdict == "breaking" and change.rule for change in changes)


def test_a_bound_on_an_open_end_narrows() -> None:
    assert [c.kind for c in compare_contracts(changed("units", minimum=None), OLD)] == ["range_narrowing"]
    assert [c.kind for c in compare_contracts(changed("units", maximum=None), OLD)] == ["range_narrowing"]


def test_a_stored_table_takes_new_optional_columns_and_nothing_else() -> None:
    stored = OLD.bronze_schema
    assert schema_faults(added(Column("note", "string", "Words")), "bronze", stored) == []
    assert schema_faults(OLD, "silver", OLD.silver_schema | {"event_month": pl.Int32()}) == []
    for new, word in (
        (changed("units", logical_type="number"), "units is Int64"),
        (without("channel"), "channel is in the table"),
        (added(Column("till", "string", "Till", is_required=True)), "till is required"),
    ):
        with pytest.raises(IncompatibleSchema, match=word):
            guard_stored_schema(new, "bronze", stored)
