"""The oracle's questions put to the panel evaluator: batches that are asked at cut-offs only, over a whole grid."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta

import polars as pl

from replenish.features.panel.evaluator import evaluate_panel
from replenish.features.panel.grid import PanelGrid
from tests.oracle.compare import Batch, judged
from tests.oracle.histories import History, Setting, entities
from tests.oracle.known_at import cutoff_instant, origin_date
from tests.oracle.range_join import Question
from tests.unit.features.offline.oracle_question import feature_set_of


def at_cutoffs(history: History, setting: Setting, number: int, n_origins: int) -> History:
    """The history, asked about each of its entities at the cut-offs of `n_origins` dates around its middle."""
    first = setting.centre - timedelta(days=n_origins // 2)
    days = [first + timedelta(days=nr) for nr in range(n_origins)]
    named = dict.fromkeys(entity[: setting.n_entity] for entity in entities(number))
    wholes = [(*entity, "x")[:2] for entity in named]
    return replace(
        history, spine=tuple((key, cutoff_instant(day, setting.zone, setting.cutoff)) for key in wholes for day in days)
    )


def gridded(batch: Batch, n_origins: int, n_histories: int) -> Batch:
    """The first histories of a batch over a full grid, with the oracle's answers."""
    histories = [
        at_cutoffs(history, batch.setting, number, n_origins)
        for number, history in enumerate(batch.histories[:n_histories])
    ]
    return judged(batch.seed, batch.setting, batch.features, histories)


def grid_of(question: Question) -> PanelGrid:
    """The smallest grid that holds a spine of cut-offs."""
    instants: list[datetime] = question.spine["as_of"].unique().to_list()
    days: list[date] = sorted(origin_date(instant, question.zone, question.cutoff) for instant in instants)
    series = question.spine.select(question.entity).unique()
    return PanelGrid(series, days[0], (days[-1] - days[0]).days + 1)


def answered_by_panel(
    question: Question, series_per_block: int = 7, workers: int = 1, *, is_lazy: bool = False, is_sorted: bool = False
) -> pl.DataFrame:
    """The panel's answer in the spine's order, as the oracle's comparison reads it."""
    ledger = question.ledger.sort(question.entity) if is_sorted else question.ledger
    blocks = evaluate_panel(
        feature_set_of(question, "daily"),
        grid_of(question),
        {"ledger": ledger.lazy() if is_lazy else ledger},
        question.zone,
        question.cutoff,
        series_per_block=series_per_block,
        workers=workers,
    )
    found = pl.concat([block.frame() for block in blocks])
    on = [*question.entity, "as_of"]
    joined = question.spine.join(found, on=on, how="left", nulls_equal=True, maintain_order="left")
    return joined.select(*on, *[f.name for f in question.features])
