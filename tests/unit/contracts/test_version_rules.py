"""Older versions beside the newest: read by their own rules, stored in tables as wide as any of them."""

from __future__ import annotations

from dataclasses import replace

from replenish.contracts.model import Column
from replenish.contracts.reader import read_contracts
from replenish.contracts.version_rules import as_older, older_versions, stored_contract
from replenish.contracts.versions import stored_contracts

SALES = read_contracts()["sales"]


def with_rules(version: str, **rules: object):
    columns = (replace(c, **rules) if c.name == "units" else c for c in SALES.columns)
    return replace(SALES, version=version, columns=tuple(columns))


def test_an_older_version_keeps_its_rules_and_takes_the_newest_shape() -> None:
    newest = with_rules("2.0.0", minimum=5, is_required=False)
    newest = replace(newest, columns=(*newest.columns[:-1], Column("note", "string", "Words", is_required=True)))
    read = as_older(SALES, newest)
    assert read.facts.names == newest.names
    assert read.facts.column("units").minimum == SALES.column("units").minimum
    assert not read.facts.column("note").is_required
    assert read.shape.names == SALES.names[:-1]


def test_the_newest_version_is_no_older_one() -> None:
    newest = with_rules("1.1.0", minimum=1)
    assert list(older_versions(newest, {"1.0.0": SALES, "1.1.0": newest})) == ["sales@1.0.0"]


def test_tables_hold_whatever_a_recorded_version_let_in() -> None:
    newest = with_rules("3.0.0", minimum=5, maximum=10, is_required=True)
    wide = stored_contract(newest, (with_rules("1.0.0", minimum=1, maximum=4), with_rules("2.0.0", minimum=2)))
    units = wide.column("units")
    assert (units.minimum, units.maximum, units.is_required) == (1, None, True)
    assert wide.version == "3.0.0"
    either = stored_contract(with_rules("2.0.0", pattern="b"), (with_rules("1.0.0", pattern="a"),))
    assert either.column("units").pattern == "(?:b)|(?:a)"


def test_the_project_s_own_tables_are_judged_by_its_contracts() -> None:
    # Only 1.0.0 was ever given out.
    assert stored_contracts() == read_contracts()
