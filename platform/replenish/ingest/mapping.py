"""A feed's column rules applied to source rows: typed contract columns, clocks and flags."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from replenish.contracts.dataset import ColumnRule, Dataset, Feed, KnowledgeRule
from replenish.contracts.model import Column, Contract
from replenish.contracts.validate import UNCASTABLE_SUFFIX
from replenish.errors import ContractError
from replenish.ingest.cells import (
    decimals_of,
    flags_of,
    floats_of,
    integers_of,
    products_of,
    rounded,
    text_of,
    typed_text,
)
from replenish.ingest.content_ids import batch_texts, content_ids
from replenish.ingest.instants import INSTANT, instants_of, knowledge_dates, local_dates
from replenish.ingest.row_tests import columns_of, holds

BATCH_SUFFIX = "__batch"
"""`<column>__batch`: text of the batch within which equal content of a `content_of` column is numbered."""
KNOWLEDGE_UNREADABLE = "knowledge_time" + UNCASTABLE_SUFFIX
RECEIVED_AT = "__received_at"
"""Source column that a door may add: when each row arrived (UTC), in place of one `now` for all."""
BY_ARRIVAL = "__by_arrival"
"""Column of mapped single events: it became known when it arrived, so its place in the log orders it among others."""
IS_DELETE = "__is_delete"
"""Source column that a door may add: rows that take their fact back, whatever the feed's own test says."""
UNMAPPED_JSON = "__unmapped"
"""Source column that a door may add: what the rules do not read, as a JSON object or null."""
_PLACE = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class FeedMapping:
    """One feed bound to its contract and data set; `now` is the arrival of the file."""

    feed: Feed
    contract: Contract
    dataset: Dataset
    now: datetime

    def source_columns(self) -> tuple[str, ...]:
        """Source columns the rules read, without those a `*` stands for."""
        feed = self.feed
        names = {c for rule in feed.columns.values() for c in _columns_of(rule)}
        names |= {feed.knowledge.column} if feed.knowledge.column is not None else set()
        tests = [e.when for e in feed.exclude] + [t for t in (feed.retraction,) if t is not None]
        tests += [feed.cancellation.when] if feed.cancellation is not None else []
        for test in tests:
            names |= columns_of(test)
        return tuple(sorted(names - {"*"}))

    def missing_columns(self, header: list[str]) -> list[str]:
        """Columns that a rule reads and the header lacks."""
        return [name for name in self.source_columns() if name not in header]

    def apply(self, source: pl.DataFrame) -> pl.DataFrame:
        """Typed rows of the source rows, same order.

        Returns:
            Contract columns, `<column>__uncastable` flags where a cell was unreadable, the clock columns,
            `is_retraction`, `is_cancellation`, `unmapped`, and `<column>__batch` for `content_of` rules.

        Raises:
            FileFault: `zone_contradiction`.
        """
        columns: list[pl.Series] = []
        for column in self.contract.columns:
            columns.extend(self._column(column, source))
        rows = pl.DataFrame(columns).with_columns(
            self._flag("is_retraction", source), self._flag("is_cancellation", source), self._unmapped(source)
        )
        return self._clocks(rows, source)

    def _column(self, column: Column, source: pl.DataFrame) -> list[pl.Series]:
        rule = self.feed.columns.get(column.name)
        if rule is None:
            return [pl.repeat(None, source.height, dtype=column.dtype, eager=True).alias(column.name)]
        if rule.content_of:
            names = self._content_columns(rule, source.columns)
            ids = content_ids(source.select(names))
            return [ids.alias(column.name), batch_texts(source, rule.batch).alias(column.name + BATCH_SUFFIX)]
        if rule.column is None and rule.template is None:
            return [self._constant(column, rule, source.height)]
        cells = self._cells(rule, source)
        values = self._typed(column, rule, cells, source).alias(column.name)
        if not values.null_count() or cells.null_count() == cells.len():
            return [values]
        unreadable = values.is_null() & cells.is_not_null()
        if not unreadable.any():
            return [values]
        return [values, unreadable.alias(column.name + UNCASTABLE_SUFFIX)]

    def _cells(self, rule: ColumnRule, source: pl.DataFrame) -> pl.Series:
        """The cells a rule starts from: text after null words, transforms and cases; typed columns stay typed."""
        if rule.template is not None:
            return _filled(rule.template, source, self.feed)
        cells = source[rule.column or ""]
        if cells.dtype != pl.String() and not rule.cases and not rule.null_values:
            return cells
        cells = text_of(cells, self.feed.format.null_values + rule.null_values, rule.transform)
        if not rule.cases:
            return cells
        for_cases = pl.repeat(None, cells.len(), dtype=pl.String(), eager=True)
        for pattern, value in reversed(rule.cases):
            for_cases = for_cases.scatter(cells.str.contains(pattern).fill_null(False).arg_true(), value)
        return for_cases

    def _typed(self, column: Column, rule: ColumnRule, cells: pl.Series, source: pl.DataFrame) -> pl.Series:
        form, kind = self.feed.format, column.logical_type
        if kind == "string":
            return typed_text(cells, rule.transform) if cells.dtype != pl.String() else cells
        if kind == "boolean":
            return flags_of(cells)
        if kind in ("timestamp", "date"):
            instants = instants_of(cells, self.feed.zone, rule.formats, rule.days_since)
            return instants if kind == "timestamp" else local_dates(instants, self.feed.zone)
        if rule.factor is not None or rule.multiply_by is not None:
            other = decimals_of(self._operand(rule, source), form) if rule.multiply_by is not None else None
            product = products_of(decimals_of(cells, form), other, rule.factor)
            values = rounded(product) if kind == "integer" else product.cast(pl.Float64())
        else:
            values = integers_of(cells, form) if kind == "integer" else floats_of(cells, form)
        return values.abs() if "absolute" in rule.transform else values

    def _operand(self, rule: ColumnRule, source: pl.DataFrame) -> pl.Series:
        cells = source[rule.multiply_by or ""]
        return text_of(cells, self.feed.format.null_values) if cells.dtype == pl.String() else cells

    def _constant(self, column: Column, rule: ColumnRule, height: int) -> pl.Series:
        one = self._typed(column, rule, pl.Series([None if rule.value is None else str(rule.value)]), pl.DataFrame())
        if rule.value is not None and one[0] is None:
            raise ContractError(
                f"feed {self.feed.feed_id}: {rule.value!r} is no {column.logical_type}", field=column.name
            )
        return one.new_from_index(0, height).alias(column.name)

    def _content_columns(self, rule: ColumnRule, header: list[str]) -> list[str]:
        if rule.content_of != ("*",):
            return list(rule.content_of)
        left_out = {*rule.batch, *self.feed.ignore_columns}
        return [name for name in header if name not in left_out]

    def _flag(self, name: str, source: pl.DataFrame) -> pl.Series:
        rule = self.feed.cancellation
        added = source[IS_DELETE] if name == "is_retraction" and IS_DELETE in source.columns else None
        test = self.feed.retraction if name == "is_retraction" else (rule.when if rule is not None else None)
        if test is None:
            none = pl.repeat(False, source.height, dtype=pl.Boolean(), eager=True)
            return (none if added is None else added).alias(name)
        held = holds(test, source, self.feed)
        return (held if added is None else held | added).alias(name)

    def _unmapped(self, source: pl.DataFrame) -> pl.Series:
        """JSON of the source columns that no rule reads and the feed does not ignore; null where there are none."""
        if UNMAPPED_JSON in source.columns:
            return source[UNMAPPED_JSON].alias("unmapped")
        content = {
            c
            for r in self.feed.columns.values()
            if r.content_of == ("*",)
            for c in self._content_columns(r, source.columns)
        }
        known = {*self.source_columns(), *self.feed.ignore_columns, *content}
        extra = [name for name in source.columns if name not in known and name not in (RECEIVED_AT, IS_DELETE)]
        if not extra or not source.height:
            return pl.repeat(None, source.height, dtype=pl.String(), eager=True).alias("unmapped")
        return json_of(source.select(extra)).alias("unmapped")

    def _clocks(self, rows: pl.DataFrame, source: pl.DataFrame) -> pl.DataFrame:
        events = rows[self.contract.event_time]
        if events.dtype == pl.Date():
            events = instants_of(events, self.feed.zone)
        rule = self.feed.knowledge
        known = self._known(rule, events, source)
        if IS_DELETE in source.columns and events.null_count():
            # A deletion may name its fact and nothing else: then it happened when it became known.
            is_bare = rows["is_retraction"] & events.is_null()
            known = known.zip_with(~(is_bare & known.is_null()), self._arrival(source))
            events = events.zip_with(~is_bare, known)
        if RECEIVED_AT in source.columns:
            rows = rows.with_columns((known == source[RECEIVED_AT]).fill_null(False).alias(BY_ARRIVAL))
        return rows.with_columns(
            events.alias("event_time"),
            local_dates(events, self.feed.zone).alias("event_date"),
            known.alias("knowledge_time"),
            knowledge_dates(known, self.dataset.zone, self.dataset.cutoff).alias("knowledge_date"),
        )

    def _known(self, rule: KnowledgeRule, events: pl.Series, source: pl.DataFrame) -> pl.Series:
        """When each row became known, null where it does not say so readably."""
        if rule.source == "arrival":
            return self._arrival(source)
        if rule.source == "delay":
            return events + timedelta(hours=rule.delay_hours)
        cells = source[rule.column or ""]
        cells = text_of(cells, self.feed.format.null_values) if cells.dtype == pl.String() else cells
        known = instants_of(cells, self.feed.zone, rule.formats)
        return known.zip_with(cells.is_not_null(), self._arrival(source)) if rule.else_arrival else known

    def _arrival(self, source: pl.DataFrame) -> pl.Series:
        if RECEIVED_AT in source.columns:
            return source[RECEIVED_AT]
        return pl.repeat(self.now, source.height, dtype=INSTANT, eager=True)


def json_of(frame: pl.DataFrame) -> pl.Series:
    """Each row as a JSON object of its columns as text."""
    text = frame.select(pl.all().cast(pl.String()))
    return text.select(pl.struct(pl.all()).struct.json_encode().alias("json"))["json"]


def _columns_of(rule: ColumnRule) -> set[str]:
    places = set(_PLACE.findall(rule.template)) if rule.template is not None else set()
    single = {name for name in (rule.column, rule.multiply_by) if name is not None}
    return single | places | set(rule.content_of) | set(rule.batch)


def _filled(template: str, source: pl.DataFrame, feed: Feed) -> pl.Series:
    """The template with its places filled per row; null where a place is."""
    parts: list[pl.Expr] = []
    for nr, piece in enumerate(_PLACE.split(template)):
        if nr % 2:
            parts.append(pl.lit(text_of(source[piece], feed.format.null_values)))
        elif piece:
            parts.append(pl.lit(piece))
    return source.select(pl.concat_str(parts).alias("text"))["text"]
