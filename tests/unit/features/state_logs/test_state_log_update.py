"""Stored state logs: equal to a build from nothing after every change, in what order postings come and go."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from replenish.bitemporal import KNOWN_FROM, state_log
from replenish.features.state_logs import entity_history
from replenish.features.state_logs.definition import StateLogDefinition
from replenish.features.state_logs.full_build import StateLogLimits
from replenish.features.state_logs.look_up import read_state_log
from replenish.features.state_logs.update import update_state_log
from replenish.stores.lake import DeltaLake
from tests.unit.features.state_logs.growing_ledger import (
    SOURCE,
    drawn_histories,
    ledgers_by_arrival,
    log_of,
    write_as_silver,
)

SMALL = StateLogLimits(rows_per_bucket=60, postings_at_once=10_000, rows_per_commit=100, most_changed=10.0)
"""Several buckets and commits, and no build where a change will do."""


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    return DeltaLake(tmp_path / "lake")


def log_from_nothing(definition: StateLogDefinition, ledger: pl.DataFrame) -> pl.DataFrame:
    """The log by the one sweep over all postings."""
    values = [name for name in definition.version_columns if name != "event_time"]
    rows = state_log(ledger, key=definition.entity, fact_key=definition.fact_key, values=values)
    return rows.select(definition.columns).sort(*definition.entity, KNOWN_FROM)


@pytest.mark.parametrize("seed", range(30))
def test_increments_equal_a_build_from_nothing(lake: DeltaLake, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Histories last some weeks: with the usual look-back none would ever be read whole.
    monkeypatch.setattr(entity_history, "LOOK_BACK", timedelta(days=seed % 4))
    setting, histories = drawn_histories(seed)
    definition = log_of(setting)
    for step, ledger in enumerate(ledgers_by_arrival(setting, histories, seed, n_steps=4)):
        write_as_silver(lake, ledger)
        update = update_state_log(lake, definition, SOURCE, limits=SMALL)
        assert update.is_full_build == (step == 0) or not update.commit.n_rows
        assert_frame_equal(read_state_log(lake, definition), log_from_nothing(definition, ledger))
