"""Journalled events become facts: once, in any cut, beside files, and again after a crash."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from event_shop import TILL, EventShop, event, fields, key_of
from ingest_shop import HEADER, NOW, SALES, csv, line

from replenish.contracts.dataset import Dataset
from replenish.history.bronze import append_bronze
from replenish.history.silver import update_silver
from replenish.ingest.accepted_parts import parts_of
from replenish.ingest.rederive import have_rules_changed, is_as_recorded, rederive_parts
from replenish.ingest.settle import settled_positions
from replenish.stores.journal_entry import EVENTS_SETTLED, PART_BEARING
from replenish.stores.lake import DeltaLake


def test_events_become_facts_once(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    shop.send(event("1", fields("a")), event("2", fields("b", units=0)), event("3", fields("c", units=-1)))
    report = shop.settle()
    assert (report.total("offered"), report.total("accepted")) == (2, 2)
    assert shop.settle().batches == ()
    row = shop.accepted().row(0, named=True)
    assert (row["row_nr"], row["delivery_id"], row["feed_id"], row["journal_seq"]) == (1, "1", "events.sales", 4)
    # Without a time of its own an event became known when it arrived, not when it was settled.
    assert row["knowledge_time"] == NOW
    assert str(row["event_date"]) == "2025-01-10"
    assert row["contract_version"] == SALES.version


def test_a_root_without_events_settles_nothing(tmp_path: Path) -> None:
    assert EventShop(tmp_path).settle().batches == ()


def test_duplicates_corrections_and_retractions_are_told_apart(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    shop.send(event("1", fields("a")), event("2", fields("a")), event("3", fields("a", units=5)))
    shop.send(event("4", key_of("a"), op="delete"), event("5", key_of("b"), op="delete"))
    (batch,) = shop.settle().batches
    assert (batch.offered, batch.accepted, batch.duplicate, batch.dead) == (5, 3, 1, 1)
    assert (batch.corrections, batch.retractions, batch.reasons) == (1, 1, {"retraction_of_unknown": 1})
    # All three came in two requests; where times are equal the log orders them.
    assert shop.facts() == [("a", 2, False, False), ("a", 5, True, False), ("a", None, False, True)]
    (letter,) = shop.journal.dead_letters()
    assert (letter.row_nr, letter.file, letter.reason) == (5, "5", "retraction_of_unknown")
    assert json.loads(str(letter.raw)) == key_of("b")


def test_a_delete_may_come_before_its_fact_by_the_log_but_not_by_knowledge_time(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    late = {"knowledge_time": "2025-01-12T00:00:00Z"}
    shop.send(
        event("1", key_of("a") | late, op="delete"), event("2", fields("a", knowledge_time="2025-01-11T00:00:00Z"))
    )
    (batch,) = shop.settle().batches
    assert (batch.accepted, batch.dead, batch.retractions) == (2, 0, 1)


def test_a_delete_that_was_too_early_is_right_when_it_is_offered_again(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    shop.send(event("1", key_of("a"), op="delete"))
    assert shop.settle().total("dead") == 1
    shop.send(event("2", fields("a")))
    shop.settle()
    shop.now += timedelta(minutes=1)
    shop.send(event("1~2", key_of("a"), op="delete"))
    assert shop.settle().batches[0].retractions == 1


def test_of_contradicting_events_only_the_later_ones_are_dead(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    known = {"knowledge_time": "2025-01-11T00:00:00Z"}
    shop.send(*(event(str(nr), fields("a", units=units, **known)) for nr, units in enumerate((1, 2, 1, 3))))
    (batch,) = shop.settle().batches
    assert (batch.accepted, batch.duplicate, batch.reasons) == (1, 1, {"key_conflict": 2})
    shop.send(event("9", fields("a", units=7, **known)), event("10", fields("b")))
    (batch,) = shop.settle().batches
    assert (batch.accepted, batch.reasons) == (1, {"key_conflict": 1})


@pytest.mark.parametrize("max_events", [1, 2, 3, 100])
def test_interleaved_feeds_come_out_the_same_in_any_cut(tmp_path: Path, max_events: int) -> None:
    shop = EventShop(tmp_path, TILL)
    row = {"shop": "S1", "time": "2025-01-10T12:00:00", "receipt": "r", "article": "A1", "price": "1.50", "op": "I"}
    for nr in range(6):
        till = row | {"receipt": f"t{nr}", "qty": str(nr), "known": "2025-01-10T18:00:00"}
        shop.send(event(f"a{nr}", fields(f"s{nr}")), event(f"b{nr}", till, feed_id="shop.till"))
        if nr == 2:
            shop.settle(max_events=max_events)
    shop.settle(max_events=max_events)
    assert shop.settle().batches == ()
    facts = shop.accepted()
    assert sorted(facts["sale_id"]) == sorted([f"s{nr}" for nr in range(6)] + [f"t{nr}" for nr in range(6)])
    assert facts.filter(pl.col("feed_id") == "shop.till")["units"].sort().to_list() == list(range(6))
    spans = [(r.subject, r.data["from_seq"], r.data["to_seq"]) for r in shop.journal.records(type=EVENTS_SETTLED)]
    for feed in ("events.sales", "shop.till"):
        own = [(first, last) for subject, first, last in spans if subject == feed]
        assert all(before[1] < after[0] for before, after in pairwise(own))
    positions = settled_positions(shop.journal)
    assert positions.through == max(positions.feeds.values())


def test_a_fact_by_file_and_by_event_is_one(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    shop.offer(csv([line("a", price="1.50"), line("b")]))
    shop.send(event("1", fields("a", revenue_cents=150)), event("2", fields("c")))
    (batch,) = shop.settle().batches
    assert (batch.accepted, batch.duplicate) == (1, 1)
    assert shop.offer(csv([line("a"), line("d")])).duplicate == 1


def test_unmapped_fields_are_kept_digit_by_digit_and_counted(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    body = json.dumps(fields("a"))[:-1].encode() + b',"weight":1.10,"lot":{"nr":[1,2]}}'
    shop.send(event("1", body), event("2", fields("b", weight=2)), event("3", fields("c")))
    shop.settle()
    assert shop.accepted()["unmapped"].to_list() == ['{"weight":1.10,"lot":{"nr":[1,2]}}', '{"weight":2}', None]
    (record,) = shop.journal.records(type=EVENTS_SETTLED)
    assert record.data["unmapped_fields"] == {"lot": 1, "weight": 2}


def test_events_that_a_later_contract_refuses_become_letters_of_their_batch(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    shop.send(event("1", fields("a", units=7)), event("2", fields("b")))
    stricter = replace(SALES, columns=tuple(replace(c, maximum=5) if c.name == "units" else c for c in SALES.columns))
    shop.contracts = {"sales": stricter}
    (batch,) = shop.settle().batches
    assert (batch.accepted, batch.reasons) == (1, {"above_maximum": 1})
    assert json.loads(str(shop.journal.dead_letters()[0].raw))["units"] == 7


def test_events_of_a_feed_that_is_gone_wait_and_hold_nobody_up(tmp_path: Path) -> None:
    shop = EventShop(tmp_path, TILL)
    row = dict(zip(HEADER.split(","), line("t").split(","), strict=True))
    shop.send(event("1", row, feed_id="shop.till"), event("2", fields("a")))
    with_till, shop.dataset = shop.dataset, replace(shop.dataset, feeds=shop.dataset.feeds[:1])
    report = shop.settle()
    assert (report.waiting, report.total("accepted")) == (("shop.till",), 1)
    assert shop.settle().batches == ()
    shop.dataset = with_till
    assert shop.settle().total("accepted") == 1
    assert shop.accepted()["sale_id"].sort().to_list() == ["a", "t"]


def test_reference_events_and_deletes_without_a_time_of_their_own(tmp_path: Path) -> None:
    reference = replace(SALES, fact_key=("sale_id",), is_reference=True)
    shop = EventShop(tmp_path, contract=reference)
    ahead = "2031-01-01T00:00:00Z"
    assert shop.send(event("1", fields("a", sold_at=ahead)))[0].outcome == "accepted"
    shop.send(event("2", {"sale_id": "a"}, op="delete"))
    (batch,) = shop.settle().batches
    assert (batch.accepted, batch.retractions) == (2, 1)
    # Nobody says when; it became known when it arrived.
    assert shop.accepted()["event_time"][1] == NOW


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from event_shop import EventShop
EventShop(Path(sys.argv[2])).settle()
"""


@pytest.mark.parametrize("name", ["parts.written", "parts.synced", "settle.judged", "journal.before_commit"])
def test_a_settling_that_is_killed_is_done_again_whole(tmp_path: Path, name: str) -> None:
    shop = EventShop(tmp_path)
    shop.send(event("1", fields("a")), event("2", fields("b", sold_at="2024-12-31T10:00:00Z")))
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(tmp_path)]
    killed = subprocess.run(command, env={**os.environ, "REPLENISH_FAILPOINT": f"{name}:kill:1"}, check=False)
    assert killed.returncode == -9
    assert shop.accepted().is_empty()
    shop.send(event("3", fields("c")))
    assert shop.settle().total("accepted") == 3
    assert shop.accepted()["sale_id"].sort().to_list() == ["a", "b", "c"]


def test_the_same_facts_by_file_and_by_events_give_the_same_silver(tmp_path: Path) -> None:
    lines = [line("a"), line("b", qty=3), line("a", qty=4, known="2025-01-11T18:00:00"),
             line("b", op="D", known="2025-01-12T18:00:00")]  # fmt: skip
    by_file, by_till, by_contract = (EventShop(tmp_path / name, TILL) for name in ("file", "till", "contract"))
    by_file.offer(csv(lines))
    names = HEADER.split(",")
    rows = [dict(zip(names, text.split(","), strict=True)) for text in lines]
    by_till.send(*(event(str(nr), row, feed_id="shop.till") for nr, row in enumerate(rows)))
    by_till.settle(max_events=3)
    for nr, row in enumerate(rows):
        body = fields(row["receipt"], units=int(row["qty"]), revenue_cents=150, knowledge_time=row["known"] + "+01:00")
        by_contract.send(event(str(nr), body, op="delete" if row["op"] == "D" else "upsert"))
        by_contract.settle()
    tables = [_silver(shop) for shop in (by_file, by_till, by_contract)]
    assert tables[0].height == 5
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


def _silver(shop: EventShop) -> pl.DataFrame:
    lake = DeltaLake(shop.layout.lake)
    append_bronze("sales", SALES, shop.journal, shop.layout, lake)
    update_silver(SALES, shop.dataset, lake)
    return lake.read("silver/sales").select(sorted(SALES.silver_schema)).sort(pl.all())


def test_parts_are_made_again_exactly_as_they_were(tmp_path: Path) -> None:
    shop = EventShop(tmp_path / "root", TILL)
    shop.offer(csv([line("a"), line("b"), line("x", time="2025-02-01T10:00:00")]))
    shop.send(event("1", fields("a", units=5)), event("2", fields("c")), event("3", key_of("z"), op="delete"))
    shop.settle()
    shop.offer(csv([line("c", qty=9, known="2025-02-03T00:00:00")]))
    shop.send(event("4", key_of("c"), op="delete"))
    shop.settle()
    into = tmp_path / "again"
    n_records = 0
    for record in shop.journal.records(type=PART_BEARING):
        parts = rederive_parts(record, shop.dataset, shop.contracts, shop.journal, shop.layout, into=into)
        assert is_as_recorded(record, parts), record
        assert [(p.path, p.sha256) for p in parts] == [(p.path, p.sha256) for p in parts_of(record)]
        assert not have_rules_changed(record, shop.dataset, shop.contracts)
        n_records += 1
    assert n_records == 4
    elsewhere: Dataset = replace(shop.dataset, zone="UTC")
    assert have_rules_changed(record, elsewhere, shop.contracts)
    damaged = replace(record, data=record.data | {"parts": [*record.data["parts"], *record.data["parts"]]})  # type: ignore[misc]
    assert not is_as_recorded(damaged, parts)


def test_versions_of_one_instant_leave_what_the_last_one_says(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    shop.send(
        event("1", fields("a", units=2)), event("2", fields("a", units=5)), event("3", key_of("a"), op="delete"),
        event("4", fields("b", units=2)), event("5", fields("b", units=7)),
    )  # fmt: skip
    shop.settle()
    silver = _silver(shop)
    sums = silver.group_by("sale_id").agg((pl.col("units") * pl.col("posting_sign")).sum()).sort("sale_id")
    assert sums.rows() == [("a", 0), ("b", 7)]
