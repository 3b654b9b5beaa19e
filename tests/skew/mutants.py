"""Bugs that make features leak or skew, each with the check that has to see it before a release.

They are put into the platform's own code, definitions, ledgers and states, unlike the mutants of the oracle, which
break a peer written for that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from replenish.bitemporal_windows import Window
from replenish.features.definitions.model import FeatureDefinition, FeatureSet, FeatureTarget, KnownFutureColumn
from replenish.features.offline import evaluator, measure_features, measures
from replenish.features.offline.daily_changes import NEVER
from replenish.features.offline.query_axis import CutoffCalendar
from replenish.features.online import entity_state, feature_twin
from replenish.features.online.cutoff_clock import CutoffClock
from replenish.features.online.day_totals import DayTotals
from replenish.features.online.entity_state import EntityState
from replenish.features.online.latest_candidates import LatestCandidates
from tests.oracle.range_join import Question
from tests.skew.checks import INSTANTS, LAST, ROWS, Workbench
from tests.unit.features.offline.oracle_question import answered
from tests.unit.features.reconciliation.served_world import SET, ZONE, Answer, served

Inject = Callable[[Workbench, pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class SkewMutant:
    """A bug, and the name of the check that catches it."""

    name: str
    check: str
    inject: Inject


MUTANTS: list[SkewMutant] = []


def caught_by(check: str) -> Callable[[Inject], Inject]:
    """Register a bug under its function's name."""

    def register(inject: Inject) -> Inject:
        MUTANTS.append(SkewMutant(inject.__name__, check, inject))
        return inject

    return register


# The offline evaluator: what models are trained on.


def _postings_changed(patch: pytest.MonkeyPatch, **columns: pl.Expr) -> None:
    right = measures._measure_postings

    def changed(ledger: pl.DataFrame, *rest: Any) -> Any:
        return right(ledger.with_columns(**columns), *rest)

    patch.setattr(measures, "_measure_postings", changed)


def _window_changed(patch: pytest.MonkeyPatch, change: Callable[[FeatureDefinition, Window], Window]) -> None:
    right = measure_features.feature_window
    patch.setattr(measure_features, "feature_window", lambda feature: change(feature, right(feature)))


@caught_by("future_shift")
def days_are_joined_by_event_time(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    long_ago = pl.lit(datetime(1980, 1, 1, tzinfo=UTC), pl.Datetime("us", "UTC"))
    _postings_changed(patch, knowledge_time=long_ago)


@caught_by("future_shift")
def latest_values_are_joined_by_event_time(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    right = evaluator.latest_versions

    def by_event_time(axis: Any, ledger: pl.DataFrame, **options: Any) -> Any:
        return right(axis, ledger.with_columns(knowledge_time=pl.col("event_time")), **options)

    patch.setattr(evaluator, "latest_versions", by_event_time)


@caught_by("oracle_comparison")
def retracted_versions_live_on(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    def never(ledger: pl.DataFrame, is_version: pl.Series, identity: Any) -> Any:
        return np.full(int(is_version.sum()), NEVER, dtype=np.int64)

    patch.setattr("replenish.features.offline.latest_version.version_stops", never)


@caught_by("oracle_comparison")
def reversals_add(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    _postings_changed(patch, posting_sign=pl.col("posting_sign").abs())


@caught_by("oracle_comparison")
def cutoffs_are_of_utc(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    right = CutoffCalendar.around
    patch.setattr(CutoffCalendar, "around", lambda oldest, newest, zone, cutoff: right(oldest, newest, "UTC", cutoff))


@caught_by("oracle_comparison")
def days_begin_at_midnight(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    right = CutoffCalendar.around
    patch.setattr(CutoffCalendar, "around", lambda oldest, newest, zone, cutoff: right(oldest, newest, zone, time(0)))


@caught_by("oracle_comparison")
def the_cutoff_instant_is_of_the_day_before(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    def exclusive(self: CutoffCalendar, instant: Any) -> Any:
        return self.first_day + np.searchsorted(self.instants, instant, side="left") - 1

    patch.setattr(CutoffCalendar, "origin_of", exclusive)


@caught_by("oracle_comparison")
def windows_hold_the_day_of_the_label(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    # A window that ends at t is refused by itself, so the day t itself is a day late.
    right = CutoffCalendar.origin_of
    patch.setattr(CutoffCalendar, "origin_of", lambda self, instant: right(self, instant) + 1)


@caught_by("oracle_comparison")
def windows_are_a_day_too_long(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    _window_changed(patch, lambda _, window: Window(window.first, window.last + 1))


@caught_by("oracle_comparison")
def offsets_are_ignored(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    _window_changed(patch, lambda f, window: Window(window.first - f.offset_days, window.last - f.offset_days))


@caught_by("oracle_comparison")
def filters_are_ignored(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(measures, "is_wanted", lambda where: pl.lit(True))


@caught_by("oracle_comparison")
def old_values_never_expire(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    right = evaluator._latest_value
    patch.setattr(evaluator, "_latest_value", lambda *of: right(*of[:3], replace(of[3], time_to_live_days=None)))


@caught_by("oracle_comparison")
def means_divide_by_the_calendar(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    def calendar(self: Any, feature: FeatureDefinition) -> Any:
        return np.full(len(self._axis), feature.window_days or 0, dtype=np.int64)

    patch.setattr(measure_features.MeasureFeatures, "_n_days", calendar)


@caught_by("oracle_comparison")
def the_join_forgets_the_location(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    def fanned_out(question: Question) -> pl.DataFrame:
        if "location_id" not in question.entity:
            return answered(question)
        places = question.spine.select("sku_id", "location_id").unique()
        ledger = question.ledger.drop("location_id").join(places, on="sku_id").select(question.ledger.columns)
        return answered(replace(question, ledger=ledger))

    bench.evaluator = fanned_out


# The online twin: what is served. Other code, other freshness, other preprocessing.


def _answers(change: Callable[[Answer], Answer]) -> Callable[[], list[Answer]]:
    return lambda: [change(served(ROWS, sku, seq=LAST, as_of=as_of)) for sku in ("A", "B") for as_of in INSTANTS]


def _serving(**fault: Any) -> Callable[[], list[Answer]]:
    rows = fault.pop("rows", ROWS)
    return lambda: [served(rows, sku, seq=LAST, as_of=as_of, **fault) for sku in ("A", "B") for as_of in INSTANTS]


@caught_by("served_equals_offline")
def the_twin_lives_in_utc(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    right = CutoffClock.__init__
    patch.setattr(CutoffClock, "__init__", lambda self, zone, cutoff: right(self, "UTC", cutoff))


@caught_by("served_equals_offline")
def the_twins_days_begin_at_midnight(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    right = CutoffClock.__init__
    patch.setattr(CutoffClock, "__init__", lambda self, zone, cutoff: right(self, zone, time(0)))


@caught_by("served_equals_offline")
def the_twin_counts_what_nobody_knows_yet(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EntityState, "apply", lambda self, posting: self._post(posting))


@caught_by("served_equals_offline")
def the_twins_totals_forget_reversals(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    right = entity_state._change
    patch.setattr(entity_state, "_change", lambda measure, p: (0, 0) if p.kind == "reversal" else right(measure, p))


@caught_by("served_equals_offline")
def the_twins_latest_value_survives_its_reversal(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    right = LatestCandidates.add
    patch.setattr(
        LatestCandidates, "add", lambda self, p, as_of: None if p.kind == "reversal" else right(self, p, as_of)
    )


@caught_by("served_equals_offline")
def the_twins_latest_value_is_the_one_known_last(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    def known_last(self: Any) -> Any:
        if not self._alive:
            return None
        event_us, _, fact, version_nr = max(self._alive, key=lambda rank: rank[1])
        return event_us, self._versions[fact, version_nr][1]

    patch.setattr(LatestCandidates, "latest", known_last)


def _statistics(patch: pytest.MonkeyPatch, first_by: int, last_by: int) -> None:
    right = DayTotals.statistics
    patch.setattr(
        DayTotals, "statistics", lambda self, names, first, last: right(self, names, first + first_by, last + last_by)
    )


@caught_by("served_equals_offline")
def the_twins_windows_are_a_day_too_long(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    _statistics(patch, 0, 1)


@caught_by("served_equals_offline")
def the_twins_windows_lack_yesterday(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    _statistics(patch, 1, 0)


@caught_by("served_equals_offline")
def the_twin_divides_whole_numbers(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(entity_state, "_ratio", lambda above, below: float(above // below) if below else None)


@caught_by("served_equals_offline")
def values_are_served_under_their_neighbours_names(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    def turned(answer: Answer) -> Answer:
        names = [*list(answer.values)[1:], next(iter(answer.values))]
        return replace(answer, values=dict(zip(names, answer.values.values(), strict=True)))

    bench.answers = _answers(turned)


@caught_by("served_equals_offline")
def nulls_are_served_as_zero(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    right = feature_twin.FeatureTwin.answer

    def filled(self: Any, key: Any, now: datetime) -> Any:
        answer = right(self, key, now)
        return answer._replace(values=tuple(0 if value is None else value for value in answer.values))

    patch.setattr(feature_twin.FeatureTwin, "answer", filled)


@caught_by("served_equals_offline")
def values_are_served_rounded(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    def rounded(answer: Answer) -> Answer:
        values = {n: round(v, 2) if isinstance(v, float) else v for n, v in answer.values.items()}
        return replace(answer, values=values)

    bench.answers = _answers(rounded)


@caught_by("served_equals_offline")
def a_feature_is_not_served(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    bench.answers = _answers(lambda a: replace(a, values={n: v for n, v in a.values.items() if n != "units_lag_1"}))


@caught_by("served_equals_offline")
def another_keys_vector_is_served(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    bench.answers = _answers(lambda answer: replace(answer, key=("B",) if answer.key == ("A",) else ("A",)))


@caught_by("served_equals_offline")
def yesterdays_vector_is_served(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    bench.answers = lambda: [
        served(ROWS, sku, seq=LAST, as_of=as_of, stands_at=as_of - timedelta(days=1))
        for sku in ("A", "B")
        for as_of in INSTANTS
    ]


@caught_by("served_equals_offline")
def a_snapshot_is_served_without_catching_up(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    bench.answers = _serving(fed_through=36)


@caught_by("served_equals_offline")
def the_twin_reads_euros_for_cents(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    bench.answers = _serving(rows=ROWS.with_columns(amount_cents=pl.col("amount_cents") // 100))


@caught_by("served_equals_offline")
def the_twin_reads_another_column(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    bench.answers = _serving(rows=ROWS.with_columns(units=pl.col("line_nr")))


@caught_by("served_equals_offline")
def the_twin_dates_sales_in_its_zone(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    local = pl.col("event_time").dt.convert_time_zone(ZONE).dt.date()
    bench.answers = _serving(rows=ROWS.with_columns(event_date=local))


@caught_by("served_equals_offline")
def the_twin_serves_definitions_that_nobody_recorded(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    longer = replace(SET.features[0], window_days=9)
    bench.answers = _serving(feature_set=replace(SET, features=(longer, *SET.features[1:])))


# Definitions: what both are made from.


def _with_feature(feature_set: FeatureSet, name: str, **fields: Any) -> FeatureSet:
    features = tuple(replace(f, **fields) if f.name == name else f for f in feature_set.features)
    return replace(feature_set, features=features)


def _with_column(feature_set: FeatureSet, source: str, name: str, **fields: Any) -> FeatureSet:
    def changed(each: Any) -> Any:
        columns = tuple(replace(c, **fields) if c.name == name else c for c in each.columns)
        return replace(each, columns=columns) if each.name == source else each

    return replace(feature_set, sources=tuple(map(changed, feature_set.sources)))


@caught_by("leak_guard")
def a_lag_reads_the_label(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    bench.feature_set = _with_feature(bench.feature_set, "units_lag_1", lag_days=0)


@caught_by("leak_guard")
def a_window_ends_after_the_origin(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    bench.feature_set = _with_feature(bench.feature_set, "units_sum__7", offset_days=-1)


@caught_by("leak_guard")
def the_targets_period_begins_inside_a_window(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    target = FeatureTarget("demand", "sales", "units", 28, first_day=-3)
    bench.feature_set = replace(bench.feature_set, targets=(target,))


@caught_by("leak_guard")
def the_newest_sale_is_a_feature(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    newest = FeatureDefinition("newest_sale", "last", "units", "", source="sales", value="units")
    bench.feature_set = replace(bench.feature_set, features=(*bench.feature_set.features, newest))


@caught_by("known_future")
def a_planned_price_is_read_undeclared(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    columns = tuple(c for c in bench.feature_set.known_future if c.name != "price_now")
    bench.feature_set = replace(bench.feature_set, known_future=columns)


@caught_by("known_future")
def actual_sales_are_declared_as_planned(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    column = KnownFutureColumn("units_sum__7", "sales.units", "units", "")
    bench.feature_set = replace(bench.feature_set, known_future=(*bench.feature_set.known_future, column))


@caught_by("source_mapping")
def cents_are_called_units(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    bench.feature_set = _with_column(bench.feature_set, "sales", "cents", unit="units")


@caught_by("source_mapping")
def a_column_is_read_that_the_contract_has_not(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    bench.feature_set = _with_column(bench.feature_set, "sales", "units", from_column="qty")


@caught_by("recorded_definitions")
def a_column_is_read_from_another_one(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    bench.feature_set = _with_column(bench.feature_set, "sales", "cents", from_column="unit_price_cents")


@caught_by("recorded_definitions")
def a_window_grows_under_the_same_version(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    bench.feature_set = _with_feature(bench.feature_set, "units_sum__7", window_days=8)


@caught_by("recorded_definitions")
def a_new_version_is_not_recorded(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    bench.feature_set = replace(_with_feature(bench.feature_set, "units_sum__7", window_days=8), version="1.1.0")


@caught_by("one_meaning")
def another_set_gives_a_name_another_meaning(bench: Workbench, patch: pytest.MonkeyPatch) -> None:
    other = _with_feature(bench.feature_set, "units_mean__28", denominator="calendar")
    bench.others = (replace(other, name="other"),)
