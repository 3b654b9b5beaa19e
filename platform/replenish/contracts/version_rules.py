"""Older versions of a contract beside the newest: how their events are read, and what the tables of all hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from replenish.contracts.model import Column, Contract


@dataclass(frozen=True)
class OlderVersion:
    """How events of an older live version become facts of the newest."""

    shape: Contract
    """The older version without the columns that the newest no longer has: these go into `unmapped`."""
    facts: Contract
    """The newest version's columns under the older version's rules; columns that came later are null."""


def as_older(older: Contract, newest: Contract) -> OlderVersion:
    """Read an older version as the newest; types, units, key and event time are the same in all live versions."""
    shape = replace(older, columns=tuple(column for column in older.columns if column.name in newest.names))
    columns = (_ruled(c, older.column(c.name)) if c.name in older.names else _optional(c) for c in newest.columns)
    return OlderVersion(shape, replace(newest, columns=tuple(columns)))


def older_versions(newest: Contract, versions: Mapping[str, Contract]) -> dict[str, OlderVersion]:
    """By `<stream>@<version>`: every live version of a stream but the newest."""
    return {
        f"{newest.stream}@{number}": as_older(older, newest)
        for number, older in versions.items()
        if number != newest.version
    }


def stored_contract(newest: Contract, recorded: Iterable[Contract]) -> Contract:
    """What rows of all versions keep: each rule of the newest version as wide as the widest that was ever given out.

    Tables are judged by it. A fact that was right when it was sent stays where it is, and is reversed as it was.
    """
    wide = newest
    for older in recorded:
        columns = (_widened(c, older.column(c.name)) if c.name in older.names else c for c in wide.columns)
        wide = replace(wide, columns=tuple(columns))
    return wide


def _ruled(column: Column, rules: Column) -> Column:
    return replace(
        column,
        is_required=rules.is_required,
        minimum=rules.minimum,
        maximum=rules.maximum,
        pattern=rules.pattern,
        allowed=rules.allowed,
    )


def _optional(column: Column) -> Column:
    return replace(column, is_required=False)


def _widened(column: Column, older: Column) -> Column:
    return replace(
        column,
        is_required=column.is_required and older.is_required,
        minimum=None if column.minimum is None or older.minimum is None else min(column.minimum, older.minimum),
        maximum=None if column.maximum is None or older.maximum is None else max(column.maximum, older.maximum),
        pattern=_either(column.pattern, older.pattern),
        allowed=tuple(dict.fromkeys((*column.allowed, *older.allowed))) if column.allowed and older.allowed else (),
    )


def _either(one: str | None, other: str | None) -> str | None:
    if one is None or other is None or one == other:
        return None if one is None or other is None else one
    return f"(?:{one})|(?:{other})"
