"""The CDC benchmark: changes per second through the whole door, against bare loops of peek and decode.

All loops read equal changes from the same server, peek by peek with the same settings, and move the slot on. The bare
loops keep nothing: `messages` decodes every protocol message, `rows` also makes a row of named values of every change.
The door does beside that what it is for: contract, hash chain, a durable commit. Loops take turns, in another order
each round, so that a busy machine slows all; the first round warms up and does not count. The server works on the same
cores: its processor time is told.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import sql

from replenish.cli.deployment import now_utc
from replenish.cli.follow import MAX_PENDING_EVENTS, tune_process
from replenish.cli.postgres_server import running_postgres, server_cpu_seconds
from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.doors import PostgresSettings
from replenish.contracts.reader import read_contracts
from replenish.errors import BrokenPromise
from replenish.ingest.cdc.follower import FETCH_ROWS, READ_MESSAGES, PostgresFollower
from replenish.ingest.cdc.pgoutput import Cell, Commit, PgoutputDecoder, RowChange
from replenish.ingest.cdc.slot import PEEK, advance, connect
from replenish.ingest.cdc.source_tables import bind_tables
from replenish.ingest.events.event_door import EventDoor
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal import Journal

ROWS_PER_TRANSACTION = 100
N_COLUMNS = 7
_TABLE = """
create table sales (
    shop text not null, sold_at timestamptz not null, receipt text not null, article text not null,
    qty integer not null, amount numeric(12, 2), customer text, primary key (shop, sold_at, receipt)
)
"""
_ROWS = """
insert into sales
select 'S' || i % 50, timestamptz '2025-01-01T00:00Z' + i * interval '7 seconds', 'R' || i, 'A' || i % 997,
       1 + i % 5, (100 + i % 900) / 100.0, 'C' || i % 31
from generate_series({}::bigint, {}::bigint - 1) i
"""
_DATASET = """
dataset_id: bench
feeds:
  - feed_id: bench.sales
    stream: sales
    door: events
    columns:
      location_id: shop
      sold_at: sold_at
      sale_id: receipt
      sku_id: article
      units: qty
      revenue_cents: {column: amount, factor: 100}
      customer_id: customer
    knowledge: {source: column, column: __commit_time}
    ignore_columns: [__table]
"""
_SETTINGS = PostgresSettings("bench", "BENCH_DSN", "full", "bench", {"public.sales": "bench.sales"})


def run_cdc_bench(n_changes: int = 200_000, rounds: int = 5) -> dict[str, object]:
    """Measure the loops on `n_changes` inserts a round; medians of the rounds.

    Returns:
        Named figures: changes per second of each loop, ratios of the door to the bare ones (1 = as fast; the median of
        the rounds' ratios), and microseconds of processor time a change took here and in the server.
    """
    timings: dict[str, list[_Timing]] = {"messages": [], "rows": [], "door": []}
    tune_process()
    with (
        running_postgres() as dsn,
        tempfile.TemporaryDirectory(prefix="replenish-bench-") as scratch,
        connect(dsn) as session,
        _FullDoor(dsn, Path(scratch)) as door,
    ):
        bare = {"messages": _decode_messages, "rows": _decode_rows}
        for slot in bare:
            session.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
        loops: dict[str, Callable[[], int]] = {
            slot: partial(_bare_loop, session, slot, decode) for slot, decode in bare.items()
        }
        loops["door"] = door.read_all
        for number in range(rounds + 1):
            _write_changes(session, number * n_changes, n_changes)
            for turn in range(len(loops)):
                name = list(loops)[(number + turn) % len(loops)]
                timing = _timing(loops[name], n_changes, session)
                timings[name] += [timing] if number else []
    return {
        "changes": n_changes,
        "rounds": rounds,
        "rows_per_transaction": ROWS_PER_TRANSACTION,
        **{f"{name}_changes_per_s": n_changes / _median(of, "seconds") for name, of in timings.items()},
        **{f"{name}_client_us": _median(of, "client_seconds") / n_changes * 1e6 for name, of in timings.items()},
        **{f"{name}_server_us": _median(of, "server_seconds") / n_changes * 1e6 for name, of in timings.items()},
        **{f"door_to_{name}_ratio": _median_ratio(timings[name], timings["door"]) for name in bare},
    }


class _Timing(NamedTuple):
    seconds: float
    client_seconds: float
    """Processor time of this process, all threads."""
    server_seconds: float
    """Likewise of the server."""


def _median(timings: list[_Timing], field: str) -> float:
    return statistics.median(getattr(timing, field) for timing in timings)


def _median_ratio(bare: list[_Timing], door: list[_Timing]) -> float:
    return statistics.median(one.seconds / other.seconds for one, other in zip(bare, door, strict=True))


def _timing(read_all: Callable[[], int], n_changes: int, session: psycopg.Connection) -> _Timing:
    server, client, started = server_cpu_seconds(session), time.process_time(), time.monotonic()
    n_read = read_all()
    seconds, client = time.monotonic() - started, time.process_time() - client
    if n_read != n_changes:
        raise BrokenPromise("a loop did not read every change once", read=n_read, written=n_changes)
    return _Timing(seconds, client, server_cpu_seconds(session) - server)


def _write_changes(session: psycopg.Connection, first: int, count: int) -> None:
    # The server notes down from where a slot has to read again; it would do so by itself every few seconds.
    session.execute("checkpoint")
    for start in range(first, first + count, ROWS_PER_TRANSACTION):
        stop = min(start + ROWS_PER_TRANSACTION, first + count)
        session.execute(sql.SQL(_ROWS).format(start, stop))


def _bare_loop(session: psycopg.Connection, slot: str, decode: Callable[[Iterable[bytes]], tuple[int, int]]) -> int:
    """Peek, decode, move on: nothing is kept."""
    n_changes = 0
    while True:
        with session.transaction(), session.cursor("bare", binary=True) as cursor:
            cursor.itersize = FETCH_ROWS
            cursor.execute(PEEK, (slot, READ_MESSAGES, '"bench"'))
            n_decoded, end_lsn = decode(data for (data,) in cursor)
        if not end_lsn:
            return n_changes
        n_changes += n_decoded
        advance(session, slot, end_lsn, time.sleep)


def _decode_messages(messages: Iterable[bytes]) -> tuple[int, int]:
    """How many changes, and the end of the last transaction."""
    decoder, n_changes, end_lsn = PgoutputDecoder(), 0, 0
    for data in messages:
        message = decoder.decode(data)
        if isinstance(message, RowChange):
            n_changes += 1
        elif isinstance(message, Commit):
            end_lsn = message.end_lsn
    return n_changes, end_lsn


def _decode_rows(messages: Iterable[bytes]) -> tuple[int, int]:
    """As `_decode_messages`, every new row by the names of its columns."""
    decoder, n_changes, end_lsn = PgoutputDecoder(), 0, 0
    row: dict[str, Cell] = {}
    for data in messages:
        message = decoder.decode(data)
        if isinstance(message, RowChange):
            row = dict(zip(message.relation.columns, message.new or message.old or (), strict=True))
            n_changes += 1
        elif isinstance(message, Commit):
            end_lsn = message.end_lsn
    if n_changes and len(row) != N_COLUMNS:
        raise BrokenPromise("rows were not decoded as a whole", columns=len(row))
    return n_changes, end_lsn


class _FullDoor:
    """The door as `replenish follow postgres` runs it, on an empty root."""

    def __init__(self, dsn: str, root: Path) -> None:
        with connect(dsn) as session:
            session.execute(_TABLE)
            session.execute("create publication bench for table sales")
        (root / "bench.yaml").write_text(_DATASET)
        dataset, contracts = read_dataset(root / "bench.yaml"), read_contracts()
        self._journal = Journal(root / "journal.sqlite")
        self._writer = GroupCommit(self._journal, now_utc, max_pending_events=MAX_PENDING_EVENTS)
        self._door = EventDoor(dataset, contracts, self._writer, now_utc)
        self._tables = bind_tables(_SETTINGS, dataset, contracts, now_utc())
        args = (_SETTINGS, dsn, self._tables, self._door, self._writer, self._journal.records, now_utc, time.sleep)
        self._follower = PostgresFollower(*args)

    def __enter__(self) -> _FullDoor:
        self._follower.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._follower.close()
        self._writer.close()
        self._journal.close()

    def read_all(self) -> int:
        n_changes = 0
        while (report := self._follower.read_batch()).n_changes:
            n_changes += report.outcomes["accepted"]
        return n_changes
