"""Transactions longer than memory are journalled in pieces, and pieces that were read before are the same again."""

from __future__ import annotations

import pytest

from replenish.ingest.cdc import block_reader, follower, long_transactions
from tests.integration.cdc.source_world import SourceWorld, sale

LONG = [
    "insert into sales values " + ", ".join(sale(number) for number in range(10, 22)),
    # Of rows of earlier pieces: changed, removed, moved to another key, removed and made again.
    "update sales set qty = 7 where id in (10, 1)",
    "delete from sales where id in (11, 2)",
    "update sales set id = 99 where id = 12",
    "delete from sales where id = 13",
    f"insert into sales values {sale(13, qty=5)}",
    # And of one's own piece.
    f"insert into sales values {sale(50)}, {sale(51)}",
    "delete from sales where id = 50",
    "update sales set qty = 3 where id = 51",
]


def assert_log_and_silver_hold_the_table(world: SourceWorld) -> None:
    table = world.table()
    assert world.held() == table
    silver = world.silver().select("location_id", "sale_id", "units").sort("location_id", "sale_id").rows()
    assert silver == sorted((row["shop"], row["id"], int(row["qty"])) for row in table)
    assert world.dead() == []


@pytest.fixture
def short_memory(monkeypatch) -> None:
    """Every transaction is long, and is read in pieces of four messages."""
    monkeypatch.setattr(block_reader, "BLOCK_MESSAGES", 4)
    monkeypatch.setattr(follower, "BLOCK_MESSAGES", 4)
    monkeypatch.setattr(follower, "FETCH_ROWS", 3)
    monkeypatch.setattr(long_transactions, "LONG_MESSAGES", 6)


def test_a_long_transaction_makes_the_events_of_a_short_one(world: SourceWorld, short_memory, monkeypatch) -> None:
    world.follow()
    world.sql(*LONG)
    world.sql("update sales set qty = 2 where id = 0")
    with world.follower() as reading, monkeypatch.context() as patch:
        patch.setattr(long_transactions, "LONG_MESSAGES", 1_000)
        reading.start()
        reading._move = lambda *_: None
        reading.read_batch()
    as_short = world.events()
    reports = world.follow()
    # Equal ids with other bodies would be conflicts, other ids would be accepted.
    assert reports[1].outcomes == {"duplicate": len(as_short) - 3}
    assert_log_and_silver_hold_the_table(world)


@pytest.mark.parametrize("special", ["truncate sales", "update sales set note = 'a' where id = 10"])
def test_a_long_transaction_that_needs_rows_by_name_is_read_whole(world: SourceWorld, short_memory, special) -> None:
    world.sql("alter table sales alter note set storage external")
    world.follow()
    large = "(select string_agg(md5(i::text), '') from generate_series(1, 2000) i)"
    insert = f"insert into sales select 'S9', '2025-01-10T12:00Z', 90, 'A1', 1, 1, {large}"
    world.sql(*LONG[:3], insert, special, "update sales set qty = 9 where id = 90", LONG[6])
    world.follow()
    assert_log_and_silver_hold_the_table(world)


@pytest.mark.parametrize("nth", [2, 3, 4])
def test_death_between_pieces_loses_and_doubles_nothing(
    world: SourceWorld, short_memory, monkeypatch, nth: int
) -> None:
    world.follow()
    world.sql("update sales set qty = 2 where id = 0")
    world.sql(*LONG)
    seen = []

    def die(name: str) -> None:
        seen.append(name)
        if seen.count("cdc.decoded") == nth:
            raise RuntimeError("died")

    with monkeypatch.context() as patch:
        patch.setattr(follower, "failpoint", die)
        with pytest.raises(RuntimeError, match="died"):
            world.follow()
    before = len(world.events())
    world.sql("update sales set qty = 4 where id = 0")
    world.follow()
    assert len(world.events()) > before
    assert_log_and_silver_hold_the_table(world)


def test_both_ways_to_read_make_the_same_events(world: SourceWorld, monkeypatch) -> None:
    world.follow()
    world.sql(*LONG)
    world.sql(
        f"insert into sales values {sale(60, note='a')}, {sale(61)}, {sale(62, amount=None)}",
        r"insert into sales values ('S1', '2025-01-10T12:00Z', 63, 'A1', 1, 1, E'q\"\\ \n é')",
        "update sales set qty = qty + 1 where id = 61",
    )
    with world.follower() as reading, monkeypatch.context() as patch:
        patch.setattr(block_reader.BlockReader, "_read_plain", lambda *_: None)
        reading.start()
        reading._move = lambda *_: None
        reading.read_batch()
    one_by_one = world.events()
    reports = world.follow()
    # The same identities with other bodies would be conflicts.
    assert set(reports[1].outcomes) == {"duplicate"}
    assert world.events() == one_by_one
    assert world.held() == world.table()
