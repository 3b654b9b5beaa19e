"""Reads the small rules of a feed file: how a column is made, which rows are left out, what takes a row back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date

from replenish.contracts.dataset import CancellationRule, ColumnRule, Exclusion, RowTest
from replenish.contracts.document import YamlNode

TRANSFORMS = ("strip", "upper", "lower", "absolute")


def read_column_rule(columns: YamlNode, name: str) -> ColumnRule:
    """The rule under one contract column: plain text copies a source column, a mapping gives a way to make it.

    Raises:
        ContractError: Not exactly one way, or an option that this way does not have.
    """
    if isinstance(columns.raw(name), str):
        return ColumnRule(column=columns.text(name))
    node = columns.child(name)
    rule = ColumnRule(
        column=node.optional_text("column"),
        value=_constant(node),
        template=node.optional_text("template"),
        content_of=node.texts("content_of", ()),
        batch=node.texts("batch", ()),
        cases=_cases(node),
        transform=_transforms(node),
        factor=node.optional_number("factor"),
        multiply_by=node.optional_text("multiply_by"),
        formats=node.texts("formats", ()),
        days_since=_day_zero(node),
        null_values=node.texts("null_values", ()),
    )
    node.finish()
    ways = [way for way in ("column", "value", "template", "content_of") if node.has(way)]
    if len(ways) != 1:
        raise node.error(
            "", f"give exactly one of column, value, template, content_of; has {', '.join(ways) or 'none'}"
        )
    only_with = {
        "column": ("cases", "factor", "multiply_by", "formats", "days_since", "null_values"),
        "content_of": ("batch",),
    }
    for way, options in only_with.items():
        for option in options:
            if node.has(option) and ways[0] != way:
                raise node.error(option, f"belongs to a rule with `{way}`")
    if node.has("value") and node.has("transform"):
        raise node.error("transform", "a constant needs none")
    return rule


def read_row_test(node: YamlNode) -> RowTest:
    """A test on source columns.

    Raises:
        ContractError: It tests nothing, or a pattern is no regular expression.
    """
    test = RowTest(
        column=node.text("column"),
        matches=node.optional_pattern("matches"),
        not_matches=node.optional_pattern("not_matches"),
        equals=node.optional_text("equals"),
        at_most=node.optional_number("at_most"),
        at_least=node.optional_number("at_least"),
        is_null=node.flag("is_null") if node.has("is_null") else None,
        before_column=node.optional_text("before_column"),
        formats=node.texts("formats", ()),
        and_also=tuple(read_row_test(child) for child in node.children("and_also")),
    )
    node.finish()
    conditions = ("matches", "not_matches", "equals", "at_most", "at_least", "is_null", "before_column")
    if not any(node.has(key) for key in conditions):
        raise node.error("", f"tests nothing: give one of {', '.join(conditions)}")
    if test.formats and test.before_column is None:
        raise node.error("formats", "belongs to `before_column`")
    return test


def read_exclusion(node: YamlNode) -> Exclusion:
    """One reason to leave rows out; ContractError as for `read_row_test`."""
    reason = node.text("reason")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", reason):
        raise node.error("reason", "must be lower case letters, digits and _")
    exclusion = Exclusion(reason, read_row_test(node.child("when")))
    node.finish()
    return exclusion


def read_cancellation(node: YamlNode, contract_columns: Sequence[str]) -> CancellationRule:
    """How a cancellation finds its sale, by equal contract columns.

    Raises:
        ContractError: A match column that the contract does not have, or none at all.
    """
    rule = CancellationRule(
        when=read_row_test(node.child("when")),
        match_columns=node.texts("match_columns"),
        window_days=node.integer("window_days", CancellationRule.window_days),
    )
    node.finish()
    for column in rule.match_columns:
        if column not in contract_columns:
            raise node.error("match_columns", f"the contract has no column {column!r}")
    if not rule.match_columns or rule.window_days < 1:
        raise node.error("", "needs at least one match column and a window of at least one day")
    return rule


def _constant(node: YamlNode) -> str | int | float | bool | None:
    value = node.raw("value")
    if isinstance(value, dict | list):
        raise node.error("value", "must be a single value")
    return value  # type: ignore[return-value]


def _cases(node: YamlNode) -> tuple[tuple[str, str], ...]:
    pairs = []
    for case in node.children("cases"):
        pattern = case.optional_pattern("matches")
        if pattern is None:
            raise case.error("matches", "is missing")
        pairs.append((pattern, case.text("value")))
        case.finish()
    return tuple(pairs)


def _transforms(node: YamlNode) -> tuple[str, ...]:
    transforms = node.texts("transform", ())
    for transform in transforms:
        if transform not in TRANSFORMS:
            raise node.error("transform", f"must be of {', '.join(TRANSFORMS)}; is {transform!r}")
    return transforms


def _day_zero(node: YamlNode) -> date | None:
    text = node.optional_text("days_since")
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise node.error("days_since", "must read YYYY-MM-DD") from error
