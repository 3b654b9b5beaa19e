"""Ledgers as gold keeps them, summed by day of knowledge, and questions that such sums can answer.

A batch of histories becomes one that is asked at cut-offs, without filters and latest values. What needs the facts that
name a value is asked only where every fact names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from replenish.features.definitions.model import FeatureSet
from replenish.features.offline.evaluator import evaluate
from tests.oracle.compare import Batch, judged
from tests.oracle.evaluators import ROWS_AT_ONCE, SOURCE, feature_set_of
from tests.oracle.frames import ENTITY
from tests.oracle.histories import History, Setting
from tests.oracle.known_at import FACT_KINDS, Feature, cutoff_instant, origin_date
from tests.oracle.range_join import ROW, Evaluator, Question, RangeJoin

SUMMED = ("units", "cents", "is_promotion")
"""Columns of the sums; `is_promotion` is never null."""


def increments_of(ledger: pl.DataFrame, kinds: Sequence[str]) -> pl.DataFrame:
    """Signed sums of the generic ledger per entity, event date and knowledge date, without rows that change nothing.

    The rule is that of dbt's `fct_demand`: amounts over the kinds that the source takes, lines over the kinds of facts.
    """
    sign, kind = pl.col("posting_sign").cast(pl.Int64), pl.col("posting_kind")
    taken = pl.when(kind.is_in(kinds)).then(sign).otherwise(0)
    sums = ledger.group_by(*ENTITY, "event_date", "knowledge_date").agg(
        *[(taken * pl.col(name).cast(pl.Int64)).sum().alias(name) for name in SUMMED],
        lines=sign.filter(kind.is_in(FACT_KINDS)).sum(),
    )
    return sums.filter(pl.any_horizontal(pl.col(*SUMMED, "lines") != 0))


def asked_of_increments(batch: Batch) -> Batch:
    """The batch asked at cut-offs, with the features that sums can answer; nulls become 0 under even seeds."""
    has_nulls = batch.seed % 2 == 1
    histories = [_at_cutoffs(history, batch.setting) for history in batch.histories]
    if not has_nulls:
        histories = [_without_nulls(history) for history in histories]
    return judged(batch.seed, batch.setting, tuple(_answerable(batch.features, has_nulls)), histories)


def _at_cutoffs(history: History, setting: Setting) -> History:
    zone, cutoff = setting.zone, setting.cutoff
    origins = ((entity, origin_date(as_of, zone, cutoff)) for entity, as_of in history.spine)
    return replace(history, spine=tuple((entity, cutoff_instant(day, zone, cutoff)) for entity, day in origins))


def _without_nulls(history: History) -> History:
    def filled(values: dict[str, Any]) -> dict[str, Any]:
        return values | {name: values[name] or 0 for name in ("units", "cents")}

    statements = tuple(replace(said, values=filled(said.values)) for said in history.statements)
    cancellations = tuple(replace(each, values=filled(each.values)) for each in history.cancellations)
    return replace(history, statements=statements, cancellations=cancellations)


def _answerable(features: Sequence[Feature], has_nulls: bool) -> Iterator[Feature]:
    kept: set[str] = set()
    for feature in features:
        if feature.aggregation == "ratio":
            is_kept = {feature.numerator, feature.denominator_feature} <= kept
        else:
            needs_facts = feature.aggregation in ("count", "min", "max") or feature.denominator == "observed"
            is_sure = feature.value in (None, "is_promotion") or (feature.value in SUMMED and not has_nulls)
            is_kept = feature.aggregation != "last" and feature.value != "channel" and (is_sure or not needs_facts)
        if is_kept:
            kept.add(feature.name)
            yield replace(feature, where=None)


def set_of_increments(question: Question) -> FeatureSet:
    """The question's features over a source of increments."""
    asked = feature_set_of(replace(question, clock="daily"))
    (source,) = asked.sources
    columns = tuple(column for column in source.columns if column.name in SUMMED)
    return replace(asked, sources=(replace(source, columns=columns, grain="increments", lines="lines"),))


def offline_of_increments(question: Question) -> pl.DataFrame:
    """The offline evaluator over increments, in one piece."""
    ledgers = {SOURCE: increments_of(question.ledger, question.kinds)}
    return evaluate(set_of_increments(question), question.spine, ledgers, question.zone, question.cutoff)


def offline_of_increments_in_parts(question: Question) -> pl.DataFrame:
    """The offline evaluator over lazy increments, by small partitions of entities."""
    ledgers = {SOURCE: increments_of(question.ledger, question.kinds).lazy()}
    features, zone, cutoff = set_of_increments(question), question.zone, question.cutoff
    return evaluate(features, question.spine, ledgers, zone, cutoff, rows_at_once=ROWS_AT_ONCE // 3)


class IncrementJoin(RangeJoin):
    """The naive peer over increments: each spine row joined with every row of its entity."""

    def postings(self, ledger: pl.DataFrame) -> pl.DataFrame:
        rows = self.summed(self.told(ledger))
        return rows.with_columns(knowledge_time=self.known_at())

    def told(self, ledger: pl.DataFrame) -> pl.DataFrame:
        return ledger

    def summed(self, ledger: pl.DataFrame) -> pl.DataFrame:
        return increments_of(ledger, self.question.kinds)

    def known_at(self) -> pl.Expr:
        return self.cutoff_of(pl.col("knowledge_date"))

    def lines(self) -> pl.Expr:
        return pl.col("lines")

    def days(self, feature: Feature) -> pl.DataFrame:
        total = pl.lit(0, pl.Int64) if feature.value is None else pl.col(feature.value)
        rows = self.joined.with_columns(said=total)
        return rows.group_by(ROW, "origin", "event_date").agg(total=pl.col("said").sum(), n_facts=self.lines().sum())


class KnownADayLater(IncrementJoin):
    """What a knowledge date brings counts from the next cut-off on."""

    def known_at(self) -> pl.Expr:
        return self.cutoff_of(pl.col("knowledge_date").dt.offset_by("1d"))


class KnownADayEarlier(IncrementJoin):
    """The leak: a knowledge date counts from the cut-off before it, when its postings were still to come."""

    def known_at(self) -> pl.Expr:
        return self.cutoff_of(pl.col("knowledge_date").dt.offset_by("-1d"))


class KnownOnTheDate(IncrementJoin):
    """The leak: the knowledge date is the local date of the knowledge time, also of what came after that cut-off."""

    def told(self, ledger: pl.DataFrame) -> pl.DataFrame:
        local = pl.col("knowledge_time").dt.convert_time_zone(self.question.zone)
        return ledger.with_columns(knowledge_date=local.dt.date())


class KnownWhenItHappened(IncrementJoin):
    """The leak: increments are taken for totals of event dates, known when the date is over."""

    def known_at(self) -> pl.Expr:
        return self.cutoff_of(pl.col("event_date").dt.offset_by("1d"))


class NewestIncrementOnly(IncrementJoin):
    """An increment is taken for the new state of its date, which replaces the one before."""

    def visible(self, joined: pl.DataFrame) -> pl.DataFrame:
        rows = super().visible(joined)
        newest = pl.col("knowledge_date").max().over(ROW, *ENTITY, "event_date")
        return rows.filter(pl.col("knowledge_date") == newest)


class FallsIgnored(IncrementJoin):
    """Units taken back are no sale, so their rows are dropped."""

    def summed(self, ledger: pl.DataFrame) -> pl.DataFrame:
        return super().summed(ledger).filter(pl.col("units") >= 0)


class SilentLinesDropped(IncrementJoin):
    """Rows without a change of any amount are left out, although they change the number of facts."""

    def summed(self, ledger: pl.DataFrame) -> pl.DataFrame:
        return super().summed(ledger).filter(pl.any_horizontal(pl.col(*SUMMED) != 0))


class LinesAreRows(IncrementJoin):
    """Each row counts as one fact."""

    def lines(self) -> pl.Expr:
        return pl.col("lines") * 0 + 1


class LinesIgnored(IncrementJoin):
    """A day is observed only by its total."""

    def is_observed(self) -> pl.Expr:
        return pl.col("total") != 0


class LinesAddedOnly(IncrementJoin):
    """Facts taken back stay counted."""

    def lines(self) -> pl.Expr:
        return pl.col("lines").clip(lower_bound=0)


class CancelledLinesGo(IncrementJoin):
    """A cancellation takes the line back too, and a return is a line less."""

    def summed(self, ledger: pl.DataFrame) -> pl.DataFrame:
        sums = super().summed(ledger).drop("lines")
        taken = ledger.filter(pl.col("posting_kind").is_in(self.question.kinds))
        keys = [*ENTITY, "event_date", "knowledge_date"]
        lines = taken.group_by(keys).agg(lines=pl.col("posting_sign").cast(pl.Int64).sum())
        return sums.join(lines, on=keys, how="left").with_columns(pl.col("lines").fill_null(0))


class KindsOfFactsOnly(IncrementJoin):
    """Cancellations and returns are left out of the sums, although the source takes them."""

    def summed(self, ledger: pl.DataFrame) -> pl.DataFrame:
        return increments_of(ledger, FACT_KINDS)


class EveryKind(IncrementJoin):
    """Postings of kinds that the source does not take are summed too."""

    def summed(self, ledger: pl.DataFrame) -> pl.DataFrame:
        return increments_of(ledger, (*FACT_KINDS, "cancellation", "return"))


INCREMENT_EVALUATORS: dict[str, Evaluator] = {
    "increment_join": IncrementJoin.answer,
    "offline_of_increments": offline_of_increments,
    "offline_of_increments_in_parts": offline_of_increments_in_parts,
}


def increment_mutants() -> tuple[type[IncrementJoin], ...]:
    """Every seeded fault of this module."""
    return tuple(IncrementJoin.__subclasses__())
