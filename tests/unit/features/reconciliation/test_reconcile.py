"""The reconciliation of one origin: which vectors count, what is kept, what blocks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from replenish.errors import AuditFailed, NotApplicable
from replenish.features.definitions.identity import feature_set_digest
from replenish.features.definitions.reader import read_feature_sets
from replenish.features.definitions.recorded import record_feature_set, recorded_feature_sets
from replenish.features.reconciliation.reconcile import (
    DIFFERING_TABLE,
    Reconciliation,
    reconcile_origin,
    write_reconciliation,
)
from replenish.features.reconciliation.recorded_sets import feature_set_of_record, sets_by_id
from replenish.stores.lake import DeltaLake
from tests.unit.features.reconciliation.served_world import (
    AS_OF,
    CUTOFF,
    OLDER,
    SET,
    ZONE,
    Answer,
    FakeHistory,
    served,
    silver_rows,
    usual_rows,
)

ROWS = silver_rows(usual_rows())
LAST = 40
ORIGIN = date(2025, 3, 21)
"""Its cut-off is the first one after `AS_OF`."""


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    for each in (OLDER, SET):
        record_feature_set(each, folder)
    return folder


def reconciled(records: Path, *answers: Answer) -> Reconciliation:
    history = FakeHistory(ROWS)
    return reconcile_origin(answers, {SET.name: SET}, history, ORIGIN, zone=ZONE, cutoff=CUTOFF, folder=records)


def wrong(vector: Answer) -> Answer:
    return replace(vector, values={**vector.values, "units_sum__7": -1})


def test_equal_vectors_release(records: Path) -> None:
    found = reconciled(records, served(ROWS, "A", seq=LAST), served(ROWS, "B", seq=LAST))
    assert found.verdict.is_releasable
    assert (found.verdict.n_values, found.verdict.n_matches) == (12, 12)
    assert found.cases.is_empty()


def test_one_unexplained_value_blocks(records: Path) -> None:
    found = reconciled(records, served(ROWS, "A", seq=LAST), wrong(served(ROWS, "B", seq=LAST)))
    assert not found.verdict.is_releasable
    assert found.verdict.by_cause == {"unexplained": 1}
    (case,) = found.cases.iter_rows(named=True)
    assert (case["entity_key"], case["feature"], case["served"], case["outcome"]) == (
        '["B"]',
        "units_sum__7",
        "-1",
        "difference",
    )


def test_an_older_recorded_version_does_not_block_and_an_unknown_one_does(records: Path) -> None:
    older = served(ROWS, "A", seq=LAST, feature_set=OLDER)
    assert reconciled(records, older).verdict.is_releasable
    # Equal values by definitions that nobody gave out: right by chance.
    unknown = replace(served(ROWS, "A", seq=LAST), feature_set_id="f" * 64)
    verdict = reconciled(records, unknown).verdict
    assert verdict.n_matches == verdict.n_values
    assert not verdict.is_releasable


def test_a_stale_vector_blocks_although_its_cause_is_found(records: Path) -> None:
    stale = served(ROWS, "A", seq=LAST, stands_at=AS_OF - timedelta(days=1))
    verdict = reconciled(records, stale).verdict
    assert set(verdict.by_cause) == {"freshness"}
    assert not verdict.is_releasable


def test_a_set_without_definitions_blocks(records: Path) -> None:
    assert not reconciled(records, replace(served(ROWS, "A", seq=LAST), feature_set="gone")).verdict.is_releasable


def test_only_what_was_served_in_the_day_up_to_the_cut_off_counts(records: Path) -> None:
    cutoff = datetime(2025, 3, 21, 5, tzinfo=UTC)
    right = served(ROWS, "A", seq=LAST)
    instants = [cutoff - timedelta(days=1), cutoff, cutoff + timedelta(microseconds=1)]
    answers = (replace(right, served_at=served_at) for served_at in instants)
    assert reconciled(records, *answers).verdict.n_values == len(SET.features)


def test_without_served_vectors_there_is_nothing_to_reconcile(records: Path) -> None:
    with pytest.raises(NotApplicable):
        reconciled(records)


def test_what_is_found_twice_is_kept_once(tmp_path: Path, records: Path) -> None:
    lake = DeltaLake(tmp_path / "lake")
    found = reconciled(records, wrong(served(ROWS, "A", seq=LAST)))
    commits = [write_reconciliation(lake, found, ORIGIN) for _ in range(2)]
    assert [commit.n_rows for commit in commits] == [found.counts.height] * 2
    assert lake.row_count(DIFFERING_TABLE) == 1


def test_refused_counts_are_not_written(tmp_path: Path, records: Path) -> None:
    def refuse(frame: pl.DataFrame) -> None:
        raise AuditFailed("no")

    lake = DeltaLake(tmp_path / "lake")
    with pytest.raises(AuditFailed):
        write_reconciliation(lake, reconciled(records, served(ROWS, "A", seq=LAST)), ORIGIN, refuse)
    assert not lake.has(DIFFERING_TABLE)


@pytest.mark.parametrize("name", sorted(read_feature_sets()))
def test_every_recorded_version_is_read_back_under_its_id(name: str) -> None:
    records = recorded_feature_sets(name)
    assert {feature_set_digest(feature_set_of_record(record)) for record in records} == {
        record.feature_set_id for record in records
    }
    newest = read_feature_sets()[name]
    assert set(sets_by_id(name)[feature_set_digest(newest)].feature_names) == set(newest.feature_names)
