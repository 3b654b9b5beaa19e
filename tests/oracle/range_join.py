"""A second naive evaluator: each spine row joined with every posting of its entity, then filtered and grouped (polars).

Far too slow for use, and written without a look at the platform's evaluators, so it is their peer: three answers to one
question. Each rule is a method, so that a mutant can break one of them (see `mutants`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import time, timedelta

import polars as pl

from replenish.bitemporal import origin_instant_expr
from tests.oracle.known_at import FACT_KINDS, WHOLE, Feature

ROW = "_row"


@dataclass(frozen=True)
class Question:
    """What an evaluator is asked: features of a spine (`entity` columns and `as_of`) over one ledger of postings."""

    features: tuple[Feature, ...]
    spine: pl.DataFrame
    ledger: pl.DataFrame
    entity: tuple[str, ...]
    fact_key: tuple[str, ...]
    zone: str
    cutoff: time
    kinds: tuple[str, ...] = FACT_KINDS
    clock: str = "instant"


Evaluator = Callable[[Question], pl.DataFrame]
"""Gives the spine's rows in their order, with a column per feature."""


class RangeJoin:
    """Answers a question by the definitions."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.spine = question.spine.with_row_index(ROW).with_columns(origin=self.origin())
        self.joined = self.visible(self.join(self.spine, self.postings(question.ledger)))
        self._days: dict[object, pl.DataFrame] = {}

    @classmethod
    def answer(cls, question: Question) -> pl.DataFrame:
        """The evaluator as a function."""
        return cls(question).values()

    def values(self) -> pl.DataFrame:
        features = self.question.features
        columns = {f.name: self.value(f) for f in features if f.aggregation != "ratio"}
        frame = self.question.spine.with_columns(**columns)
        for feature in features:
            if feature.aggregation == "ratio":
                frame = frame.with_columns(self.ratio(feature).alias(feature.name))
        return frame.select(*self.question.spine.columns, *[f.name for f in features])

    # What is visible from where.

    def postings(self, ledger: pl.DataFrame) -> pl.DataFrame:
        return ledger

    def join(self, spine: pl.DataFrame, ledger: pl.DataFrame) -> pl.DataFrame:
        return spine.join(ledger, on=list(self.question.entity), how="inner")

    def visible(self, joined: pl.DataFrame) -> pl.DataFrame:
        return joined.filter(pl.col("knowledge_time") <= pl.col("as_of"))

    def origin(self) -> pl.Expr:
        """The newest of the dates around `as_of` whose cut-off has passed."""
        local = pl.col("as_of").dt.convert_time_zone(self.question.zone).dt.date()
        days = [local.dt.offset_by(f"{n}d") for n in (-2, -1, 0, 1)]
        passed = [pl.when(self.cutoff_of(day) <= pl.col("as_of")).then(day) for day in days]
        return pl.max_horizontal(passed)

    def cutoff_of(self, day: pl.Expr) -> pl.Expr:
        return origin_instant_expr(day, self.question.zone, self.question.cutoff)

    # Days.

    def chosen(self, feature: Feature) -> pl.DataFrame:
        if feature.where is None:
            return self.joined
        column, wanted = feature.where
        return self.joined.filter(pl.col(column) == wanted)

    def saying(self, rows: pl.DataFrame, value: str | None) -> pl.DataFrame:
        """Postings that the source takes and that say something, with `said`."""
        rows = rows.filter(pl.col("posting_kind").is_in(self.question.kinds))
        if value is None:
            return rows.with_columns(said=pl.lit(0, pl.Int64))
        rows = rows.filter(pl.col(value).is_not_null())
        # A text can be counted, not summed.
        is_text = rows.schema[value] == pl.String
        return rows.with_columns(said=pl.lit(0, pl.Int64) if is_text else pl.col(value).cast(pl.Int64))

    def days(self, feature: Feature) -> pl.DataFrame:
        """`total` and `n_facts` of every (spine row, event date) that occurs."""
        key = (feature.where, feature.value)
        if key not in self._days:
            rows = self.saying(self.chosen(feature), feature.value)
            sign = pl.col("posting_sign").cast(pl.Int64)
            sums = {"total": (sign * pl.col("said")).sum(), "n_facts": sign.filter(self.is_counted()).sum()}
            self._days[key] = rows.group_by(ROW, "origin", "event_date").agg(**sums)
        return self._days[key]

    def is_counted(self) -> pl.Expr:
        return pl.col("posting_kind").is_in(FACT_KINDS)

    def is_active(self) -> pl.Expr:
        return pl.col("total") != 0

    def is_observed(self) -> pl.Expr:
        return (pl.col("n_facts") != 0) | (pl.col("total") != 0)

    def window(self, feature: Feature, days: pl.DataFrame) -> pl.DataFrame:
        age = (pl.col("origin") - pl.col("event_date")).dt.total_days() - feature.offset_days
        return days.filter((age >= 1) & (age <= (feature.window_days or 0)))

    # Values.

    def value(self, feature: Feature) -> pl.Series:
        if feature.aggregation == "last":
            found = self.last(feature)
        elif feature.aggregation == "lag":
            found = self.lag(feature)
        elif feature.aggregation in ("days_since", "days_since_first"):
            found = self.days_since(feature)
        else:
            found = self.windowed(feature)
        column = self.per_row(found, feature.name)
        if feature.aggregation in ("sum", "count", "count_nonzero"):
            column = column.fill_null(0)
        return column.cast(pl.Int64) if feature.aggregation in WHOLE else column

    def per_row(self, found: pl.DataFrame, name: str) -> pl.Series:
        """Column `value` of some spine rows as a column of all."""
        rows = self.spine.select(ROW).join(found.select(ROW, "value"), on=ROW, how="left", maintain_order="left")
        return rows["value"].alias(name)

    def windowed(self, feature: Feature) -> pl.DataFrame:
        window = self.window(feature, self.days(feature))
        expressions = {
            "sum": pl.col("total").sum(),
            "count": pl.col("n_facts").sum(),
            "count_nonzero": self.is_active().sum(),
        }
        if feature.aggregation in expressions:
            return window.group_by(ROW).agg(value=expressions[feature.aggregation])
        if feature.aggregation in ("min", "max"):
            return self.extreme(feature, window)
        return self.moment(feature, window)

    def extreme(self, feature: Feature, window: pl.DataFrame) -> pl.DataFrame:
        total = pl.col("total").min() if feature.aggregation == "min" else pl.col("total").max()
        return window.filter(self.is_observed()).group_by(ROW).agg(value=total)

    def moment(self, feature: Feature, window: pl.DataFrame) -> pl.DataFrame:
        sums = window.group_by(ROW).agg(
            total=pl.col("total").sum(), squares=self.squares().sum(), n_observed=self.is_observed().sum()
        )
        rows = self.spine.select(ROW, "origin").join(sums, on=ROW, how="left")
        rows = rows.join(self.first_days(feature), on=ROW, how="left").with_columns(
            pl.col("total", "squares", "n_observed").fill_null(0), n=pl.lit(0)
        )
        rows = rows.with_columns(n=self.n_days(feature).cast(pl.Int64)).filter(pl.col("n") > 0)
        return rows.with_columns(value=self.mean() if feature.aggregation == "mean" else self.deviation())

    def first_days(self, feature: Feature) -> pl.DataFrame:
        active = self.days(feature).filter(self.is_active())
        return active.group_by(ROW).agg(first=pl.col("event_date").min())

    def n_days(self, feature: Feature) -> pl.Expr:
        width = pl.lit(feature.window_days)
        if feature.denominator == "observed":
            return pl.col("n_observed")
        if feature.denominator == "since_first":
            since = (pl.col("origin") - pl.col("first")).dt.total_days() - feature.offset_days
            return pl.min_horizontal(width, since.fill_null(0))
        return width

    def mean(self) -> pl.Expr:
        return pl.col("total") / pl.col("n")

    def squares(self) -> pl.Expr:
        return pl.col("total").cast(pl.Int128) ** 2

    def deviation(self) -> pl.Expr:
        spread = pl.col("n").cast(pl.Int128) * pl.col("squares") - pl.col("total").cast(pl.Int128) ** 2
        return spread.cast(pl.Float64).sqrt() / pl.col("n")

    def lag(self, feature: Feature) -> pl.DataFrame:
        back = timedelta(days=feature.lag_days or 0)
        wanted = self.spine.select(ROW, event_date=pl.col("origin") - back)
        rows = wanted.join(self.days(feature), on=[ROW, "event_date"], how="left")
        if feature.denominator == "observed":
            return rows.filter(self.is_observed()).with_columns(value="total")
        return rows.with_columns(value=pl.col("total").fill_null(0))

    def days_since(self, feature: Feature) -> pl.DataFrame:
        active = self.days(feature).filter(self.is_active() & (pl.col("event_date") < pl.col("origin")))
        age = (pl.col("origin") - pl.col("event_date")).dt.total_days()
        return active.group_by(ROW).agg(value=age.min() if feature.aggregation == "days_since" else age.max())

    def last(self, feature: Feature) -> pl.DataFrame:
        rows = self.live(self.chosen(feature))
        rest = [c for c in self.question.fact_key if c not in self.question.entity]
        order = [ROW, *self.rank(), *rest, "version_nr"]
        newest = rows.sort(order).group_by(ROW, maintain_order=True).last()
        return newest.filter(self.is_fresh(feature)).with_columns(value=pl.col(feature.value or ""))

    def rank(self) -> tuple[str, ...]:
        return ("event_time", "knowledge_time")

    def live(self, rows: pl.DataFrame) -> pl.DataFrame:
        versions = rows.filter((pl.col("posting_kind") == "version") & (pl.col("event_time") <= pl.col("as_of")))
        reversals = rows.filter(pl.col("posting_kind") == "reversal")
        identity = [ROW, *self.question.fact_key, "version_nr"]
        return versions.join(reversals, on=identity, how="anti")

    def is_fresh(self, feature: Feature) -> pl.Expr:
        if feature.time_to_live_days is None:
            return pl.lit(True)
        return pl.col("as_of") - pl.col("event_time") <= timedelta(days=feature.time_to_live_days)

    def ratio(self, feature: Feature) -> pl.Expr:
        below = pl.col(str(feature.denominator_feature))
        return pl.when(below != 0).then(pl.col(str(feature.numerator)) / below)


def features_named(features: Sequence[Feature], names: Sequence[str]) -> tuple[Feature, ...]:
    """Some features, with those that their ratios need."""
    wanted = set(names)
    # A ratio stands after its parts.
    for feature in reversed(features):
        if feature.name in wanted:
            wanted |= {str(feature.numerator), str(feature.denominator_feature)}
    return tuple(f for f in features if f.name in wanted)
