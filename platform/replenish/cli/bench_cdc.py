"""The CDC benchmark: changes per second through the whole door, against a bare loop of peek and decode.

Both loops read equal changes from the same server, batch for batch, and move the slot on. The bare loop decodes every
change into an event with id and JSON body, and keeps nothing. The door does beside that what it is for: contract, hash
chain, a durable commit. Rounds alternate, so that a busy machine slows both. `protocol_changes_per_s` is a third loop,
for the record: messages are decoded and nothing is made of them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import psycopg
from psycopg import sql

from replenish.cli.deployment import now_utc
from replenish.cli.follow import tune_process
from replenish.cli.postgres_server import running_postgres
from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.doors import PostgresSettings
from replenish.contracts.reader import read_contracts
from replenish.errors import BrokenPromise
from replenish.ingest.cdc.change_reader import ChangeReader
from replenish.ingest.cdc.follower import FETCH_ROWS, PEEK_CHANGES, PostgresFollower
from replenish.ingest.cdc.journalling import PIECE_EVENTS
from replenish.ingest.cdc.pgoutput import Commit, PgoutputDecoder, RowChange
from replenish.ingest.cdc.slot import PEEK, advance, connect
from replenish.ingest.cdc.source_tables import bind_tables
from replenish.ingest.events.event_door import EventDoor
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal import Journal

ROWS_PER_TRANSACTION = 100
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


def run_cdc_bench(n_changes: int = 100_000, rounds: int = 3) -> dict[str, object]:
    """Measure both loops on `n_changes` inserts a round; medians of the rounds.

    Returns:
        Named figures: changes per second of the bare loop and of the door, and their ratio (1 = as fast).
    """
    read_with = {"protocol": _decode_messages, "bare": _decode_events}
    rates: dict[str, list[float]] = {"protocol": [], "bare": [], "door": []}
    tune_process()
    with (
        running_postgres() as dsn,
        tempfile.TemporaryDirectory(prefix="replenish-bench-") as scratch,
        connect(dsn) as session,
        _FullDoor(dsn, Path(scratch)) as door,
    ):
        for slot in read_with:
            session.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
        for number in range(rounds):
            _write_changes(session, number * n_changes, n_changes)
            for slot, decode in read_with.items():
                spent = _seconds(partial(_bare_loop, session, slot, partial(decode, door)), n_changes)
                rates[slot].append(n_changes / spent)
            rates["door"].append(n_changes / _seconds(door.read_all, n_changes))
    ratios = [full / bare for full, bare in zip(rates["door"], rates["bare"], strict=True)]
    return {
        "changes": n_changes,
        "rounds": rounds,
        "rows_per_transaction": ROWS_PER_TRANSACTION,
        **{f"{name}_changes_per_s": statistics.median(values) for name, values in rates.items()},
        "door_to_bare_ratio": statistics.median(ratios),
    }


def _seconds(read_all: Callable[[], int], n_changes: int) -> float:
    started = time.monotonic()
    n_read = read_all()
    spent = time.monotonic() - started
    if n_read != n_changes:
        raise BrokenPromise("a loop did not read every change once", read=n_read, written=n_changes)
    return spent


def _write_changes(session: psycopg.Connection, first: int, count: int) -> None:
    for start in range(first, first + count, ROWS_PER_TRANSACTION):
        stop = min(start + ROWS_PER_TRANSACTION, first + count)
        session.execute(sql.SQL(_ROWS).format(start, stop))


def _bare_loop(session: psycopg.Connection, slot: str, decode: Callable[[Iterable[bytes]], tuple[int, int]]) -> int:
    """Peek, decode, move on: nothing is kept."""
    n_changes = 0
    while True:
        with session.transaction(), session.cursor("bare", binary=True) as cursor:
            cursor.itersize = FETCH_ROWS
            cursor.execute(PEEK, (slot, PEEK_CHANGES, '"bench"'))
            n_decoded, end_lsn = decode(data for (data,) in cursor)
        if not end_lsn:
            return n_changes
        n_changes += n_decoded
        advance(session, slot, end_lsn, time.sleep)


def _decode_events(door: _FullDoor, messages: Iterable[bytes]) -> tuple[int, int]:
    """Changes as events; how many, and the end of the last transaction."""
    reader = door.reader()
    for data in messages:
        reader.take(data)
        if reader.is_between_transactions and len(reader.events) >= PIECE_EVENTS:
            reader.drain()
    return reader.n_changes, reader.end_lsn or 0


def _decode_messages(door: _FullDoor, messages: Iterable[bytes]) -> tuple[int, int]:
    decoder, n_changes, end_lsn = PgoutputDecoder(), 0, 0
    for data in messages:
        message = decoder.decode(data)
        if isinstance(message, Commit):
            end_lsn = message.end_lsn
        elif isinstance(message, RowChange):
            n_changes += 1
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
        self._writer = GroupCommit(self._journal, now_utc)
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

    def reader(self) -> ChangeReader:
        return ChangeReader("postgres:bench", self._tables, self._door, self._journal.records, lambda: None)

    def read_all(self) -> int:
        n_changes = 0
        while (report := self._follower.read_batch()).n_changes:
            n_changes += report.outcomes["accepted"]
        return n_changes
