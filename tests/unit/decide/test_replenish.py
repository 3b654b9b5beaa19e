"""Decisions of an origin over a small lake: quantities counted by hand, slots, revisions and what is sent."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from replenish.control.policy import ReplenishmentPolicy, read_policy
from replenish.decide.decision_table import DECISION_TABLE
from replenish.decide.replenish import DecisionRun, decide_origin
from replenish.decide.slots import DECISION_EXECUTED, DECISION_MADE
from replenish.errors import AuditFailed, NotApplicable
from replenish.stores.outbox import Outbox
from tests.unit.decide.small_world import (
    CONTRACTS,
    ITEMS,
    ORIGIN,
    STREAMS,
    SmallWorld,
    dataset,
    ordered,
    put_demand,
    put_forecast,
    put_products,
    put_silver,
    put_stock,
    put_supply,
    received,
    small_world,
)

SHIPPED = read_policy()
POLICY = replace(SHIPPED, objective=replace(SHIPPED.objective, overage_share_of_cost=0.08))
"""With a ratio of 0.9 for the products below, whatever the shipped policy says today."""
DAY = timedelta(days=1)


def decide(world: SmallWorld, origin: date = ORIGIN, policy: ReplenishmentPolicy = POLICY, **how: Any) -> DecisionRun:
    data = how.get("data") or dataset()
    return decide_origin(world.lake, world.journal, world.outbox, data, policy, CONTRACTS, origin)


def first(run: DecisionRun, sku: str = "A1") -> dict[str, Any]:
    return run.decisions.filter(pl.col("sku_id") == sku).row(0, named=True)


def reason_codes(row: dict[str, Any]) -> set[str]:
    return {reason["code"] for reason in json.loads(row["reasons"])}


def test_the_order_lifts_the_position_to_the_published_level_in_packs(tmp_path: Path) -> None:
    row = first(decide(small_world(tmp_path)))
    # Level 132.8155 at ratio 0.9, 100 on hand: 33 needed, packs of 12.
    assert (row["base_stock_level_milli"], row["need_units"], row["order_units"]) == (132_816, 33, 36)
    assert (row["verdict"], row["status"], row["order_cost_cents"]) == ("auto", "executed", 3_600)
    assert row["explanation"].startswith("Order 36: demand over 10.0 days is 120.0 on average and 132.8")


def test_an_executed_order_is_a_file_and_an_event(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    row = first(decide(world))
    orders = {order.sku_id: order for order in world.outbox.orders()}
    assert orders["A1"].idempotency_key == f"{row['slot_id']}-1"
    assert orders["A1"].order_units == 36
    assert len(list(world.journal.records(type=DECISION_EXECUTED))) == len(ITEMS)


def test_the_same_run_twice_is_once(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    one, two = decide(world), decide(world)
    assert (two.n_new, two.n_sent) == (0, 0)
    assert two.commit == one.commit
    assert two.decisions.equals(one.decisions)


def test_late_events_after_an_execution_send_no_second_order(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    decide(world)
    put_stock(world.lake, 20, ORIGIN - DAY)
    again = decide(world)
    row = first(again)
    assert (row["verdict"], row["status"], row["order_units"], row["revision"]) == ("no_action", "superseded", 0, 2)
    assert "already_executed" in reason_codes(row)
    assert row["need_units"] == 113
    assert len(world.outbox.orders()) == len(ITEMS)
    table = world.lake.read(DECISION_TABLE)
    assert table.filter(pl.col("status") == "executed").height == len(ITEMS)


def test_a_longer_review_period_does_not_send_the_same_origin_again(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    decide(world)
    put_products(world.lake, review_days=28)
    row = first(decide(world))
    assert row["period_start"] < ORIGIN - DAY
    assert (row["verdict"], row["order_units"]) == ("no_action", 0) and "already_executed" in reason_codes(row)
    assert len(world.outbox.orders()) == len(ITEMS)


def test_a_past_origin_that_is_run_after_a_later_one_sends_nothing(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    decide(world)
    past = ORIGIN - 7 * DAY
    put_stock(world.lake, 100, past - DAY)
    put_silver(world.lake, past - DAY)
    put_forecast(world.lake, 120.0, 10.0, origin=past)
    row = first(decide(world, past))
    assert row["need_units"] == 33 and "already_executed" in reason_codes(row)
    assert len(world.outbox.orders()) == len(ITEMS)


@pytest.mark.parametrize("earlier", ["A1", "A2"])
def test_a_purchase_order_corrected_to_another_item_is_on_order_for_that_one(tmp_path: Path, earlier: str) -> None:
    world = small_world(tmp_path)
    now = "A2" if earlier == "A1" else "A1"
    was = ordered("P1", earlier, ORIGIN - 3 * DAY, 24)
    put_supply(world.lake, [was, was | {"ordered_units": -24}, ordered("P1", now, ORIGIN - 3 * DAY, 24)])
    run = decide(world)
    assert (first(run, earlier)["on_order_units"], first(run, now)["on_order_units"]) == (0, 24)


def test_a_purchase_order_taken_back_confirms_nothing(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    decide(world)
    line = ordered("P1", "A1", ORIGIN, 36)
    put_supply(world.lake, [line, line | {"ordered_units": -36}])
    later = ORIGIN + 7 * DAY
    put_forecast(world.lake, 120.0, 10.0, origin=later)
    assert first(decide(world, later), "A1")["on_order_units"] == 36


def test_a_new_revision_replaces_a_decision_that_waits_for_a_person(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    put_forecast(world.lake, 120.0, 10.0, mode="naive")
    assert first(decide(world))["verdict"] == "approval"
    put_stock(world.lake, 90, ORIGIN - DAY)
    assert first(decide(world))["revision"] == 2
    rows = world.lake.read(DECISION_TABLE).filter(pl.col("sku_id") == "A1").sort("revision")
    assert rows["status"].to_list() == ["superseded", "proposed"]
    assert world.outbox.orders() == ()


def test_a_later_origin_of_the_same_review_period_counts_what_was_sent_and_orders_once(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    decide(world)
    put_silver(world.lake, ORIGIN)
    put_forecast(world.lake, 120.0, 10.0, origin=ORIGIN + DAY)
    row = first(decide(world, ORIGIN + DAY))
    assert row["on_order_units"] == 36
    # 100 counted and 36 sent cover the level of 133.
    assert row["verdict"] == "no_action"
    assert len(world.outbox.orders()) == len(ITEMS)


def test_a_sent_order_seen_as_a_purchase_order_is_counted_once(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    decide(world)
    later = ORIGIN + 7 * DAY
    put_supply(world.lake, [ordered("P1", "A1", ORIGIN, 36)])
    put_forecast(world.lake, 120.0, 10.0, origin=later)
    run = decide(world, later)
    assert first(run, "A1")["on_order_units"] == 36
    assert first(run, "A2")["on_order_units"] == 36


def test_an_order_that_is_never_confirmed_needs_a_person(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    decide(world)
    later = ORIGIN + 21 * DAY
    put_silver(world.lake, later - DAY)
    put_stock(world.lake, 0, later - DAY)
    put_forecast(world.lake, 120.0, 10.0, origin=later)
    row = first(decide(world, later))
    assert row["verdict"] == "approval" and "unconfirmed_order" in reason_codes(row)


def test_a_receipt_after_the_count_moves_from_on_order_to_on_hand(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    counted = ORIGIN - 3 * DAY
    put_stock(world.lake, 100, counted)
    put_supply(
        world.lake,
        [ordered("P1", "A1", ORIGIN - 9 * DAY, 48), received("P1", "A1", ORIGIN - 2 * DAY, 30, ORIGIN - 9 * DAY)],
    )
    row = first(decide(world))
    # Two days of 12 sold since the count, 30 of 48 arrived since.
    assert (row["on_hand_units"], row["on_order_units"]) == (100 - 24 + 30, 18)


def test_facts_that_became_known_after_the_origin_change_nothing(tmp_path: Path) -> None:
    one, other = small_world(tmp_path / "one"), small_world(tmp_path / "other")
    put_supply(other.lake, [ordered("P1", "A1", ORIGIN, 500)])
    put_demand(other.lake, 12, extra=(("A1", ORIGIN - DAY, ORIGIN + DAY, 5_000),))
    assert decide(one).decisions.equals(decide(other).decisions)


def test_an_absurd_sales_record_freezes_its_item_alone(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    put_demand(world.lake, 12, extra=(("A1", ORIGIN - DAY, ORIGIN, 12_000),))
    run = decide(world)
    assert (first(run, "A1")["verdict"], first(run, "A2")["verdict"]) == ("freeze", "auto")
    assert "implausible_demand" in reason_codes(first(run, "A1"))


def test_a_late_stock_feed_takes_its_location_to_approval(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    put_silver(world.lake, late=("stock_counts",))
    run = decide(world)
    assert set(run.decisions["verdict"]) == {"approval"} and world.outbox.orders() == ()


def test_without_a_stock_feed_every_decision_is_no_action_and_says_so(tmp_path: Path) -> None:
    streams = tuple(s for s in STREAMS if s != "stock_counts")
    world = small_world(tmp_path)
    world.lake.overwrite("silver/stock_counts", world.lake.read("silver/stock_counts").clear())
    row = first(decide(world, data=dataset(streams)))
    assert row["verdict"] == "no_action"
    assert json.loads(row["reasons"])[0]["text"] == "not_applicable: no stock_counts feed"


def test_assumed_stock_is_marked_and_never_automatic(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    empty = world.lake.read("gold/fct_stock").clear()
    world.lake.overwrite("gold/fct_stock", empty)
    row = first(decide(world, data=dataset(("sales", "purchase_orders", "receipts", "prices"), on_hand_units=50)))
    assert (row["on_hand_units"], row["is_assumed"], row["verdict"]) == (50, True, "approval")


def test_an_interval_beyond_the_forecast_needs_a_person(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    rows = world.lake.read("forecasts/protection_demand").with_columns(pl.lit(False).alias("horizon_ok"))
    world.lake.overwrite("forecasts/protection_demand", rows, partition_by=["origin_date"])
    row = first(decide(world))
    assert row["verdict"] == "approval" and "horizon_too_short" in reason_codes(row)


def test_many_small_orders_of_one_supplier_do_not_pass_its_limit(tmp_path: Path) -> None:
    policy = replace(POLICY, auto=replace(POLICY.auto, max_supplier_cents=7_199))
    run = decide(small_world(tmp_path), policy=policy)
    assert set(run.decisions["verdict"]) == {"approval"}


def test_an_item_of_unknown_cost_is_never_automatic(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    products = world.lake.read("gold/dim_product").with_columns(pl.lit(None, pl.Int64).alias("unit_cost_cents"))
    world.lake.overwrite("gold/dim_product", products)
    assert first(decide(world))["verdict"] == "approval"


def test_another_policy_or_model_makes_another_decision_in_the_same_slot(tmp_path: Path) -> None:
    worlds = [small_world(tmp_path / name) for name in "abc"]
    put_products(worlds[2].lake, pack=6)
    one = first(decide(worlds[0]))
    other = first(decide(worlds[1], policy=replace(POLICY, version="2")))
    third = first(decide(worlds[2]))
    assert one["slot_id"] == other["slot_id"] == third["slot_id"]
    assert len({one["decision_id"], other["decision_id"], third["decision_id"]}) == 3


def test_refused_rows_send_and_write_nothing(tmp_path: Path) -> None:
    world = small_world(tmp_path)

    def refuse(frame: pl.DataFrame) -> None:
        raise AuditFailed("no")

    with pytest.raises(AuditFailed):
        decide_origin(world.lake, world.journal, world.outbox, dataset(), POLICY, CONTRACTS, ORIGIN, refuse)
    assert not world.lake.has(DECISION_TABLE)
    assert list(world.journal.records()) == [] and world.outbox.orders() == ()


def test_a_crash_after_the_journal_is_made_good_by_the_next_run(tmp_path: Path) -> None:
    world = small_world(tmp_path)

    class FullDisk(Outbox):
        def put(self, order: object) -> bool:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        decide_origin(world.lake, world.journal, FullDisk(tmp_path / "x"), dataset(), POLICY, CONTRACTS, ORIGIN)
    run = decide(world)
    assert len(world.outbox.orders()) == len(ITEMS)
    assert run.decisions["revision"].to_list() == [1, 1]
    assert len(list(world.journal.records(type=DECISION_MADE))) == len(ITEMS)


def test_an_order_cut_off_by_a_crash_is_delivered_even_when_inputs_have_changed(tmp_path: Path) -> None:
    world = small_world(tmp_path)
    decide(world)
    sent = world.outbox.orders()
    for path in world.outbox.folder.glob("*.json"):
        path.unlink()
    put_stock(world.lake, 20, ORIGIN - DAY)
    assert decide(world).n_sent == len(ITEMS)
    assert world.outbox.orders() == sent


def test_without_a_forecast_the_stage_is_not_applicable(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable):
        decide(small_world(tmp_path), ORIGIN + DAY)
