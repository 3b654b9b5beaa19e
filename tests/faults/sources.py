"""Real sources for the doors that pull: a PostgreSQL server and a Kafka (mock) cluster, one each for a process."""

from __future__ import annotations

import atexit
import json
import threading
import uuid
from contextlib import ExitStack
from functools import cache
from typing import Any

from tests.faults.client import GHOST, cloud_event, hash_of
from tests.faults.world import Delivery, World

_LOCK = threading.Lock()
_OPEN = ExitStack()
atexit.register(_OPEN.close)

TABLE = """
create table sales (
    location_id text not null, sold_at timestamptz not null, sale_id text not null, sku_id text not null,
    units integer not null, revenue_cents integer, note text,
    primary key (location_id, sold_at, sale_id)
);
create publication replenish_trial for table sales;
"""
_UPSERT = """
insert into sales values (%(location_id)s, %(sold_at)s, %(sale_id)s, %(sku_id)s, %(units)s, %(revenue_cents)s, null)
on conflict (location_id, sold_at, sale_id) do update
set sku_id = excluded.sku_id, units = excluded.units, revenue_cents = excluded.revenue_cents
"""
_DELETE = "delete from sales where location_id = %(location_id)s and sold_at = %(sold_at)s and sale_id = %(sale_id)s"


@cache
def _server() -> str:
    from replenish.cli.postgres_server import running_postgres

    return _OPEN.enter_context(running_postgres())


@cache
def _cluster() -> Any:
    from tests.integration.kafka.mock_cluster import MockCluster

    cluster = MockCluster()
    _OPEN.callback(cluster.stop)
    return cluster


def new_database() -> str:
    """The DSN of a fresh database with the table of sales, published."""
    import psycopg

    with _LOCK:
        server = _server()
    name = f"trial_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
    dsn = server.replace("dbname=postgres", f"dbname={name}")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLE.encode())
    return dsn


def drop_database(dsn: str) -> None:
    """Give slot and database back: a server has room for some tens of them."""
    import psycopg

    name = dsn.rpartition("dbname=")[2]
    with psycopg.connect(_server(), autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
        slots = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s"
        connection.execute(slots, (name,))
        connection.execute(f"drop database {name} with (force)".encode())


def change_table(dsn: str, deliveries: list[Delivery]) -> None:
    """The source says what it knows: every delivery a transaction, in order."""
    import psycopg

    with psycopg.connect(dsn, autocommit=True) as connection:
        for delivery in deliveries:
            connection.execute(_UPSERT if delivery.op == "I" else _DELETE, delivery.row)


def facts_of_table(dsn: str, world: World) -> dict[tuple[str, str, str], int]:
    """What the source holds in the end: units of every fact that was sound, 0 of what it deleted."""
    import psycopg

    found = {d.key: 0 for d in world.deliveries if d.is_sound}
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("select location_id, sold_at at time zone 'UTC', sale_id, units, sku_id from sales")
        for place, sold, sale, units, sku in rows:
            if units >= 0 and sku:
                found[place, f"{sold.isoformat()}+00:00", sale] = units
    return found


def brokers() -> str:
    """Where the cluster listens."""
    with _LOCK:
        return _cluster().brokers


def produce(topic: str, deliveries: list[Delivery]) -> None:
    """The source sends CloudEvents, keyed by fact so that their order holds, and one message that is none."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": brokers(), "log_level": 0, "linger.ms": 5})
    for delivery in deliveries:
        value = json.dumps(cloud_event(delivery.id, delivery)).encode()
        headers: list[tuple[str, str | bytes | None]] = [("content-type", b"application/cloudevents+json")]
        producer.produce(topic, value, partition=hash_of(delivery) % 4, headers=headers)
    producer.produce(topic, b'{"id": "' + GHOST.encode(), partition=0)
    if producer.flush(30):
        raise AssertionError("the cluster took not all messages")


def doors_file(dsn_variable: str, topic: str, brokers_at: str) -> str:
    """`doors.yaml` of a trial."""
    postgres = {
        "name": "erp", "dsn_variable": dsn_variable, "slot": f"slot_{uuid.uuid4().hex[:12]}",
        "publication": "replenish_trial", "tables": {"public.sales": "erp.sales"},
    }  # fmt: skip
    kafka: dict[str, object] = {
        "name": "till",
        "brokers": brokers_at,
        "topics": [topic],
        "feed": "events.sales",
        "format": "cloudevents",
        "group": topic,
    }
    # A killed member is missed for so long: the broker gives its partitions to nobody else until then.
    kafka["options"] = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "1000"}
    return json.dumps({"postgres": [postgres]} if not topic else {"kafka": [kafka]})
