from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from replenish.cli.postgres_server import running_postgres
from replenish.errors import NotApplicable
from tests.integration.cdc.source_world import SourceWorld, sale

_numbers = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    try:
        with running_postgres() as dsn:
            yield dsn
    except NotApplicable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def make_world(server: str, tmp_path: Path) -> Iterator[Callable[..., SourceWorld]]:
    """Makes a world on a database of its own; its slot is dropped afterwards."""
    made: list[tuple[str, SourceWorld]] = []

    def make(**options: str) -> SourceWorld:
        name = f"erp_{next(_numbers)}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"create database {name}")
        world = SourceWorld(server.replace("dbname=postgres", f"dbname={name}"), tmp_path / name, **options)
        made.append((name, world))
        return world

    yield make
    with psycopg.connect(server, autocommit=True) as connection:
        for name, world in made:
            world.connection.close()
            drop_slots(connection, name)
            connection.execute(f"drop database {name} with (force)")


def drop_slots(connection: psycopg.Connection, database: str) -> None:
    """End whoever is connected and drop the database's slots: one that is left would be in the way of every later test.

    A slot stays in use for a moment after its connection was ended.
    """
    slots = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s"
    for _ in range(100):
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (database,))
        try:
            connection.execute(slots, (database,))
            return
        except psycopg.errors.ObjectInUse:
            time.sleep(0.2)
    raise AssertionError(f"a slot of {database} stays in use")


@pytest.fixture
def world(make_world: Callable[..., SourceWorld]) -> SourceWorld:
    """A world whose table `sales` holds three rows and is published."""
    world = make_world()
    world.publish()
    world.sql("insert into sales values " + ", ".join(sale(number) for number in range(3)))
    return world
