"""Tests of a feed on source rows: which are left out, which take a fact back, which cancel."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import polars as pl

from replenish.contracts.dataset import Feed, RowTest
from replenish.errors import ContractError
from replenish.ingest.cells import decimals_of, text_of
from replenish.ingest.instants import instants_of


def holds(test: RowTest, frame: pl.DataFrame, feed: Feed) -> pl.Series:
    """For each source row whether all conditions of the test hold; never null.

    A null cell fulfils only `is_null` and `not_matches`.

    Raises:
        ContractError: A pattern that the engine cannot run (look-around, back references).
        FileFault: `zone_contradiction` while times are read for `before_column`.
    """
    text = text_of(frame[test.column], feed.format.null_values)
    conditions: list[pl.Series] = []
    if test.matches is not None:
        conditions.append(_matches(text, test.matches, feed).fill_null(False))
    if test.not_matches is not None:
        conditions.append(~_matches(text, test.not_matches, feed).fill_null(False))
    if test.equals is not None:
        conditions.append((text == test.equals).fill_null(False))
    if test.is_null is not None:
        conditions.append(text.is_null() if test.is_null else text.is_not_null())
    if test.at_most is not None or test.at_least is not None:
        conditions.extend(_within(test, frame[test.column], text, feed))
    if test.before_column is not None:
        earlier = instants_of(frame[test.column], feed.zone, test.formats)
        later = instants_of(frame[test.before_column], feed.zone, test.formats)
        conditions.append((earlier < later).fill_null(False))
    conditions.extend(holds(other, frame, feed) for other in test.and_also)
    return _all(conditions, frame.height)


def columns_of(test: RowTest) -> set[str]:
    """Source columns the test reads."""
    own = {test.column} | ({test.before_column} if test.before_column is not None else set())
    return own.union(*(columns_of(other) for other in test.and_also))


def first_exclusion(frame: pl.DataFrame, feed: Feed) -> pl.Series:
    """Per source row the reason of the first exclusion that applies, null for rows that stay."""
    reason = pl.repeat(None, frame.height, dtype=pl.String(), eager=True).alias("reason")
    for exclusion in reversed(feed.exclude):
        applies = holds(exclusion.when, frame, feed)
        if applies.any():
            reason = reason.scatter(applies.arg_true(), exclusion.reason)
    return reason


def _matches(text: pl.Series, pattern: str, feed: Feed) -> pl.Series:
    try:
        return text.str.contains(pattern)
    except pl.exceptions.ComputeError as error:
        raise ContractError(f"feed {feed.feed_id}: pattern {pattern!r} cannot be run: {error}") from error


def _within(test: RowTest, column: pl.Series, text: pl.Series, feed: Feed) -> list[pl.Series]:
    values = decimals_of(text if column.dtype == pl.String() else column, feed.format)
    bounds: list[tuple[float | None, Callable[[Decimal], pl.Series]]] = [
        (test.at_most, values.__le__),
        (test.at_least, values.__ge__),
    ]
    return [compare(Decimal(str(bound))).fill_null(False) for bound, compare in bounds if bound is not None]


def _all(conditions: list[pl.Series], height: int) -> pl.Series:
    result = pl.repeat(True, height, dtype=pl.Boolean(), eager=True)
    for condition in conditions:
        result = result & condition
    return result
