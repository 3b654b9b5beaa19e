"""A follower that dies anywhere: the next one loses nothing and doubles nothing, down to silver."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from replenish.errors import AlreadyRunning, SourceFault
from replenish.ingest.cdc.slot import slot_lag
from tests.integration.cdc.source_world import PROGRAM, SourceWorld, sale

Make = Callable[..., SourceWorld]
MANY = 12_000
"""More than one piece of the journal's, so that a transaction and a snapshot have a middle."""
INSERT_MANY = (
    f"insert into sales select 'S1', '2025-01-10T12:00Z', i, 'A1', 1, 1.5 from generate_series(1000, {999 + MANY}) i"
)


def assert_log_and_silver_hold_the_table(world: SourceWorld) -> None:
    table = world.table()
    assert world.held() == table
    silver = world.silver().select("location_id", "sale_id", "units").sort("location_id", "sale_id").rows()
    assert silver == sorted((row["shop"], row["id"], int(row["qty"])) for row in table)


def die(world: SourceWorld, failpoint: str) -> None:
    """Follow in a process that is killed at the failpoint, and assert that it was."""
    done = world.command("follow", "postgres", "erp", "--once", failpoint=failpoint)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert (world.root / "fired").read_text().startswith(failpoint)


IN_A_SNAPSHOT = ["cdc.snapshot_batch:kill:1", "journal.after_commit:kill:1", "cdc.snapshot_done:kill:1"]
IN_A_TRANSACTION = [
    "cdc.decoded:kill:1",
    "journal.after_commit:kill:1",
    "group.before_ack:kill:1",
    "cdc.journalled:kill:1",
    "cdc.advanced:kill:1",
]


@pytest.mark.parametrize("failpoint", IN_A_SNAPSHOT)
def test_death_in_a_snapshot_starts_it_over(world: SourceWorld, failpoint: str) -> None:
    world.sql(INSERT_MANY)
    die(world, failpoint)
    assert not world.slots()
    # What the first attempt delivered changes before the second: one row gone, one changed, one moved to another key.
    world.sql("delete from sales where id = 1000", "update sales set qty = 8 where id = 1001")
    world.sql("update sales set id = 77 where id = 1002")
    world.follow()
    assert_log_and_silver_hold_the_table(world)


@pytest.mark.parametrize("failpoint", IN_A_TRANSACTION)
def test_death_in_a_transaction_reads_it_again(world: SourceWorld, failpoint: str) -> None:
    world.follow()
    world.sql(
        "update sales set qty = 5 where id = 1",
        INSERT_MANY,
        "delete from sales where id = 0",
        "truncate sales",
        INSERT_MANY,
        f"insert into sales values {sale(2, qty=3)}",
    )
    die(world, failpoint)
    world.sql("update sales set qty = 4 where id = 1000")
    world.follow()
    assert_log_and_silver_hold_the_table(world)
    assert world.dead() == []


def test_a_source_that_threw_changes_away_is_said_and_a_new_snapshot_mends_it(world: SourceWorld) -> None:
    world.follow()
    configure(world, "alter system set max_slot_wal_keep_size = '1MB'")
    try:
        world.sql("delete from sales where id = 1", f"insert into sales values {sale(9)}")
        for number in range(4):
            world.sql(f"create table filler_{number} (id integer)")
            world.connection.execute("select pg_switch_wal()")
        world.connection.execute("checkpoint")
        lag = slot_lag(world.dsn, "replenish_erp")
        assert lag.is_lost
        assert "threw away" in (lag.alarm(1 << 40) or "")
        with pytest.raises(SourceFault, match="pg_drop_replication_slot"):
            world.follow()
    finally:
        configure(world, "alter system reset max_slot_wal_keep_size")
    world.sql("select pg_drop_replication_slot('replenish_erp')")
    world.follow()
    assert_log_and_silver_hold_the_table(world)


def configure(world: SourceWorld, statement: str) -> None:
    world.connection.execute(statement)  # type: ignore[arg-type]
    world.connection.execute("select pg_reload_conf()")
    time.sleep(0.2)


def test_a_session_that_was_cut_is_made_anew(world: SourceWorld) -> None:
    with world.follower() as follower:
        follower.start()
        world.sql(f"insert into sales values {sale(7)}")
        cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'replenish'"
        world.connection.execute(cut)
        with pytest.raises(SourceFault, match="went away") as fault:
            follower.read_batch()
        assert fault.value.may_pass
        follower.read_batch()
    assert world.held() == world.table()


def test_a_second_follower_is_refused(world: SourceWorld) -> None:
    with running_follower(world):
        done = world.command("follow", "postgres", "erp", "--once")
    assert done.returncode == 2
    assert AlreadyRunning.__name__ in done.stderr


def test_sigterm_ends_it_with_everything_journalled(world: SourceWorld) -> None:
    with running_follower(world) as process:
        world.sql(f"insert into sales values {sale(7)}")
        wait_until(lambda: len(world.events()) == 4)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert world.held() == world.table()


class running_follower:
    """A follower in a process of its own, once its snapshot is done."""

    def __init__(self, world: SourceWorld) -> None:
        self.world = world

    def __enter__(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PROGRAM, "follow", "postgres", "erp"]
        self.process = subprocess.Popen(command, env=self.world.environment(), stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: bool(self.world.slots()))
        except BaseException:
            self.__exit__()
            raise
        return self.process

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
