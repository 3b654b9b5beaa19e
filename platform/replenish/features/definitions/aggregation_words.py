"""What each aggregation does with empty windows, nulls, denominators and ties: the words for docs and assets."""

from __future__ import annotations

from dataclasses import dataclass

from replenish.features.definitions.model import Aggregation


@dataclass(frozen=True)
class AggregationWords:
    """One aggregation in words."""

    aggregation: Aggregation
    value: str
    type: str
    empty: str
    """An empty window, or nothing known at all."""
    nulls: str
    denominator: str
    ties: str


_NOTHING = "adds nothing"
_NO_TIES = "none: sums do not depend on order"
_DAYS_OF_MEAN = (
    "`calendar`: all w days; `observed`: observed days of the window; "
    "`since_first`: the days from the first active date of all on, at most w"
)
_EMPTY_MEAN = "`calendar`: 0; `observed` without such a day, `since_first` without or before the first: null"
_SILENT = "adds nothing, and does not make its date observed"

AGGREGATION_WORDS: tuple[AggregationWords, ...] = (
    AggregationWords("sum", "sum of D", "integer", "0", _NOTHING, "none", _NO_TIES),
    AggregationWords(
        *("count", "facts known, less those taken back; a cancelled line stays a line", "integer", "0"),
        *("a fact whose value is null does not count; without a value column all do", "none", _NO_TIES),
    ),
    AggregationWords(
        *("count_nonzero", "number of active dates", "integer", "0", _NOTHING, "none", "a date counts once"),
    ),
    AggregationWords("mean", "sum of D / n", "number", _EMPTY_MEAN, _SILENT, f"n, {_DAYS_OF_MEAN}", _NO_TIES),
    AggregationWords(
        *("std", "population deviation of D over n dates, dates of n not observed as 0", "number", _EMPTY_MEAN),
        *(_SILENT, f"n, {_DAYS_OF_MEAN}", _NO_TIES),
    ),
    AggregationWords(
        *("min", "least D of an observed date", "integer", "null", _SILENT, "none", "equal dates give one value"),
    ),
    AggregationWords(
        *("max", "greatest D of an observed date", "integer", "null", _SILENT, "none", "equal dates give one value"),
    ),
    AggregationWords(
        *("lag", "D of the date t-n", "integer", "`calendar`: 0; `observed`: null where the date is not observed"),
        *(_SILENT, "`calendar` or `observed`, see left", _NO_TIES),
    ),
    AggregationWords(
        *("days_since", "t less the newest active date up to t-1", "integer", "null", _NOTHING, "none"),
        "a date counts once",
    ),
    AggregationWords(
        *("days_since_first", "t less the first active date up to t-1", "integer", "null", _NOTHING, "none"),
        "a date counts once",
    ),
    AggregationWords(
        *("last", "value of the newest version in force at `as_of`", "the column's", "null"),
        "a version whose value is null gives null: it is the newest word",
        "none; with a time-to-live null where `as_of` - event time is more than that many times 24 h",
        "event time, then knowledge time, then the rest of the fact key, then version number: the greatest wins",
    ),
    AggregationWords(
        *("ratio", "numerator / denominator feature", "number", "null"),
        *("null where either part is null", "the denominator feature; null where it is 0", "those of its parts"),
    ),
)
"""In the order of `model.AGGREGATIONS`; a test holds that none is missing."""
