"""What changed between two versions of a contract, and whether what was sent under the old one still holds.

A change is compatible when every event that was sound under the old version is sound under the new one, means the same,
and fits the tables that hold the older rows. Everything else is breaking: it needs a new major version, and the old one
stays live beside it until its senders have moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from replenish.contracts.model import Column, Contract

CompatibleKind = Literal[
    "additive",
    "widening",
    "relaxation",
    "deprecation",
    "protection_raised",
    "editorial",
]
BreakingKind = Literal[
    "removal",
    "rename",
    "type_change",
    "range_narrowing",
    "pattern_narrowing",
    "enum_narrowing",
    "enum_opened",
    "required_added",
    "unit_change",
    "additivity_lost",
    "key_change",
    "event_time_change",
    "reference_change",
    "protection_lowered",
]
ChangeKind = CompatibleKind | BreakingKind
Verdict = Literal["compatible", "breaking"]

BREAKING: frozenset[str] = frozenset(get_args(BreakingKind))
_PROTECTION = ("public", "internal", "confidential", "personal")


@dataclass(frozen=True)
class ContractChange:
    """One difference of a newer version to an older one; `field` is None where the whole contract is meant."""

    kind: ChangeKind
    field: str | None
    rule: str
    """The difference and the rule it falls under, in words."""

    @property
    def verdict(self) -> Verdict:
        """Whether events and tables of the old version still hold."""
        return "breaking" if self.kind in BREAKING else "compatible"


def compare_contracts(old: Contract, new: Contract) -> tuple[ContractChange, ...]:
    """Every difference that decides something, in the order of the old columns; empty where nothing changed."""
    gone = [column for column in old.columns if column.name not in new.names]
    fresh = [column for column in new.columns if column.name not in old.names]
    changes = [*_whole(old, new)]
    for column in gone:
        successor = next((c for c in fresh if _is_renamed(column, c)), None)
        if successor is None:
            changes.append(ContractChange("removal", column.name, f"{column.name} is gone; senders still fill it"))
        else:
            fresh.remove(successor)
            words = f"{column.name} seems to be called {successor.name} now: add the new name, deprecate the old one"
            changes.append(ContractChange("rename", column.name, words))
            if successor.is_required:
                changes.append(_added(successor))
    for column in old.columns:
        if column.name in new.names:
            changes += _of_column(column, new.column(column.name))
    changes += [_added(column) for column in fresh]
    if not changes and old.columns != new.columns:
        changes.append(ContractChange("editorial", None, "words or the order of columns changed, no rule"))
    return tuple(changes)


def breaking_changes(changes: Sequence[ContractChange]) -> tuple[ContractChange, ...]:
    """Those that refuse a version of the same major number."""
    return tuple(change for change in changes if change.verdict == "breaking")


def version_numbers(version: str) -> tuple[int, int, int]:
    """`major.minor.patch` as numbers, to be compared.

    >>> version_numbers("1.10.0") > version_numbers("1.9.2")
    True
    """
    major, minor, patch = (int(part) for part in version.split("."))
    return major, minor, patch


def _whole(old: Contract, new: Contract) -> Iterator[ContractChange]:
    if old.fact_key != new.fact_key:
        words = f"the fact key was {', '.join(old.fact_key)} and is {', '.join(new.fact_key)}: other facts are the same"
        yield ContractChange("key_change", None, words)
    if old.event_time != new.event_time:
        words = f"the event time was {old.event_time} and is {new.event_time}: facts move in time"
        yield ContractChange("event_time_change", new.event_time, words)
    if old.is_reference != new.is_reference:
        yield ContractChange("reference_change", None, "reference data and events are stored in different ways")


def _is_renamed(old: Column, new: Column) -> bool:
    """Same type, and the same words or else the same unit, rules and need: most likely one field."""
    if old.logical_type != new.logical_type:
        return False
    if old.description == new.description:
        return True
    return old.unit is not None and _rules_of(old) == _rules_of(new)


def _rules_of(column: Column) -> tuple[object, ...]:
    return column.unit, column.is_required, column.minimum, column.maximum, column.pattern, column.allowed


def _added(column: Column) -> ContractChange:
    if column.is_required:
        words = f"{column.name} is new and required: events sent under the old version do not have it"
        return ContractChange("required_added", column.name, words)
    return ContractChange("additive", column.name, f"{column.name} is new and optional: null in older events")


def _of_column(old: Column, new: Column) -> Iterator[ContractChange]:
    name = old.name
    if old.logical_type != new.logical_type:
        words = f"{name} was {old.logical_type} and is {new.logical_type}: stored rows and senders keep the old type"
        yield ContractChange("type_change", name, words)
        return
    if new.is_required and not old.is_required:
        yield ContractChange("required_added", name, f"{name} may no longer be missing")
    if old.is_required and not new.is_required:
        yield ContractChange("relaxation", name, f"{name} may be missing")
    if old.unit != new.unit:
        words = (
            f"{name} was counted in {old.unit or 'nothing'} and is in {new.unit or 'nothing'}: old numbers mean other"
        )
        yield ContractChange("unit_change", name, words)
    if old.is_additive and not new.is_additive:
        yield ContractChange("additivity_lost", name, f"{name} was summed in gold and no longer may be")
    yield from _bounds(old, new)
    yield from _texts(old, new)
    yield from _standing(old, new)


def _bounds(old: Column, new: Column) -> Iterator[ContractChange]:
    ends = (("minimum", old.minimum, new.minimum, 1.0), ("maximum", old.maximum, new.maximum, -1.0))
    for end, before, after, sign in ends:
        if before == after:
            continue
        # Towards the middle of the range is up for a minimum and down for a maximum.
        is_narrower = after is not None and (before is None or sign * after > sign * before)
        kind: ChangeKind = "range_narrowing" if is_narrower else "widening"
        yield ContractChange(kind, old.name, f"{end} of {old.name} was {_bound(before)} and is {_bound(after)}")


def _bound(value: float | None) -> str:
    return "open" if value is None else f"{value:g}"


def _texts(old: Column, new: Column) -> Iterator[ContractChange]:
    if old.pattern != new.pattern:
        # Whether one regular expression takes all that another does cannot be told in general: only none is wider.
        kind: ChangeKind = "widening" if new.pattern is None else "pattern_narrowing"
        yield ContractChange(kind, old.name, f"pattern of {old.name} was {old.pattern} and is {new.pattern}")
    if old.allowed == new.allowed:
        return
    lost = [value for value in old.allowed if value not in new.allowed]
    gained = [value for value in new.allowed if value not in old.allowed]
    if not new.allowed:
        kind = "enum_opened" if old.is_closed_set else "widening"
        yield ContractChange(kind, old.name, f"{old.name} may have any value")
        return
    if lost or not old.allowed:
        words = f"{old.name} may no longer be {', '.join(lost) or 'any value'}"
        yield ContractChange("enum_narrowing", old.name, words)
    if gained and old.allowed:
        kind = "enum_opened" if old.is_closed_set else "widening"
        yield ContractChange(kind, old.name, f"{old.name} may also be {', '.join(gained)}")


def _standing(old: Column, new: Column) -> Iterator[ContractChange]:
    before, after = _PROTECTION.index(old.classification), _PROTECTION.index(new.classification)
    if before != after:
        kind: ChangeKind = "protection_raised" if after > before else "protection_lowered"
        words = f"{old.name} was {old.classification} and is {new.classification}"
        yield ContractChange(kind, old.name, words)
    if new.deprecated is not None and new.deprecated != old.deprecated:
        words = f"{old.name} is on its way out since {new.deprecated.since}, after {new.deprecated.remove_after}"
        yield ContractChange("deprecation", old.name, words)
