"""Row checks compiled from a contract: which rows of a typed frame break which rule.

One cheap counting pass over the whole frame; the bit mask is made for the failing rows only (see `RowChecks.judge`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import polars as pl

from replenish.contracts.model import Column, Contract
from replenish.errors import BrokenPromise, ContractError

FAULT_MASK = "fault_mask"
UNCASTABLE_SUFFIX = "__uncastable"
"""`<column>__uncastable`: a value was present in the source but could not be read as the column's type."""

MAX_RULES = 62
"""Bits 0..61 of a non-negative Int64; bit 62 is left to the gate, for rows that do not say when they became known."""

CONTROL_CHARACTERS = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F]"
"""No id, name or code holds one; in a terminal or an export they do harm."""

_UNREADABLE_REASONS = {
    "integer": "not_a_number",
    "number": "not_a_number",
    "timestamp": "bad_time",
    "date": "bad_time",
    "boolean": "not_a_flag",
    "string": "not_text",
}


@dataclass(frozen=True)
class RowFault:
    """One rule of a contract and the bit that marks its breach: `1 << bit`."""

    bit: int
    reason: str
    """Code: `not_a_number`, `bad_time`, `not_a_flag`, `not_text`, `missing_required`, `not_finite`, `below_minimum`,
    `above_maximum`, `control_character`, `pattern_mismatch` or `not_allowed`."""
    field: str
    rule: str
    """The rule in words, e.g. `units >= 0`."""


@dataclass(frozen=True)
class RowChecks:
    """The compiled row rules of one contract; `faults[i].bit == i`."""

    faults: tuple[RowFault, ...]
    expressions: tuple[pl.Expr, ...]
    """Boolean, never null: true where rule `i` is broken."""

    def judge(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with an Int64 column `fault_mask`, 0 for a sound row; row order kept.

        Reads the contract columns, already cast to their types (null where unreadable), and for each column `c` an
        optional boolean `c__uncastable`; adds `fault_mask` and leaves the rest as it is.
        """
        complete = self._with_flags(frame)
        active = [(fault, self.expressions[fault.bit]) for fault in self.count(complete)]
        if not active:
            return frame.with_columns(pl.lit(0, pl.Int64).alias(FAULT_MASK))
        broken = complete.select(pl.any_horizontal(expr for _, expr in active).alias("broken"))["broken"].arg_true()
        mask = complete[broken].select(
            pl.sum_horizontal(
                pl.when(expr).then(pl.lit(1 << fault.bit, pl.Int64)).otherwise(pl.lit(0, pl.Int64))
                for fault, expr in active
            ).alias(FAULT_MASK)
        )[FAULT_MASK]
        return frame.with_columns(pl.zeros(frame.height, pl.Int64, eager=True).scatter(broken, mask).alias(FAULT_MASK))

    def count(self, frame: pl.DataFrame) -> dict[RowFault, int]:
        """Rows of a judged or unjudged frame that break each rule; rules that hold everywhere are left out."""
        complete = self._with_flags(frame)
        sums = complete.select(expr.sum().alias(str(bit)) for bit, expr in enumerate(self.expressions)).row(0)
        return {fault: n for fault, n in zip(self.faults, sums, strict=True) if n}

    def first_fault(self, mask: int) -> RowFault:
        """The fault of the lowest bit: the reason a dead letter is filed under.

        Raises:
            BrokenPromise: The mask is 0 or has bits that no rule owns.
        """
        return self.faults_of(mask)[0]

    def faults_of(self, mask: int) -> tuple[RowFault, ...]:
        """Every fault of a mask, lowest bit first; BrokenPromise as for `first_fault`."""
        if not 0 < mask < 1 << len(self.faults):
            raise BrokenPromise("not a fault mask of this contract", mask=mask)
        return tuple(fault for fault in self.faults if mask >> fault.bit & 1)

    def _with_flags(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with every `__uncastable` flag: absent means that all values could be read."""
        flags = dict.fromkeys(fault.field + UNCASTABLE_SUFFIX for fault in self.faults)
        return frame.with_columns(pl.lit(False).alias(flag) for flag in flags if flag not in frame.columns)


@lru_cache(maxsize=64)
def compile_row_checks(contract: Contract) -> RowChecks:
    """The row rules of a contract, in column order; within a column an unreadable value comes first.

    Raises:
        ContractError: The contract has more rules than a mask has bits.
    """
    rules = [rule for column in contract.columns for rule in _rules(column)]
    if len(rules) > MAX_RULES:
        raise ContractError(f"contract {contract.stream} has {len(rules)} row rules; at most {MAX_RULES} fit a mask")
    faults = tuple(RowFault(bit, reason, field, rule) for bit, (reason, field, rule, _) in enumerate(rules))
    return RowChecks(faults, tuple(expr.fill_null(False) for *_, expr in rules))


def _rules(column: Column) -> list[tuple[str, str, str, pl.Expr]]:
    """(reason, field, rule, broken) of one column; an unreadable value counts as that alone, not as missing too."""
    name = column.name
    value: pl.Expr = pl.col(name)
    unreadable = pl.col(name + UNCASTABLE_SUFFIX)
    rules = [(_UNREADABLE_REASONS[column.logical_type], name, f"{name} is {_type_words(column)}", unreadable)]
    if column.is_required:
        rules.append(("missing_required", name, f"{name} is required", value.is_null() & ~unreadable))
    if column.logical_type == "number":
        rules.append(("not_finite", name, f"{name} is finite", ~value.is_finite()))
        # NaN compares as the greatest number; it is not finite and nothing else.
        value = pl.when(value.is_finite()).then(value)
    if column.minimum is not None:
        rules.append(("below_minimum", name, f"{name} >= {column.minimum:g}", value < column.minimum))
    if column.maximum is not None:
        rules.append(("above_maximum", name, f"{name} <= {column.maximum:g}", value > column.maximum))
    if column.logical_type == "string" and not column.allowed:
        rule = f"{name} has no control characters but tab and line ends"
        has_control = value.str.contains(CONTROL_CHARACTERS)
        rules.append(("control_character", name, rule, has_control))
        value = pl.when(~has_control).then(value)
    if column.pattern is not None:
        whole = f"^(?:{column.pattern})$"
        rules.append(("pattern_mismatch", name, f"{name} matches {column.pattern}", ~value.str.contains(whole)))
    if column.allowed:
        text = f"{name} is one of {', '.join(column.allowed)}"
        rules.append(("not_allowed", name, text, ~value.is_in(list(column.allowed))))
    return rules


def _type_words(column: Column) -> str:
    article = "an" if column.logical_type == "integer" else "a"
    return f"{article} {column.logical_type}"
