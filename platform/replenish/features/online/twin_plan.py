"""A feature set made ready for the twin: which state it needs, and how each feature is read from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from replenish.errors import OutOfRange
from replenish.features.definitions.model import COUNTED_KINDS, FeatureDefinition, FeatureSet, RowFilter
from replenish.features.online.day_totals import DayDemands, DayTotals
from replenish.features.online.latest_candidates import LatestCandidates
from replenish.features.online.postings import Plain, columns_read

FeatureVector = tuple[Plain, ...]
"""Values in the set's order of features."""

Finisher = Callable[[list[Any], DayTotals], Plain]
"""A feature from the statistics of its measure, and the days themselves."""

_DAY_US = 86_400_000_000
_STATISTICS = {
    "sum": ("total",),
    "count": ("count",),
    "count_nonzero": ("active",),
    "min": ("min",),
    "max": ("max",),
    "mean": ("total",),
    "std": ("total", "square"),
    "lag": ("total",),
    "days_since": (),
    "days_since_first": (),
}
_OBSERVED = ("observed", "min", "max")


@dataclass(frozen=True)
class KeptHistory:
    """Limits on history that no window and no time-to-live limits; None keeps all of it, which is exact for ever.

    With a limit some answers may be refused (`ForgottenHistory`); none is wrong.
    """

    days: int | None = None
    """Active days older than this before the origin date are dropped, but for the newest and the oldest."""
    versions: int | None = None
    """So many versions that may be the latest one are kept at least."""


KEEP_ALL = KeptHistory()


@dataclass(frozen=True)
class ValueTest:
    """A filter over the values of a posting."""

    place: int
    equals: str | int | bool


@dataclass(frozen=True)
class MeasurePlan:
    """Daily totals of one value of one source, of all postings or of some, and the features that read them."""

    source: str
    value: str | None
    value_place: int | None
    """Of the value among those of a posting."""
    where: ValueTest | None
    summed_kinds: frozenset[str]
    counted_kinds: frozenset[str]
    demands: DayDemands
    windows: tuple[tuple[tuple[str, ...], int, int], ...]
    """Statistics by window: names, first and last day back from the origin date."""
    day_totals: tuple[tuple[int, int], ...]
    """Features that are D of one day: place in the vector, days back."""
    features: tuple[tuple[int, Finisher], ...]
    """All others: place in the vector, and how to get there."""

    def takes(self, values: tuple[Plain, ...]) -> bool:
        """Whether a posting with these values passes the filter; a null does not."""
        return self.where is None or values[self.where.place] == self.where.equals


@dataclass(frozen=True)
class LatestPlan:
    """Latest versions of one source, of all or of some, and the features that read them."""

    source: str
    where: ValueTest | None
    places: tuple[int, ...]
    """Of the columns that are read, among the values of a posting."""
    longest_us: int | None
    """The longest time-to-live; None where a feature has none."""
    features: tuple[tuple[int, int, int | None], ...]
    """Place in the vector, number of the column that is read, time-to-live [us]."""

    def takes(self, values: tuple[Plain, ...]) -> bool:
        """Whether a posting with these values passes the filter; a null does not."""
        return self.where is None or values[self.where.place] == self.where.equals


@dataclass(frozen=True)
class TwinPlan:
    """Everything that a state per entity is made by. Two sets of one id have plans whose states fit each other."""

    feature_set: FeatureSet
    limits: KeptHistory
    measures: tuple[MeasurePlan, ...]
    latest: tuple[LatestPlan, ...]
    ratios: tuple[tuple[int, int, int], ...]
    """Places of a ratio, its numerator and its denominator, in file order."""
    readers: Mapping[str, tuple[tuple[tuple[int, MeasurePlan], ...], tuple[tuple[int, LatestPlan], ...]]]
    """By source: numbered measures and latest versions that read its postings."""

    @property
    def n_features(self) -> int:
        """Length of a vector."""
        return len(self.feature_set.features)

    def new_days(self, measure: MeasurePlan, origin: int) -> DayTotals:
        """The state of a measure of which nothing is known."""
        return DayTotals(measure.demands, origin, self.limits.days)

    def new_candidates(self, latest: LatestPlan) -> LatestCandidates:
        """The state of latest versions of which nothing is known."""
        return LatestCandidates(latest.places, self.kept_versions(latest))

    def kept_versions(self, latest: LatestPlan) -> int | None:
        """How many live versions are kept at least; None: all that are not too old to count."""
        return self.limits.versions if latest.longest_us is None else None


def plan_twin(feature_set: FeatureSet, limits: KeptHistory = KEEP_ALL) -> TwinPlan:
    """Make a feature set ready.

    Args:
        feature_set: One that `definitions.meaning` found no mistake in.
        limits: What is kept of history.

    Raises:
        OutOfRange: A limit is below 1.
    """
    if min(limits.days or 1, limits.versions or 1) < 1 or 0 in (limits.days, limits.versions):
        raise OutOfRange("history is kept for a day and a version at least", days=limits.days, versions=limits.versions)
    place = {name: nr for nr, name in enumerate(feature_set.feature_names)}
    by_measure: dict[tuple[Any, ...], list[FeatureDefinition]] = {}
    by_latest: dict[tuple[Any, ...], list[FeatureDefinition]] = {}
    for feature in feature_set.features:
        if feature.source is None:
            continue
        if feature.aggregation == "last":
            by_latest.setdefault((feature.source, feature.where), []).append(feature)
        else:
            by_measure.setdefault((feature.source, feature.value, feature.where), []).append(feature)
    # The order of features in a file does not matter to a set's id, nor to what a snapshot holds.
    measures = tuple(_measure_plan(feature_set, by_measure[m], place) for m in sorted(by_measure, key=repr))
    latest = tuple(_latest_plan(feature_set, by_latest[one], place) for one in sorted(by_latest, key=repr))
    ratios = tuple(
        (place[f.name], place[str(f.numerator)], place[str(f.denominator_feature)])
        for f in feature_set.features
        if f.aggregation == "ratio"
    )
    sources = {one.source for one in measures} | {one.source for one in latest}
    readers = {
        source: (
            tuple((nr, one) for nr, one in enumerate(measures) if one.source == source),
            tuple((nr, one) for nr, one in enumerate(latest) if one.source == source),
        )
        for source in sources
    }
    return TwinPlan(feature_set, limits, measures, latest, ratios, readers)


def _value_test(where: RowFilter | None, columns: tuple[str, ...]) -> ValueTest | None:
    return None if where is None else ValueTest(columns.index(where.column), where.equals)


def _latest_plan(feature_set: FeatureSet, features: list[FeatureDefinition], place: Mapping[str, int]) -> LatestPlan:
    source = feature_set.source(str(features[0].source))
    columns = columns_read(feature_set, source)
    read = sorted({str(f.value) for f in features})
    lives = [None if f.time_to_live_days is None else f.time_to_live_days * _DAY_US for f in features]
    longest = None if None in lives else max(life for life in lives if life is not None)
    reads = tuple((place[f.name], read.index(str(f.value)), life) for f, life in zip(features, lives, strict=True))
    places = tuple(columns.index(name) for name in read)
    return LatestPlan(source.name, _value_test(features[0].where, columns), places, longest, reads)


def _measure_plan(feature_set: FeatureSet, features: list[FeatureDefinition], place: Mapping[str, int]) -> MeasurePlan:
    windows: dict[tuple[int, int], set[str]] = {}
    for feature in features:
        if feature.aggregation not in ("days_since", "days_since_first") and not _is_day_total(feature):
            windows.setdefault(_window(feature), set()).update(_names(feature))
    ordered = tuple((tuple(sorted(windows[one])), *one) for one in sorted(windows))
    spots = {
        (name, first, last): nr
        for nr, (name, first, last) in enumerate((n, first, last) for names, first, last in ordered for n in names)
    }
    names = {name for one in windows.values() for name in one}
    needs_active = any(f.aggregation.startswith("days_since") or f.denominator == "since_first" for f in features)
    observes = bool(names.intersection(_OBSERVED))
    day_totals = [f for f in features if _is_day_total(f)]
    demands = DayDemands(
        reach=max([1, *(last for _, last in windows), *(f.lag_days or 0 for f in day_totals)]),
        needs_total=bool(names - {"count"} or day_totals) or needs_active,
        needs_count="count" in names or observes,
        needs_active_days=needs_active,
    )
    first = features[0]
    source = feature_set.source(str(first.source))
    kinds, columns = frozenset(source.posting_kinds), columns_read(feature_set, source)
    return MeasurePlan(
        source=source.name,
        value=first.value,
        value_place=None if first.value is None else columns.index(first.value),
        where=_value_test(first.where, columns),
        summed_kinds=kinds,
        counted_kinds=kinds & frozenset(COUNTED_KINDS),
        demands=demands,
        windows=ordered,
        day_totals=tuple((place[f.name], f.lag_days or 0) for f in day_totals),
        features=tuple((place[f.name], _finisher(f, spots)) for f in features if not _is_day_total(f)),
    )


def _is_day_total(feature: FeatureDefinition) -> bool:
    """A lag that is D of its day, whatever is known of it."""
    return feature.aggregation == "lag" and feature.denominator != "observed"


def _window(feature: FeatureDefinition) -> tuple[int, int]:
    """First and last day back from the origin date."""
    if feature.aggregation == "lag":
        return feature.lag_days or 0, feature.lag_days or 0
    return feature.offset_days + 1, feature.offset_days + (feature.window_days or 0)


def _names(feature: FeatureDefinition) -> tuple[str, ...]:
    names = _STATISTICS[feature.aggregation]
    return (*names, "observed") if feature.denominator == "observed" else names


def _finisher(feature: FeatureDefinition, spots: Mapping[tuple[str, int, int], int]) -> Finisher:
    """How a feature is made of its measure's statistics: integers first, divisions last."""
    if feature.aggregation == "days_since":
        return lambda _, days: _since(days, days.newest_active())
    if feature.aggregation == "days_since_first":
        return lambda _, days: _since(days, days.oldest_active())
    window = _window(feature)
    places = [spots[name, *window] for name in _names(feature)]
    first = places[0]
    if feature.aggregation == "lag" and feature.denominator == "observed":
        return lambda found, _: found[first] if found[places[1]] else None
    if feature.aggregation not in ("mean", "std"):
        return lambda found, _: found[first]
    n_days = _days_divided_by(feature, places[-1])
    if feature.aggregation == "mean":
        return lambda found, days: float(found[first]) / n if (n := n_days(found, days)) > 0 else None
    square = places[1]
    return lambda found, days: (
        math.sqrt(n * found[square] - found[first] ** 2) / n if (n := n_days(found, days)) > 0 else None
    )


def _days_divided_by(feature: FeatureDefinition, observed: int) -> Callable[[list[Any], DayTotals], int]:
    """How many days a mean or deviation is over; 0 or less where it is null."""
    width, offset = feature.window_days or 0, feature.offset_days
    if feature.denominator == "observed":
        return lambda found, _: int(found[observed])
    if feature.denominator == "since_first":

        def since_first(_: list[Any], days: DayTotals) -> int:
            oldest = days.oldest_active()
            return 0 if oldest is None else min(days.origin - offset - oldest, width)

        return since_first
    return lambda found, _: width


def _since(days: DayTotals, day: int | None) -> int | None:
    return None if day is None else days.origin - day
