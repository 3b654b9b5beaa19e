"""Every kind of change, read from a real server, becomes the events that bring the log to what the table holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from replenish.errors import SourceFault
from tests.integration.cdc.source_world import SourceWorld, sale

Make = Callable[..., SourceWorld]


def test_a_snapshot_holds_every_row_once(world: SourceWorld) -> None:
    reports = world.follow()
    assert reports[0].n_snapshot_rows == 3
    assert world.held() == world.table()
    assert {id.split(":")[0] for id, _, _ in world.events()} == {"snapshot"}


def test_inserts_updates_and_deletes_follow_the_snapshot(world: SourceWorld) -> None:
    world.follow()
    world.sql(f"insert into sales values {sale(7)}, {sale(8)}")
    world.sql("update sales set qty = 9 where id = 7")
    world.sql("delete from sales where id = 1")
    world.follow()
    assert world.held() == world.table()
    assert [kind for id, kind, _ in world.events() if id[0] == "0"] == ["upsert", "upsert", "upsert", "delete"]


def test_ids_are_commit_position_and_number(world: SourceWorld) -> None:
    world.follow()
    world.sql(f"insert into sales values {sale(7)}, {sale(8)}")
    world.follow()
    first, second = [id for id, _, _ in world.events()][-2:]
    assert first.rsplit(":", 1)[0] == second.rsplit(":", 1)[0]
    assert [first.rsplit(":", 1)[1], second.rsplit(":", 1)[1]] == ["0", "1"]


def test_a_new_key_takes_the_old_row_back(world: SourceWorld) -> None:
    world.follow()
    world.sql("update sales set id = 100 where id = 2")
    world.follow()
    assert world.held() == world.table()
    assert [kind for _, kind, _ in world.events()][-2:] == ["delete", "upsert"]


def test_a_new_key_under_full_identity_takes_the_old_row_back(world: SourceWorld) -> None:
    world.sql("alter table sales replica identity full")
    world.follow()
    world.sql("update sales set id = 100 where id = 2", "update sales set qty = 5 where id = 1")
    world.sql("delete from sales where id = 0")
    world.follow()
    assert world.held() == world.table()


def test_truncate_takes_back_every_known_row(world: SourceWorld) -> None:
    world.follow()
    world.sql(f"insert into sales values {sale(7)}")
    world.sql("truncate sales", f"insert into sales values {sale(1, qty=4)}, {sale(9)}")
    world.follow()
    assert world.held() == world.table()
    assert len(world.table()) == 2


def test_only_the_last_version_within_a_transaction_is_an_event(world: SourceWorld) -> None:
    world.follow()
    insert = f"insert into sales values {sale(7)}, {sale(8)}"
    world.sql(insert, "update sales set qty = 2 where id = 7", "delete from sales where id = 8")
    world.sql("delete from sales where id = 1", f"insert into sales values {sale(1, qty=6)}")
    world.follow()
    assert world.held() == world.table()
    assert [kind for id, kind, _ in world.events() if id[0] == "0"] == ["upsert", "upsert"]


STOCK = """
create table stock (shop text, article text, counted_at timestamptz, on_hand integer,
                    primary key (article, shop, counted_at))
"""
LARGE = "(select string_agg(md5(i::text || '{}'), '') from generate_series(1, 2000) i)"


def test_an_unchanged_large_value_comes_from_the_last_known_row(world: SourceWorld) -> None:
    world.sql("alter table sales alter note set storage external")
    world.sql(f"update sales set note = {LARGE.format('a')} where id = 1")
    world.follow()
    world.sql(f"insert into sales values {sale(7)}")
    world.sql(f"update sales set note = {LARGE.format('b')} where id = 7")
    world.sql("update sales set qty = 3 where id in (1, 7)")
    world.follow()
    assert world.held() == world.table()
    assert world.dead() == []


def test_an_unchanged_large_value_comes_from_the_old_row_under_full_identity(world: SourceWorld) -> None:
    world.sql("alter table sales replica identity full", "alter table sales alter note set storage external")
    world.sql(f"update sales set note = {LARGE.format('a')} where id = 1")
    world.follow()
    world.sql("update sales set qty = 3 where id = 1")
    world.follow()
    assert world.held() == world.table()


def test_a_large_value_that_nobody_knows_is_a_dead_letter(world: SourceWorld) -> None:
    world.sql("alter table sales alter note set storage external")
    world.follow()
    # The row's first version is refused, so no log has its note.
    world.sql(f"insert into sales select 'S9', '2025-01-10T12:00Z', 50, 'A1', -1, 1, {LARGE.format('c')}")
    world.sql("update sales set qty = 3 where id = 50")
    world.follow()
    assert world.dead() == [("erp.sales", "below_minimum"), ("erp.sales", "toast_unknown")]


def test_a_new_column_goes_through(world: SourceWorld) -> None:
    world.follow()
    world.sql("alter table sales add channel text default 'web'")
    world.sql(f"insert into sales values {sale(7)}")
    world.follow()
    assert world.events()[-1][2]["channel"] == "web"
    assert world.dead() == []


def test_a_dropped_column_degrades_its_table_and_no_other(make_world: Make) -> None:
    world = make_world(tables="{public.sales: erp.sales, public.stock: erp.stock}")
    world.sql(STOCK)
    world.publish("sales, stock")
    with world.follower() as follower:
        follower.start()
        world.sql("alter table sales rename article to item")
        world.sql(
            f"insert into sales values {sale(7)}", "insert into stock values ('S1', 'A1', '2025-01-10T12:00Z', 4)"
        )
        follower.read_batch()
    assert world.dead() == [("erp.sales", "schema_drift")]
    assert [body["__table"] for _, _, body in world.events()] == ["public.stock"]
    with pytest.raises(SourceFault, match=r"no column article"):
        world.follow()
