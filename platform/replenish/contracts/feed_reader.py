"""Reads one feed of a feed file: which source columns become which contract columns, checked against the contract."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import get_args
from zoneinfo import ZoneInfo

from replenish.contracts.dataset import ColumnRule, Feed, FeedDoor, FileFormat, FileType, KnowledgeRule
from replenish.contracts.document import YamlNode
from replenish.contracts.feed_rules import read_cancellation, read_column_rule, read_exclusion, read_row_test
from replenish.contracts.model import Contract


def read_feed(node: YamlNode, dataset_id: str, zone: str, contracts: Mapping[str, Contract]) -> Feed:
    """The feed that one part of a feed file describes; `zone` holds where it names none.

    Raises:
        ContractError: Names file, field and rule.
    """
    stream = node.choice("stream", tuple(contracts))
    contract = contracts[stream]
    columns_node = node.child("columns")
    for name in columns_node.keys:
        if name not in contract.names:
            raise columns_node.error(name, f"contract {stream} has no such column; it has {', '.join(contract.names)}")
    columns = {name: read_column_rule(columns_node, name) for name in columns_node.keys}
    for column in contract.columns:
        if column.is_required and column.name not in columns:
            raise columns_node.error(
                column.name, f"required by contract {stream} ({column.description}) and not mapped"
            )
    retraction = node.child("retraction") if node.has("retraction") else None
    cancellation = node.child("cancellation") if node.has("cancellation") else None
    if cancellation is not None and stream != "sales":
        raise node.error("cancellation", f"only sales can be cancelled; {stream} rows are corrected or retracted")
    door: FeedDoor = node.choice("door", get_args(FeedDoor), "files")  # type: ignore[assignment]
    if door == "events":
        _check_event_feed(node, columns)
    feed = Feed(
        feed_id=read_identifier(node, "feed_id", f"{dataset_id}.{stream}"),
        stream=stream,
        files=node.texts("files", () if door == "events" else None),
        format=_format(node),
        zone=read_zone(node, zone),
        columns=columns,
        knowledge=_knowledge(node),
        exclude=tuple(read_exclusion(child) for child in node.children("exclude")),
        retraction=None if retraction is None else read_row_test(retraction),
        cancellation=None if cancellation is None else read_cancellation(cancellation, contract.names),
        ignore_columns=node.texts("ignore_columns", ()),
        door=door,
    )
    if node.place:
        node.finish()
    return feed


def _check_event_feed(node: YamlNode, columns: Mapping[str, ColumnRule]) -> None:
    for key in ("files", "format"):
        if node.has(key):
            raise node.error(key, "belongs to `door: files`; single events are JSON and come through no file")
    for name, rule in columns.items():
        if rule.content_of:
            raise node.error(f"columns.{name}", "content_of numbers the rows of a file; an event names its fact itself")


def _format(node: YamlNode) -> FileFormat:
    if not node.has("format"):
        return FileFormat()
    part = node.child("format")
    default = FileFormat()
    file_type: FileType = part.choice("type", get_args(FileType), default.type)  # type: ignore[assignment]
    fmt = FileFormat(
        type=file_type,
        separator=part.text("separator", default.separator),
        encoding=part.choice("encoding", ("utf-8", "latin-1", "cp1252", "utf-16"), default.encoding),
        quote=part.text("quote", default.quote),
        decimal=part.choice("decimal", (".", ","), default.decimal),
        thousands=part.optional_text("thousands"),
        null_values=part.texts("null_values", default.null_values),
    )
    if len(fmt.separator) != 1 or len(fmt.quote) > 1:
        raise part.error("separator", "separator is one character and quote at most one")
    if fmt.thousands == fmt.decimal:
        raise part.error("thousands", "must differ from decimal")
    part.finish()
    return fmt


def _knowledge(node: YamlNode) -> KnowledgeRule:
    if not node.has("knowledge"):
        return KnowledgeRule("arrival")
    part = node.child("knowledge")
    source = part.choice("source", ("arrival", "column", "delay"))
    rule = KnowledgeRule(
        source=source,  # type: ignore[arg-type]
        column=part.optional_text("column"),
        formats=part.texts("formats", ()),
        delay_hours=part.number("delay_hours", 0.0),
        else_arrival=part.flag("else_arrival", False),
    )
    if (source == "column") != (rule.column is not None):
        raise part.error("column", "belongs to `source: column`, and only there")
    if rule.else_arrival and source != "column":
        raise part.error("else_arrival", "belongs to `source: column`")
    if source != "delay" and part.has("delay_hours"):
        raise part.error("delay_hours", "belongs to `source: delay`")
    if rule.delay_hours < 0:
        raise part.error("delay_hours", "must not be negative: nothing is known before it happens")
    part.finish()
    return rule


def read_identifier(node: YamlNode, key: str, default: str) -> str:
    """A name of ours: of a data set, of a feed."""
    value = node.text(key, default)
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", value):
        raise node.error(key, f"must be lower case letters, digits, _ . and -; is {value!r}")
    return value


def read_zone(node: YamlNode, default: str) -> str:
    """An IANA time zone."""
    zone = node.text("zone", default)
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise node.error("zone", f"is not an IANA time zone: {zone!r}") from error
    return zone
