"""Tables of every make: types, quoted names, partitions, several at once; and sources that are refused, with words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from replenish.errors import SourceFault
from replenish.ingest.cdc.slot import slot_lag
from tests.integration.cdc.source_world import SALES, SourceWorld, sale

Make = Callable[..., SourceWorld]
EVERY_TYPE = """
alter table sales
    add n numeric, add f double precision, add b boolean, add d date, add ts timestamp, add j jsonb, add a text[],
    add raw bytea, add i interval, add u uuid
"""
VALUES = [
    "1e-20, 0.1, true, '2025-03-30', '2025-03-30 02:30:00.000001', '{\"a\": [1, null]}', '{\"x,y\",NULL,\"\"}', "
    "'\\x00ff', '1 mon 2 days', '0c5ef0f2-8a4e-4c0f-9f5e-1c2d3e4f5a6b'",
    "123456789012345678901234567890.123456789, 'NaN', false, '0044-03-15 BC', 'infinity', "
    "'null', '{}', '', '-1 hour', null",
    "null, null, null, null, null, null, null, null, null, null",
]
QUOTED = """
create table "Odd"."Läden_""A""b" (shop text, article text, counted_at timestamptz, on_hand integer,
                                        primary key (article, shop, counted_at))
"""
PARTED = """
create table sales (shop text not null, sold_at timestamptz not null, id integer not null, article text not null,
                    qty integer not null, amount numeric(12, 2), note text, primary key (shop, sold_at, id))
partition by list (shop);
create table sales_0 partition of sales for values in ('S0');
create table sales_rest partition of sales default;
"""


def test_every_type_reads_the_same_in_snapshot_and_stream(world: SourceWorld) -> None:
    world.sql(EVERY_TYPE)
    rows = [f"{sale(number)[:-1]}, {values})" for number, values in enumerate(VALUES, 40)]
    world.sql("insert into sales values " + ", ".join(rows))
    world.follow()
    assert world.held() == world.table()
    in_snapshot = world.held()
    world.sql("update sales set qty = qty + 1")
    world.follow()
    assert world.held() == world.table()
    assert [row | {"qty": ""} for row in world.held()] == [row | {"qty": ""} for row in in_snapshot]


def test_null_is_not_the_empty_text(world: SourceWorld) -> None:
    world.follow()
    rows = [sale(5, note=""), sale(6), sale(7, note="a\tb")]
    world.sql("insert into sales values " + ", ".join(rows))
    world.follow()
    assert [row["note"] for row in world.held()] == [row["note"] for row in world.table()]
    assert {row["note"] for row in world.held()} >= {"", None}


def test_quoted_names_and_several_tables_in_one_transaction(make_world: Make) -> None:
    name = '"Odd"."Läden_""A""b"'
    world = make_world(tables="{public.sales: erp.sales, 'Odd.Läden_\"A\"b': erp.stock}")
    world.sql('create schema "Odd"', QUOTED)
    world.publish(f"sales, {name}")
    world.sql(f"insert into {name} values ('S1', 'A1', '2025-01-10T12:00Z', 4)")
    world.follow()
    insert = "insert into sales values "
    world.sql(insert + sale(1), f"update {name} set on_hand = 5", insert + sale(2))
    world.follow()
    assert world.dead() == []
    assert [body["__table"] for id, _, body in world.events() if id[0] == "0"] == [
        "public.sales", 'Odd.Läden_"A"b', "public.sales"
    ]  # fmt: skip
    assert world.silver("stock_counts")["on_hand_units"].to_list() == [5]


def test_partitions_are_followed_by_their_root(make_world: Make) -> None:
    world = make_world(schema=PARTED)
    world.publish(options="with (publish_via_partition_root = true)")
    world.sql("insert into sales values " + ", ".join(sale(number) for number in range(4)))
    world.follow()
    # The row moves to another partition: for the log a new key, in the source a delete and an insert.
    world.sql("update sales set shop = 'S0' where id = 1", "update sales set qty = 7 where id = 3")
    world.follow()
    assert {body["__table"] for _, _, body in world.events()} == {"public.sales"}
    assert world.held() == world.table()


def test_a_table_whose_changes_do_not_name_the_fact_is_refused(make_world: Make) -> None:
    world = make_world(schema=SALES.replace("primary key (shop, sold_at, id)", "primary key (id)"))
    world.publish()
    with pytest.raises(SourceFault, match=r"ALTER TABLE public.sales REPLICA IDENTITY FULL"):
        world.follow()
    world.sql("alter table sales replica identity full", f"insert into sales values {sale(1)}")
    world.follow()
    world.sql("update sales set sold_at = '2025-01-11T12:00Z'", f"insert into sales values {sale(2)}")
    world.sql("delete from sales where id = 2")
    world.follow()
    assert world.held() == world.table()


def test_a_source_without_publication_is_told_how_to_make_it(make_world: Make) -> None:
    world = make_world()
    with pytest.raises(SourceFault, match=r"CREATE PUBLICATION replenish_erp FOR TABLE public.sales"):
        world.follow()
    world.sql("create table other (id integer primary key)")
    world.publish("sales, other")
    with pytest.raises(SourceFault, match=r"DROP TABLE public.other"):
        world.follow()


def test_a_refused_row_is_a_dead_letter_and_the_stream_goes_on(world: SourceWorld) -> None:
    world.follow()
    world.sql(f"insert into sales values {sale(7, qty=-1)}, {sale(8)}")
    world.connection.execute("insert into sales select 'S1', '2025-01-10T12:00Z', 9, 'A1', 1, 1, chr(7)")
    world.follow()
    assert sorted(world.dead()) == [("erp.sales", "below_minimum"), ("erp.sales", "control_character")]
    assert [body["id"] for _, _, body in world.events()][-1] == "8"


def test_lag_counts_what_is_unread_and_what_is_missing_is_an_alarm(world: SourceWorld) -> None:
    assert "makes it" in (slot_lag(world.dsn, "replenish_erp").alarm(1) or "")
    world.follow()
    before = slot_lag(world.dsn, "replenish_erp", "replenish_erp", now=datetime.now(UTC))
    world.sql("insert into sales select 'S1', now(), i, 'A1', 1, 1 from generate_series(100, 3000) i")
    behind = slot_lag(world.dsn, "replenish_erp", "replenish_erp", now=datetime.now(UTC))
    assert behind.lag_bytes > before.lag_bytes + 100_000
    assert behind.lag_seconds > 0 == before.lag_seconds
    assert "bytes behind" in (behind.alarm(100_000) or "")
    assert behind.alarm(1 << 30) is None


def test_the_metrics_file_tells_outcomes_and_lag(world: SourceWorld) -> None:
    done = world.command("follow", "postgres", "erp", "--once")
    assert done.returncode == 0, done.stderr
    text = world.deployment.layout.metrics.joinpath("postgres-erp.prom").read_text()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert lines['replenish_postgres_events_total{door="erp",outcome="accepted"}'] == "3.0"
    assert lines['replenish_postgres_lag_seconds{door="erp",slot="replenish_erp"}'] == "0.0"
    assert float(lines['replenish_postgres_lag_bytes{door="erp",slot="replenish_erp"}']) < 1 << 20
    assert lines['replenish_postgres_slot_lost{door="erp",slot="replenish_erp"}'] == "0.0"
    assert lines['replenish_postgres_connected{door="erp"}'] == "1.0"


def test_a_damaged_journal_is_not_followed_into(world: SourceWorld) -> None:
    world.follow()
    path = world.deployment.layout.journal
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 8192)
    done = world.command("follow", "postgres", "erp", "--once")
    assert done.returncode == 2
    assert "replenish doctor" in done.stderr


def test_changes_of_other_tables_do_not_hold_the_slot_back(world: SourceWorld) -> None:
    world.follow()
    world.sql("create table other as select md5(i::text) from generate_series(1, 60000) i")
    world.follow()
    assert slot_lag(world.dsn, "replenish_erp").lag_bytes < 1 << 20


def test_values_arrive_in_silver(world: SourceWorld) -> None:
    world.follow()
    world.sql("update sales set amount = 9.99, qty = 4 where id = 1", "delete from sales where id = 2")
    world.follow()
    rows = world.silver().select("sale_id", "units", "revenue_cents").rows()
    assert rows == [("0", 1, 150), ("1", 4, 999)]
