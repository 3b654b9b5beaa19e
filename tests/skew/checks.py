"""The checks that stand between a bug and a release, by name; each gives its complaint, or None.

| name | where it runs |
|---|---|
| oracle_comparison | `make test`, `make features-oracle`: the evaluator beside a brute force |
| future_shift | `make test`: what becomes known later must not move a value |
| served_equals_offline | asset check of `served_reconciliation`, before anything is published |
| leak_guard, known_future, source_mapping | every reading of a definition file |
| one_meaning, recorded_definitions | `make check` |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from replenish.errors import ContractError
from replenish.features.definitions.model import FeatureSet
from replenish.features.definitions.recorded import judge_feature_versions
from replenish.features.definitions.registry import check_one_meaning
from replenish.features.definitions.sources import source_mistakes
from replenish.features.definitions.time_guards import check_no_target_overlap, known_future_mistakes
from replenish.features.reconciliation.reconcile import reconcile_origin
from tests.oracle.compare import batch_of, first_mismatch, question_of
from tests.oracle.range_join import Evaluator
from tests.unit.features.definitions.small_set import contracts
from tests.unit.features.offline.oracle_question import answered
from tests.unit.features.reconciliation.served_world import (
    AS_OF,
    CUTOFF,
    SET,
    ZONE,
    Answer,
    FakeHistory,
    served,
    silver_rows,
    usual_rows,
)

ORACLE_SEEDS = range(8)
ORIGIN = AS_OF.date() + timedelta(days=1)
LAST = 60


def skewed_rows() -> pl.DataFrame:
    """Sales on twenty days of two articles, and what tells evaluators apart: late, corrected, retracted, at night."""
    at = [AS_OF - timedelta(days=n) for n in range(12)]
    night = datetime(2025, 3, 19, 23, 30, tzinfo=UTC)
    rows = silver_rows(
        [
            *usual_rows(),
            (41, "A", at[4], at[1], 50),
            (42, "A", night, night, 4),
            (43, "A", at[1], AS_OF + timedelta(hours=2), 70),
            (44, "A", at[7], at[7], 6),
            (45, "A", at[2], at[2], 9),
            # Known last, and of an older day than the newest.
            (46, "A", at[6], AS_OF - timedelta(hours=1), 8),
            (47, "A", datetime(2025, 3, 20, 4, tzinfo=UTC), datetime(2025, 3, 20, 4, tzinfo=UTC), 3),
            (48, "A", datetime(2025, 3, 20, 5, 10, tzinfo=UTC), datetime(2025, 3, 20, 5, 20, tzinfo=UTC), 13),
        ]
    )
    newest = rows.filter(pl.col("seq") == 48)
    of_yesterday = rows.filter(pl.col("seq") == 45)
    known = [newest["knowledge_time"][0] + timedelta(minutes=5), of_yesterday["knowledge_time"][0] + timedelta(hours=1)]
    instant, whole = pl.Datetime("us", "UTC"), pl.Int64()
    reversals = [
        row.with_columns(
            posting_kind=pl.lit("reversal"),
            posting_sign=pl.lit(-1, whole),
            knowledge_time=pl.lit(taken_back, instant),
            seq=pl.lit(seq, whole),
        )
        for seq, row, taken_back in ((49, newest, known[0]), (50, of_yesterday, known[1]))
    ]
    return pl.concat([rows, *reversals])


ROWS = skewed_rows()
INSTANTS = (
    datetime(2025, 3, 20, 4, 30, tzinfo=UTC),
    datetime(2025, 3, 20, 5, 30, tzinfo=UTC),
    AS_OF,
)
"""Before the cut-off in Berlin, after it and before that of UTC, and later."""


def twin_answers() -> list[Answer]:
    """What the twin serves, with whatever was done to its code."""
    return [served(ROWS, sku, seq=LAST, as_of=as_of) for sku in ("A", "B", "nobody") for as_of in INSTANTS]


@dataclass
class Workbench:
    """What a bug is injected into; as it stands all is right."""

    folder: Path
    """Recorded versions of `feature_set`."""
    served_folder: Path
    """Those of the set that is served."""
    feature_set: FeatureSet
    others: tuple[FeatureSet, ...] = ()
    evaluator: Evaluator = answered
    answers: Callable[[], Sequence[Answer]] = twin_answers


def oracle_comparison(bench: Workbench) -> str | None:
    """The evaluator beside the oracle on random histories."""
    found = next((m for seed in ORACLE_SEEDS if (m := first_mismatch(bench.evaluator, batch_of(seed)))), None)
    return None if found is None else str(found)


def future_shift(bench: Workbench) -> str | None:
    """Rows that become known behind every question, whatever day they are of, change nothing."""
    for seed in ORACLE_SEEDS[:4]:
        question = question_of(batch_of(seed))
        newest = question.spine["as_of"].max()
        known = question.ledger.filter(pl.col("knowledge_time") <= newest)
        later = known.filter(pl.col("posting_kind") == "version").with_columns(
            knowledge_time=pl.lit(newest, pl.Datetime("us", "UTC")) + timedelta(days=3),
            version_nr=pl.col("version_nr") + 1000,
            units=pl.col("units") + 77,
        )
        with_future = replace(question, ledger=pl.concat([known, later]))
        before, after = (bench.evaluator(asked) for asked in (replace(question, ledger=known), with_future))
        if not before.equals(after):
            return f"seed {seed}: the future moved values"
    return None


def served_equals_offline(bench: Workbench) -> str | None:
    """The verdict of the reconciliation on what is served."""
    history = FakeHistory(ROWS)
    verdict = reconcile_origin(
        bench.answers(), {SET.name: SET}, history, ORIGIN, zone=ZONE, cutoff=CUTOFF, folder=bench.served_folder
    ).verdict
    if verdict.is_releasable:
        return None
    return f"{dict(verdict.by_cause)}, {verdict.unknown_definitions} by unknown definitions"


def leak_guard(bench: Workbench) -> str | None:
    """No feature touches the days of the target."""
    return _complaint(lambda: check_no_target_overlap(bench.feature_set))


def known_future(bench: Workbench) -> str | None:
    """Planned columns are read only where that is declared."""
    mistake = next(known_future_mistakes(bench.feature_set), None)
    return None if mistake is None else f"{mistake.place}: {mistake.rule}"


def source_mapping(bench: Workbench) -> str | None:
    """Sources rename and cast contract columns, in their unit."""
    mistake = next(source_mistakes(bench.feature_set, contracts()), None)
    return None if mistake is None else f"{mistake.place}: {mistake.rule}"


def one_meaning(bench: Workbench) -> str | None:
    """One name has one meaning over all sets."""
    return _complaint(lambda: check_one_meaning([bench.feature_set, *bench.others]))


def recorded_definitions(bench: Workbench) -> str | None:
    """No meaning changes under a recorded version, and none is unrecorded."""

    def judge() -> None:
        for verdict in judge_feature_versions({bench.feature_set.name: bench.feature_set}, bench.folder):
            if verdict.refusal is not None:
                raise ContractError(verdict.refusal)

    return _complaint(judge)


def _complaint(check: Callable[[], object]) -> str | None:
    try:
        check()
    except ContractError as refused:
        return str(refused)
    return None


CHECKS: Mapping[str, Callable[[Workbench], str | None]] = {
    check.__name__: check
    for check in (
        oracle_comparison,
        future_shift,
        served_equals_offline,
        leak_guard,
        known_future,
        source_mapping,
        one_meaning,
        recorded_definitions,
    )
}
