"""Days of runs, late events and changed forecasts: a slot is executed once at most."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replenish.control.policy import read_policy
from replenish.decide.decision_table import DECISION_TABLE
from replenish.decide.replenish import decide_origin
from replenish.decide.slots import DECISION_EXECUTED
from tests.unit.decide.small_world import (
    CONTRACTS,
    ORIGIN,
    dataset,
    put_forecast,
    put_silver,
    put_stock,
    small_world,
)

SHIPPED = read_policy()
POLICY = replace(SHIPPED, objective=replace(SHIPPED.objective, overage_share_of_cost=0.08))
"""With a ratio of 0.9 for the products below, whatever the shipped policy says today."""
DAY = timedelta(days=1)


@pytest.mark.slow
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 2), st.sampled_from(["champion", "naive"])), max_size=4))
def test_no_sequence_of_runs_and_late_events_executes_a_slot_twice(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, int, str]]
) -> None:
    world = small_world(tmp_path_factory.mktemp("slots"))
    for on_hand, days_later, mode in events:
        origin = ORIGIN + days_later * DAY
        put_stock(world.lake, on_hand, ORIGIN - DAY)
        put_silver(world.lake, origin - DAY)
        put_forecast(world.lake, 120.0, 10.0, mode=mode, origin=origin)
        decide_origin(world.lake, world.journal, world.outbox, dataset(), POLICY, CONTRACTS, origin)
        executed = [record.subject for record in world.journal.records(type=DECISION_EXECUTED)]
        assert len(executed) == len(set(executed)) == len(world.outbox.orders())
        table = world.lake.read(DECISION_TABLE)
        live = table.filter(pl.col("status").is_in(["executed", "proposed"]))
        assert live.filter(pl.col("order_units") > 0).group_by("slot_id").len()["len"].max() in (None, 1)
        assert table["decision_id"].is_unique().all()
