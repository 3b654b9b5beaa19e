"""The typed feature set: sources, features, targets and planned columns, as every evaluator sees them.

A file `platform/features/<set>.yaml` is read by `definitions.reader` into these values. They are plain: the reader and
`definitions.meaning` judge them, so that tests can build faulty ones.

For an instant T, t is the newest origin date whose cut-off is not after T. A posting is visible where its knowledge
time is not after T. D(e) is the signed sum of the value over the visible postings of event date e, N(e) the signed
number of those that say something. A day is *observed* where N or D is not 0, since a return may stand on a day without
a sale, and *active* where D is not 0. A window of w days with offset o covers the event dates t-o-w .. t-o-1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from replenish.contracts.model import LogicalType

FeatureClock = Literal["daily", "instant"]
"""`daily`: `as_of` is a cut-off instant; `instant`: any instant. The formulas are the same."""

Aggregation = Literal[
    "sum",
    "count",
    "count_nonzero",
    "mean",
    "std",
    "min",
    "max",
    "lag",
    "days_since",
    "days_since_first",
    "last",
    "ratio",
]
Denominator = Literal["calendar", "observed", "since_first"]
"""Days that a mean or deviation divides by: all of the window, the observed ones, those since the first active date."""

SourceGrain = Literal["postings", "increments"]
"""What a row of a source is: one posting of a fact, or what one day of knowledge added to the sums of an event date."""

AGGREGATIONS: tuple[Aggregation, ...] = get_args(Aggregation)
WINDOWED: tuple[Aggregation, ...] = ("sum", "count", "count_nonzero", "mean", "std", "min", "max")
"""Aggregations over a window of event dates."""
INTEGER_VALUED: tuple[Aggregation, ...] = (
    "sum",
    "count",
    "count_nonzero",
    "min",
    "max",
    "lag",
    "days_since",
    "days_since_first",
)
"""Aggregations whose result is Int64; `last` has the type of its column, the others are Float64."""

COUNTED_KINDS = ("version", "reversal")
"""Posting kinds that N counts: facts and their reversals. A cancellation takes units back; its line stays a line."""


@dataclass(frozen=True)
class SourceColumn:
    """One column of a source: a silver column renamed and, where the type differs, cast; nothing else."""

    name: str
    """In the gold table and in the ledgers that evaluators take."""
    from_column: str
    """Column of the stream's contract."""
    unit: str
    logical_type: LogicalType = "integer"
    """Type after the cast."""
    is_planned: bool = False
    """The value is announced for days that are yet to come (a price list, a promotion calendar)."""


@dataclass(frozen=True)
class FeatureSource:
    """What features read: one gold table, made of one silver stream.

    Of the grain `postings` it is a ledger. Of the grain `increments` it has rows of (key, event date, knowledge date):
    each column is a signed sum over postings, `lines` the change of N, and the row is known at the cut-off of its
    knowledge date. At cut-offs, where alone sets with the clock `daily` are asked, both give the same D and N.
    """

    name: str
    table: str
    """In the lake, as `gold/fct_price`."""
    stream: str
    """Silver stream that the table renames, casts and sums."""
    fact_key: tuple[str, ...]
    """Columns that identify a fact, the contract's with its event time called `event_time`."""
    columns: tuple[SourceColumn, ...]
    posting_kinds: tuple[str, ...] = COUNTED_KINDS
    """Kinds whose signed values enter D; other postings are no part of the source. See `COUNTED_KINDS` for N."""
    grain: SourceGrain = "postings"
    lines: str | None = None
    """Of increments the column that counts facts, null values or not; None for postings."""

    @property
    def is_increments(self) -> bool:
        """Whether rows are sums by day and not single postings."""
        return self.grain == "increments"

    def column(self, name: str) -> SourceColumn:
        """The column of this name; KeyError where the source has none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"source {self.name} has no column {name}")


@dataclass(frozen=True)
class RowFilter:
    """Only postings where one column of the source equals a value; a null never does."""

    column: str
    equals: str | int | bool


@dataclass(frozen=True)
class FeatureDefinition:
    """One feature. `definitions.meaning` says which fields an aggregation needs; the others keep their default."""

    name: str
    aggregation: Aggregation
    unit: str
    description: str
    source: str | None = None
    """Name of the source; None for a ratio."""
    value: str | None = None
    """Name of the source's column; None for a ratio and for a count of all facts."""
    window_days: int | None = None
    offset_days: int = 0
    lag_days: int | None = None
    denominator: Denominator | None = None
    """Of mean and std; of lag `calendar` (a day without facts is 0) or `observed` (it is null)."""
    time_to_live_days: int | None = None
    """Of last: null where `as_of` lies more than so many times 24 h after the matched event time; None = for ever."""
    where: RowFilter | None = None
    numerator: str | None = None
    """Of ratio: a feature defined before in the same set."""
    denominator_feature: str | None = None
    owner: str | None = None
    """None = the set's."""


@dataclass(frozen=True)
class FeatureTarget:
    """What models fed by this set predict: D of a column on the days t+first_day .. t+first_day+horizon_days-1."""

    name: str
    source: str
    value: str
    horizon_days: int
    first_day: int = 0
    """Days from the origin date to the first target day; below 0 where the target's period has begun before."""


@dataclass(frozen=True)
class KnownFutureColumn:
    """A planned column that may be read for the days of the target, under this name."""

    name: str
    reads: str
    """`calendar`, or `<source>.<column>` of a planned column; then `name` may be a feature that reads it."""
    unit: str
    description: str


@dataclass(frozen=True)
class FeatureSet:
    """Features of one entity, computed together for (keys, `as_of`); `definitions.identity` gives its id."""

    name: str
    version: str
    """`major.minor.patch`; a recorded number never changes its meaning."""
    description: str
    owner: str
    clock: FeatureClock
    entity: tuple[str, ...]
    """Key columns, of the same name in every source and in the spine."""
    sources: tuple[FeatureSource, ...]
    features: tuple[FeatureDefinition, ...]
    """In file order; a ratio stands after the features that it divides."""
    targets: tuple[FeatureTarget, ...] = ()
    known_future: tuple[KnownFutureColumn, ...] = ()
    consumers: tuple[str, ...] = ()
    """Who reads the set, for the catalogue."""

    def source(self, name: str) -> FeatureSource:
        """The source of this name; KeyError where the set has none."""
        for source in self.sources:
            if source.name == name:
                return source
        raise KeyError(f"feature set {self.name} has no source {name}")

    def feature(self, name: str) -> FeatureDefinition:
        """The feature of this name; KeyError where the set has none."""
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(f"feature set {self.name} has no feature {name}")

    def on_postings(self) -> FeatureSet:
        """The same features read from the postings that increments were summed from: equal at every cut-off."""
        return replace(self, sources=tuple(replace(source, grain="postings", lines=None) for source in self.sources))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names in file order, which is the order of columns in every result."""
        return tuple(feature.name for feature in self.features)


def feature_type(feature_set: FeatureSet, feature: FeatureDefinition) -> LogicalType:
    """Type of a feature's values: `integer`, `number`, or that of the column that a `last` reads."""
    if feature.aggregation in INTEGER_VALUED:
        return "integer"
    if feature.aggregation == "last" and feature.source is not None and feature.value is not None:
        return feature_set.source(feature.source).column(feature.value).logical_type
    return "number"
