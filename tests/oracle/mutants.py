"""Seeded faults of an evaluator: the naive peer with one rule broken, to prove that the comparison would see it.

Each is a mistake that a real evaluator could make. The name says what is wrong.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from replenish.bitemporal import origin_instant_expr
from tests.oracle.known_at import Feature
from tests.oracle.range_join import ROW, RangeJoin


class KnownBefore(RangeJoin):
    """`knowledge_time < as_of`: what is known at the instant itself is missing."""

    def visible(self, joined: pl.DataFrame) -> pl.DataFrame:
        return joined.filter(pl.col("knowledge_time") < pl.col("as_of"))


class EventTimeJoin(RangeJoin):
    """The leak: everything that has happened counts, whenever it became known."""

    def visible(self, joined: pl.DataFrame) -> pl.DataFrame:
        return joined.filter(pl.col("event_time") <= pl.col("as_of"))


class KnownLater(RangeJoin):
    """Everything counts at once, what is known later and what happens later too."""

    def visible(self, joined: pl.DataFrame) -> pl.DataFrame:
        return joined


class KnownAtCutoff(RangeJoin):
    """What became known since the last cut-off is missing: knowledge dates in place of knowledge times."""

    def visible(self, joined: pl.DataFrame) -> pl.DataFrame:
        return joined.filter(pl.col("knowledge_time") <= self.cutoff_of(pl.col("origin")))


class CutoffIgnored(RangeJoin):
    """A day begins at midnight."""

    def origin(self) -> pl.Expr:
        return pl.col("as_of").dt.convert_time_zone(self.question.zone).dt.date()


class CutoffExclusive(RangeJoin):
    """At the cut-off instant itself the day has not begun."""

    def origin(self) -> pl.Expr:
        as_of = pl.col("as_of")
        day = as_of.dt.convert_time_zone(self.question.zone).dt.date()
        return pl.when(self.cutoff_of(day) < as_of).then(day).otherwise(day.dt.offset_by("-1d"))


class ZoneIsUtc(RangeJoin):
    """The cut-off is taken in UTC."""

    def cutoff_of(self, day: pl.Expr) -> pl.Expr:
        return origin_instant_expr(day, "UTC", self.question.cutoff)


class OffsetOfWinter(RangeJoin):
    """One offset for all the year: clocks never change."""

    def cutoff_of(self, day: pl.Expr) -> pl.Expr:
        offset = datetime(2025, 1, 15, 12, tzinfo=UTC).astimezone(ZoneInfo(self.question.zone)).utcoffset()
        return day.dt.combine(self.question.cutoff, "us").dt.replace_time_zone("UTC") - (offset or timedelta(0))


class GapBySummerOffset(RangeJoin):
    """A cut-off that a clock change skips is read with the offset after the gap."""

    def cutoff_of(self, day: pl.Expr) -> pl.Expr:
        wall = day.dt.combine(self.question.cutoff, "us")
        zone = self.question.zone
        exact = wall.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        after = wall.dt.offset_by("1d").dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        return pl.coalesce(exact.dt.convert_time_zone("UTC"), after.dt.convert_time_zone("UTC") - pl.duration(days=1))


class OverlapTakenLate(RangeJoin):
    """A cut-off that occurs twice is the second one."""

    def cutoff_of(self, day: pl.Expr) -> pl.Expr:
        wall = day.dt.combine(self.question.cutoff, "us")
        late = wall.dt.replace_time_zone(self.question.zone, ambiguous="latest", non_existent="null")
        return pl.coalesce(late.dt.convert_time_zone("UTC"), super().cutoff_of(day))


class EventDateOfZone(RangeJoin):
    """Event dates are made from event times in the deployment's zone, not taken from the source."""

    def postings(self, ledger: pl.DataFrame) -> pl.DataFrame:
        local = pl.col("event_time").dt.convert_time_zone(self.question.zone)
        return ledger.with_columns(event_date=local.dt.date())


class OffsetDropped(RangeJoin):
    """The window always ends at the origin."""

    def window(self, feature: Feature, days: pl.DataFrame) -> pl.DataFrame:
        age = (pl.col("origin") - pl.col("event_date")).dt.total_days()
        return days.filter((age >= 1) & (age <= (feature.window_days or 0)))


class WindowHoldsToday(RangeJoin):
    """The window is a day late, so that it holds the day that is just beginning: a label leak."""

    def window(self, feature: Feature, days: pl.DataFrame) -> pl.DataFrame:
        age = (pl.col("origin") - pl.col("event_date")).dt.total_days() - feature.offset_days
        return days.filter((age >= 0) & (age < (feature.window_days or 0)))


class WindowTooLong(RangeJoin):
    """Both ends of the window are inclusive, one day too many."""

    def window(self, feature: Feature, days: pl.DataFrame) -> pl.DataFrame:
        age = (pl.col("origin") - pl.col("event_date")).dt.total_days() - feature.offset_days
        return days.filter((age >= 1) & (age <= (feature.window_days or 0) + 1))


class ReversalsIgnored(RangeJoin):
    """Nothing is ever taken back."""

    def postings(self, ledger: pl.DataFrame) -> pl.DataFrame:
        return ledger.filter(pl.col("posting_kind") == "version")


def _with_successor(ledger: pl.DataFrame, fact_key: tuple[str, ...]) -> pl.DataFrame:
    """Each posting with event date and knowledge time of its fact's next version."""
    versions = ledger.filter(pl.col("posting_kind") == "version")
    successors = versions.select(
        *fact_key, version_nr=pl.col("version_nr") - 1, next_date="event_date", next_known="knowledge_time"
    )
    return ledger.join(successors, on=[*fact_key, "version_nr"], how="left")


class RetractionsIgnored(RangeJoin):
    """A fact is taken back only by its next version."""

    def postings(self, ledger: pl.DataFrame) -> pl.DataFrame:
        both = _with_successor(ledger, self.question.fact_key)
        is_superseded = (pl.col("next_known") == pl.col("knowledge_time")).fill_null(False)
        return both.filter((pl.col("posting_kind") == "version") | is_superseded)


class ReversedAtNewDate(RangeJoin):
    """A moved fact is taken back at the date it moved to."""

    def postings(self, ledger: pl.DataFrame) -> pl.DataFrame:
        both = _with_successor(ledger, self.question.fact_key)
        moved = (pl.col("posting_kind") == "reversal") & pl.col("next_date").is_not_null()
        return both.with_columns(event_date=pl.when(moved).then("next_date").otherwise("event_date"))


class MovedDateKept(RangeJoin):
    """A fact whose event date moved stays at the old date too."""

    def postings(self, ledger: pl.DataFrame) -> pl.DataFrame:
        both = _with_successor(ledger, self.question.fact_key)
        moved = (pl.col("posting_kind") == "reversal") & (pl.col("next_date") != pl.col("event_date")).fill_null(False)
        return both.filter(~moved)


class ReversedWhenFirstKnown(RangeJoin):
    """A fact that will be retracted was never there: reversals count from the version's own knowledge time."""

    def postings(self, ledger: pl.DataFrame) -> pl.DataFrame:
        identity = [*self.question.fact_key, "version_nr"]
        versions = ledger.filter(pl.col("posting_kind") == "version").select(*identity, own_time="knowledge_time")
        both = ledger.join(versions, on=identity, how="left")
        return both.with_columns(knowledge_time="own_time")


class DeliveredTwice(RangeJoin):
    """A fact that is told once more in the same words counts twice."""

    def postings(self, ledger: pl.DataFrame) -> pl.DataFrame:
        same = [*self.question.fact_key, "event_time", "units", "cents", "channel", "is_promotion"]
        versions = ledger.filter(pl.col("posting_kind") == "version")
        again = versions.filter(pl.struct(same).is_duplicated() & (pl.col("version_nr") > 1))
        return pl.concat([ledger, again])


class SpineRowsMerged(RangeJoin):
    """Rows of the spine that are equal share their postings, which are then summed for both."""

    def join(self, spine: pl.DataFrame, ledger: pl.DataFrame) -> pl.DataFrame:
        keys = [*self.question.entity, "as_of"]
        merged = spine.with_columns(pl.col(ROW).min().over(keys))
        return super().join(merged, ledger)


class EntityByPart(RangeJoin):
    """Rows are joined on the first column of the entity only."""

    def join(self, spine: pl.DataFrame, ledger: pl.DataFrame) -> pl.DataFrame:
        return spine.join(ledger, on=self.question.entity[0], how="inner")


class WhereIgnored(RangeJoin):
    """A filter is declared and not applied."""

    def chosen(self, feature: Feature) -> pl.DataFrame:
        return self.joined


class WhereOnVersionsOnly(RangeJoin):
    """The filter applies to what is added, not to what is taken back."""

    def chosen(self, feature: Feature) -> pl.DataFrame:
        if feature.where is None:
            return self.joined
        column, wanted = feature.where
        return self.joined.filter((pl.col(column) == wanted) | (pl.col("posting_kind") == "reversal"))


class NullsAreZeros(RangeJoin):
    """A fact without a value says 0, so its day is observed."""

    def saying(self, rows: pl.DataFrame, value: str | None) -> pl.DataFrame:
        if value is not None and rows.schema[value] != pl.String:
            rows = rows.with_columns(pl.col(value).cast(pl.Int64).fill_null(0))
        return super().saying(rows, value)


class CancellationsIgnored(RangeJoin):
    """What was cancelled still counts as sold."""

    def postings(self, ledger: pl.DataFrame) -> pl.DataFrame:
        return ledger.filter(pl.col("posting_kind") != "cancellation")


class EveryKindCounts(RangeJoin):
    """Postings of kinds that the source does not take are added up too."""

    def saying(self, rows: pl.DataFrame, value: str | None) -> pl.DataFrame:
        return super().saying(rows.with_columns(posting_kind=pl.lit("version")), value)


class CancelledLineIsNone(RangeJoin):
    """A cancellation takes a fact away, not only units."""

    def is_counted(self) -> pl.Expr:
        return pl.lit(True)


class CancelledIsReversed(RangeJoin):
    """Whatever bears a minus ends the version that it names."""

    def live(self, rows: pl.DataFrame) -> pl.DataFrame:
        minus = pl.col("posting_sign") < 0
        return super().live(
            rows.with_columns(posting_kind=pl.when(minus).then(pl.lit("reversal")).otherwise("posting_kind"))
        )


class NegativeIsInactive(RangeJoin):
    """A day is active only where its total is above 0."""

    def is_active(self) -> pl.Expr:
        return pl.col("total") > 0


class ObservedIsActive(RangeJoin):
    """A day whose total is 0 counts as not observed."""

    def is_observed(self) -> pl.Expr:
        return pl.col("total") != 0


class ObservedByFactsOnly(RangeJoin):
    """A day with a total but without facts, as returns make it, is not observed."""

    def is_observed(self) -> pl.Expr:
        return pl.col("n_facts") != 0


class ObservedForever(RangeJoin):
    """A day stays observed when its facts were taken back."""

    def is_observed(self) -> pl.Expr:
        return pl.col("n_facts").is_not_null()


class MonotoneDeque(RangeJoin):
    """Extremes from a monotone queue: a candidate that was once beaten is gone, even if the better one is corrected."""

    def extreme(self, feature: Feature, window: pl.DataFrame) -> pl.DataFrame:
        rows = self.saying(self.chosen(feature), feature.value).sort("knowledge_time", "event_date")
        sign = 1 if feature.aggregation == "max" else -1
        kept: dict[int, list[tuple[date, int]]] = {}
        totals: dict[tuple[int, date], int] = {}
        for row, day, change in rows.select(ROW, "event_date", pl.col("posting_sign") * pl.col("said")).iter_rows():
            total = totals[row, day] = totals.get((row, day), 0) + change
            queue = [(e, best) for e, best in kept.get(row, []) if e != day and (e > day or sign * best > sign * total)]
            kept[row] = sorted([*queue, (day, total)])
        candidates = [(row, day, total) for row, queue in kept.items() for day, total in queue]
        schema: dict[str, Any] = {ROW: pl.UInt32, "event_date": pl.Date, "queued": pl.Int64}
        queued = pl.DataFrame(candidates, schema=schema, orient="row")
        found = window.filter(self.is_observed()).join(queued, on=[ROW, "event_date"], how="inner")
        return super().extreme(feature, found)


class ExtremeOfCalendar(RangeJoin):
    """A day of the window without facts takes part in minimum and maximum as 0."""

    def extreme(self, feature: Feature, window: pl.DataFrame) -> pl.DataFrame:
        found = super().extreme(feature, window)
        n_days = window.filter(self.is_observed()).group_by(ROW).agg(n=pl.len())
        zero = pl.min_horizontal("value", 0) if feature.aggregation == "min" else pl.max_horizontal("value", 0)
        is_full = pl.col("n") >= (feature.window_days or 0)
        return found.join(n_days, on=ROW).with_columns(value=pl.when(is_full).then("value").otherwise(zero))


class ExtremeOfFacts(RangeJoin):
    """Extremes of single facts in place of daily totals."""

    def extreme(self, feature: Feature, window: pl.DataFrame) -> pl.DataFrame:
        facts = self.saying(self.live(self.chosen(feature)), feature.value)
        rows = self.window(feature, facts).with_columns(total="said", n_facts=1)
        return super().extreme(feature, rows)


class MeanOverWindow(RangeJoin):
    """Always divides by the length of the window."""

    def n_days(self, feature: Feature) -> pl.Expr:
        return pl.lit(feature.window_days)


class CalendarOfKnownDays(RangeJoin):
    """Always divides by the observed days."""

    def n_days(self, feature: Feature) -> pl.Expr:
        return pl.col("n_observed")


class SinceFirstUncapped(RangeJoin):
    """Days since the first active one are not bounded by the window."""

    def n_days(self, feature: Feature) -> pl.Expr:
        if feature.denominator != "since_first":
            return super().n_days(feature)
        return ((pl.col("origin") - pl.col("first")).dt.total_days() - feature.offset_days).fill_null(0)


class SinceFirstWithoutOffset(RangeJoin):
    """Days since the first active one are counted up to the origin."""

    def n_days(self, feature: Feature) -> pl.Expr:
        if feature.denominator != "since_first":
            return super().n_days(feature)
        since = (pl.col("origin") - pl.col("first")).dt.total_days().fill_null(0)
        return pl.min_horizontal(pl.lit(feature.window_days), since)


class SinceFirstInWindow(RangeJoin):
    """The first active day is looked for in the window only."""

    def first_days(self, feature: Feature) -> pl.DataFrame:
        active = self.window(feature, self.days(feature)).filter(self.is_active())
        return active.group_by(ROW).agg(first=pl.col("event_date").min())


class DeviationOfSample(RangeJoin):
    """n - 1 in place of n."""

    def deviation(self) -> pl.Expr:
        spread = (pl.col("n") * pl.col("squares") - pl.col("total").cast(pl.Int128) ** 2).cast(pl.Float64)
        return (spread / (pl.col("n") * (pl.col("n") - 1))).sqrt().fill_nan(0.0)


class DeviationByFloats(RangeJoin):
    """Mean of squares less square of the mean, in floating point."""

    def deviation(self) -> pl.Expr:
        spread = pl.col("squares") / pl.col("n") - (pl.col("total") / pl.col("n")) ** 2
        return pl.max_horizontal(spread, 0.0).sqrt()


class SquaresOf64Bits(RangeJoin):
    """Squares of totals are summed in 64 bits."""

    def squares(self) -> pl.Expr:
        return pl.col("total") * pl.col("total")


class TotalsOf32Bits(RangeJoin):
    """Totals are kept in 32 bits."""

    def days(self, feature: Feature) -> pl.DataFrame:
        narrow = pl.col("total").cast(pl.Int32, wrap_numerical=True)
        return super().days(feature).with_columns(narrow.cast(pl.Int64))


class LagOfGapIsZero(RangeJoin):
    """A day that nobody observed is a day with 0."""

    def lag(self, feature: Feature) -> pl.DataFrame:
        found = super().lag(feature)
        rows = self.spine.select(ROW).join(found.select(ROW, "value"), on=ROW, how="left")
        return rows.with_columns(pl.col("value").fill_null(0))


class DaysSinceFuture(RangeJoin):
    """The newest active day may lie at the origin or after it."""

    def days_since(self, feature: Feature) -> pl.DataFrame:
        active = self.days(feature).filter(self.is_active())
        age = (pl.col("origin") - pl.col("event_date")).dt.total_days()
        return active.group_by(ROW).agg(value=age.min())


class DaysSinceObserved(RangeJoin):
    """Days since the newest fact, whatever it says."""

    def days_since(self, feature: Feature) -> pl.DataFrame:
        seen = self.days(feature).filter(self.is_observed() & (pl.col("event_date") < pl.col("origin")))
        age = (pl.col("origin") - pl.col("event_date")).dt.total_days()
        return seen.group_by(ROW).agg(value=age.min())


class LastByKnowledge(RangeJoin):
    """The last value heard, not the last that happened."""

    def rank(self) -> tuple[str, ...]:
        return ("knowledge_time", "event_time")


class TiesByFact(RangeJoin):
    """Facts of one event time are not ordered by when they became known."""

    def rank(self) -> tuple[str, ...]:
        return ("event_time",)


class LastSkipsNulls(RangeJoin):
    """A version without a value is passed over for an older one."""

    def last(self, feature: Feature) -> pl.DataFrame:
        self_joined = self.joined
        self.joined = self_joined.filter(pl.col(feature.value or "").is_not_null())
        try:
            return super().last(feature)
        finally:
            self.joined = self_joined


class FutureCounts(RangeJoin):
    """A value holds as soon as it is known, before its event time."""

    def live(self, rows: pl.DataFrame) -> pl.DataFrame:
        versions = rows.filter(pl.col("posting_kind") == "version")
        reversals = rows.filter(pl.col("posting_kind") == "reversal")
        return versions.join(reversals, on=[ROW, *self.question.fact_key, "version_nr"], how="anti")


class OldVersionsReturn(RangeJoin):
    """A superseded version holds until its successor's event time has come."""

    def live(self, rows: pl.DataFrame) -> pl.DataFrame:
        # Of each fact the newest version that has happened; the fact is gone only if that one was retracted.
        happened = rows.filter((pl.col("posting_kind") == "version") & (pl.col("event_time") <= pl.col("as_of")))
        fact = [ROW, *self.question.fact_key]
        newest = happened.sort("version_nr").group_by(fact, maintain_order=True).last()
        versions = rows.filter(pl.col("posting_kind") == "version").group_by(fact).agg(n=pl.len())
        reversals = rows.filter(pl.col("posting_kind") == "reversal").group_by(fact).agg(n_back=pl.len())
        counts = versions.join(reversals, on=fact, how="left")
        standing = counts.filter(pl.col("n") > pl.col("n_back").fill_null(0))
        return newest.join(standing, on=fact, how="semi").select(rows.columns)


class TimeToLiveOfKnowledge(RangeJoin):
    """The age of a value counts from when it became known."""

    def is_fresh(self, feature: Feature) -> pl.Expr:
        if feature.time_to_live_days is None:
            return pl.lit(True)
        return pl.col("as_of") - pl.col("knowledge_time") <= timedelta(days=feature.time_to_live_days)


class TimeToLiveExclusive(RangeJoin):
    """A value that is exactly as old as it may be is gone."""

    def is_fresh(self, feature: Feature) -> pl.Expr:
        if feature.time_to_live_days is None:
            return pl.lit(True)
        return pl.col("as_of") - pl.col("event_time") < timedelta(days=feature.time_to_live_days)


class OldNewsDropped(RangeJoin):
    """Only what became known last is looked at."""

    def live(self, rows: pl.DataFrame) -> pl.DataFrame:
        newest = pl.col("knowledge_time").max().over(ROW)
        return super().live(rows).filter(pl.col("knowledge_time") == newest)


class RatioOfZeroIsZero(RangeJoin):
    """Nothing over nothing is 0."""

    def ratio(self, feature: Feature) -> pl.Expr:
        above = pl.col(str(feature.numerator))
        return (
            pl.when((pl.col(str(feature.denominator_feature)) == 0) & (above == 0))
            .then(0.0)
            .otherwise(super().ratio(feature))
        )


class RatioOfNullIsZero(RangeJoin):
    """A missing numerator is 0."""

    def ratio(self, feature: Feature) -> pl.Expr:
        below = pl.col(str(feature.denominator_feature))
        return pl.when(below != 0).then(pl.col(str(feature.numerator)).fill_null(0) / below)


def all_mutants() -> tuple[type[RangeJoin], ...]:
    """Every seeded fault of this module."""
    return tuple(each for each in RangeJoin.__subclasses__() if each.__module__ == __name__)
