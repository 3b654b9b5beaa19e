"""A settler that stays makes the same facts as one that starts anew each time, whatever comes in between."""

import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from event_shop import TILL, EventShop, event, fields, key_of
from ingest_shop import HEADER, NOW, SALES, csv, line

from replenish.contracts.dataset import ColumnRule, KnowledgeRule
from replenish.errors import StoreFull
from replenish.ingest.events.offered_event import OfferedEvent
from replenish.ingest.resident_parts import ResidentParts
from replenish.ingest.settle import EventSettler, settled_positions
from replenish.stores.journal_entry import EVENTS_SETTLED

DAYS = ("2025-01-10", "2025-01-10", "2025-01-11", "2025-01-31", "2024-12-30")


def resident(shop: EventShop, **limits: int) -> EventSettler:
    index = ResidentParts(shop.journal, **limits)
    return EventSettler(shop.dataset, shop.contracts, shop.journal, shop.layout, index=index)


def some_events(draw: random.Random, n: int, start: int) -> list[OfferedEvent]:
    """Sales over a few facts and months: new, said again, corrected, taken back, with and without own knowledge."""
    events = []
    for nr in range(start, start + n):
        fact: dict[str, Any] = {"sold_at": f"{draw.choice(DAYS)}T12:00:00Z", "sale_id": f"r{draw.randint(0, 6)}"}
        known = {"knowledge_time": f"2025-02-0{draw.randint(1, 3)}T00:00:00Z"} if draw.random() < 0.5 else {}
        if draw.random() < 0.2:
            events.append(event(str(nr), {"location_id": "S1"} | fact | known, op="delete"))
        else:
            events.append(event(str(nr), fields(**fact, units=draw.randint(1, 2)) | known))
    return events


def everything(shop: EventShop) -> tuple[list[Any], list[Any], list[Any]]:
    """Accepted rows, dead letters and the counts of every settled batch."""
    rows = shop.accepted().sort("journal_seq", "row_nr").rows()
    letters = [(letter.file, letter.reason) for letter in shop.journal.dead_letters()]
    records = shop.journal.records(type=EVENTS_SETTLED)
    counts = [{k: v for k, v in record.data.items() if k != "parts"} for record in records]
    return rows, letters, counts


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limits", [{}, {"most_hashes": 3, "most_rows": 2}], ids=["roomy", "tight"])
def test_facts_are_those_of_settlers_that_start_anew(tmp_path: Path, seed: int, limits: dict[str, int]) -> None:
    draw = random.Random(seed)
    anew, stays = EventShop(tmp_path / "anew"), EventShop(tmp_path / "stays")
    settler, n_sent = resident(stays, **limits), 0
    for step in range(12):
        events = some_events(draw, draw.randint(0, 6), n_sent)
        n_sent += len(events)
        others = csv([line(f"r{draw.randint(0, 6)}"), line(f"f{step}")]) if draw.random() < 0.2 else None
        for shop in (anew, stays):
            if others is not None:
                shop.offer(others)
            if events:
                shop.send(*events)
        anew.settle()
        stays.now += timedelta(minutes=1)
        if draw.random() < 0.7:
            settler.settle(now=stays.now)
        else:
            # Another process was faster.
            EventSettler(stays.dataset, stays.contracts, stays.journal, stays.layout).settle(now=stays.now)
    assert n_sent > 10
    assert everything(stays) == everything(anew)


def test_what_could_not_be_written_is_settled_by_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = EventShop(tmp_path)
    settler = resident(shop)
    shop.send(event("1", fields("a")), event("2", fields("b")))
    with monkeypatch.context() as patch:
        patch.setattr(shop.journal, "append", _refuse)
        with pytest.raises(StoreFull):
            settler.settle(now=NOW)
    # Meanwhile one of them becomes a fact that is known.
    shop.offer(csv([line("a", qty="2", known="2025-01-10T13:00:00")]))
    shop.send(event("3", fields("c")))
    assert settler.settle(now=NOW).total("offered") == 3
    assert settled_positions(shop.journal).through == shop.journal.last_seq() - 1
    assert settler.settle(now=NOW).batches == ()
    shop.send(event("4", fields("b")), event("5", key_of("c"), op="delete"))
    (batch,) = settler.settle(now=NOW).batches
    assert (batch.duplicate, batch.retractions) == (1, 1)


def test_events_of_a_feed_that_is_gone_wait_while_others_go_on(tmp_path: Path) -> None:
    shop = EventShop(tmp_path, TILL)
    row = dict(zip(HEADER.split(","), line("t").split(","), strict=True))
    shop.send(event("1", row, feed_id="shop.till"))
    with_till, shop.dataset = shop.dataset, replace(shop.dataset, feeds=shop.dataset.feeds[:1])
    settler = resident(shop)
    assert settler.settle(now=NOW).waiting == ("shop.till",)
    shop.send(event("2", fields("a")))
    report = settler.settle(now=NOW)
    assert (report.total("accepted"), report.waiting) == (1, ("shop.till",))
    assert settler.settle(now=NOW).batches == ()
    shop.dataset = with_till
    (batch,) = shop.settle().batches
    assert (batch.feed_id, batch.offered) == ("shop.till", 1)
    # It hears of that, and says again how far all feeds have come.
    shop.send(event("3", fields("b")))
    assert settler.settle(now=NOW).waiting == ()
    assert settled_positions(shop.journal).through == shop.journal.last_seq() - 1


def test_only_rows_of_the_facts_that_are_asked_for_are_read(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    settler = resident(shop)
    for start in range(0, 60, 3):
        shop.send(*(event(f"e{nr}", fields(f"r{nr}")) for nr in range(start, start + 3)))
        settler.settle(now=NOW)
    index = settler._index
    index.refresh()
    asked = shop.accepted().filter(pl.col("sale_id").is_in(["r7", "r50"])).with_columns(pl.lit(1).alias("units"))
    days = 1 << 10
    told = index.earlier_rows(shop.contract, "2025-01", days, shop.layout.accepted, asked)
    assert sorted(told["sale_id"]) == ["r50", "r7"]
    assert set(told["journal_seq"]) == set(asked["journal_seq"])
    assert index.earlier_rows(shop.contract, "2025-02", days, shop.layout.accepted, asked).is_empty()


def test_a_part_that_somebody_else_wrote_again_is_read_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = EventShop(tmp_path)
    settler = resident(shop)
    shop.send(event("1", fields("a")), event("2", key_of("b"), op="delete"))
    with monkeypatch.context() as patch:
        patch.setattr(shop.journal, "append", _refuse)
        with pytest.raises(StoreFull):
            settler.settle(now=NOW)
    # It had one row, the sale; with the file in between it has one as well, the retraction.
    shop.offer(csv([line(sale, qty="2", known="2025-01-10T13:00:00") for sale in "ab"]))
    assert shop.settle().batches[0].retractions == 1
    shop.send(event("3", fields("b", revenue_cents=150)))
    assert settler.settle(now=shop.now).total("accepted") == 1


def test_one_date_in_two_zones_is_seen_as_a_fresh_settler_sees_it(tmp_path: Path) -> None:
    columns = tuple(replace(c, logical_type="date") if c.name == "sold_at" else c for c in SALES.columns)
    contract = replace(SALES, columns=columns)
    rules = {name: ColumnRule(column=name) for name in contract.names}
    own = replace(TILL, columns=rules, knowledge=KnowledgeRule("arrival"), retraction=None)
    feeds = [replace(own, feed_id=f"shop.{zone}", zone=zone) for zone in ("Europe/Berlin", "America/New_York")]
    counts = []
    for name in ("anew", "stays"):
        shop = EventShop(tmp_path / name, *feeds, contract=contract)
        settler = resident(shop)
        # The same fact, that is told last by the other feed, lies on another day of UTC; so do parts in between.
        for nr, (feed, sale, day) in enumerate([(0, "x", 11), (0, "q", 11), (0, "y", 12), (0, "z", 12), (1, "x", 11)]):
            body = fields(sale, sold_at=f"2025-01-{day}", revenue_cents=5)
            shop.send(event(str(nr), body, feed_id=feeds[feed].feed_id))
            shop.now += timedelta(minutes=1)
            report = settler.settle(now=shop.now) if name == "stays" else shop.settle()
        counts.append((report.total("accepted"), report.total("duplicate")))
    assert counts[0] == counts[1]


def test_a_part_that_could_not_be_read_is_asked_for_again(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    settler = resident(shop)
    for sale in "ab":
        shop.send(event(sale, fields(sale)))
        shop.settle()
    shop.send(event("1", fields("a")), event("2", fields("b")))
    away = shop.layout.accepted.with_name("away")
    shop.layout.accepted.rename(away)
    with pytest.raises(FileNotFoundError):
        settler.settle(now=NOW)
    away.rename(shop.layout.accepted)
    assert settler.settle(now=NOW).total("duplicate") == 2


def test_rows_of_its_own_parts_are_kept_within_bounds(tmp_path: Path) -> None:
    shop = EventShop(tmp_path)
    settler = resident(shop, most_rows=5)
    for nr in range(1, 13):
        shop.send(*(event(f"{nr}-{k}", fields(f"r{k}", sold_at=f"2025-01-{nr:02}T12:00:00Z")) for k in range(2)))
        settler.settle(now=NOW)
    index = settler._index
    assert isinstance(index, ResidentParts)
    assert index._n_written == sum(rows.height for _, rows in index._written.values()) <= 5
    shop.send(*(event(f"again-{nr}", fields("r0", sold_at=f"2025-01-{nr:02}T12:00:00Z")) for nr in range(1, 13)))
    assert settler.settle(now=NOW).total("duplicate") == 12


def _refuse(*_: object, **__: object) -> int:
    raise StoreFull("no space")
