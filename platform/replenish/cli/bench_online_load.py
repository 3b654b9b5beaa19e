"""The load of the online benchmark: a history in the log, and a process that goes on writing accepted events to it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from replenish.cli.deployment import now_utc
from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.model import Contract
from replenish.contracts.reader import read_contracts
from replenish.errors import BrokenPromise
from replenish.ingest.accepted_parts import write_part
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import EventOperation, OfferedEvent
from replenish.ingest.spool import split_by_month
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import FILE_ACCEPTED, JournalRecord
from replenish.stores.layout import RootLayout

N_STORES = 10
REQUEST_SECONDS = 0.01
"""Events are offered together that came in so much time; the first of them has waited as long."""
STOCK_RUN, STOCK_EVERY = 40, 10
"""Of ten runs of 40 events one counts stock, the others sell."""
LATE_SHARE, CORRECTED_SHARE, RETRACTED_SHARE = 0.05, 0.01, 0.01
_HISTORY_ROWS = 100_000
_RECENT_SALES = 20_000
_SALE_KEY = ("location_id", "sold_at", "sale_id")


class LoadSize(NamedTuple):
    """How much there is of everything."""

    n_keys: int
    n_days: int
    """Of history before the run."""
    sales_per_key_day: float


def write_history(layout: RootLayout, size: LoadSize, now: datetime) -> int:
    """Sales of the last days, two prices and a stock count of every key, as accepted files; the number of rows."""
    contracts, journal = read_contracts(), Journal(layout.journal)
    n_rows = 0
    try:
        for nr, (stream, frame) in enumerate(_history(size, now)):
            for start in range(0, frame.height, _HISTORY_ROWS):
                rows = _bronze(frame[start : start + _HISTORY_ROWS], contracts[stream])
                _append(journal, layout, contracts[stream], rows, f"history-{nr}-{start}", now)
                n_rows += rows.height
    finally:
        journal.close()
    return n_rows


def write_load(root: str, size: LoadSize, seconds: float, events_per_second: int, told: str, seed: int) -> None:
    """Journal events for so long, judged by their contract as at a door; `told` gets a line a group of them.

    A line has their feed, their places in the log, when each came and when they were acknowledged. The clock is the
    machine's monotonic one, which all processes share. Events are made before it starts: the sender's work is not ours.
    """
    layout = RootLayout(Path(root))
    made = list(_events(size, int(seconds * events_per_second), events_per_second, seed))
    journal, began, n_done = Journal(layout.journal), time.monotonic(), 0
    group = GroupCommit(journal, now_utc)
    door = EventDoor(read_dataset(layout.dataset_file), read_contracts(), group, now_utc)
    with Path(told).open("w", encoding="utf-8") as lines:
        while (now := time.monotonic()) - began < seconds:
            due = min(len(made), int((now - began) * events_per_second))
            if due > n_done:
                verdicts = door.offer(made[n_done:due])
                if any(verdict.outcome != "accepted" for verdict in verdicts):
                    raise BrokenPromise("an event of the load was not accepted", first=verdicts[0])
                line = {
                    "feeds": [event.feed_id for event in made[n_done:due]],
                    "seqs": [verdict.seq for verdict in verdicts],
                    "came": [round(began + (nr + 1) / events_per_second, 6) for nr in range(n_done, due)],
                    "acknowledged": time.monotonic(),
                }
                lines.write(json.dumps(line) + "\n")
                n_done = due
            time.sleep(max(0.0, REQUEST_SECONDS - (time.monotonic() - now)))
    group.close()
    journal.close()


def sku_of(number: int) -> tuple[str, str]:
    """(sku_id, location_id) of a key by number."""
    return f"sku-{number // N_STORES:06}", f"store-{number % N_STORES:02}"


def _history(size: LoadSize, now: datetime) -> Iterator[tuple[str, pl.DataFrame]]:
    draw, midnight = np.random.default_rng(1), now.replace(hour=0, minute=0, second=0, microsecond=0)
    n_sales = int(size.n_keys * size.n_days * size.sales_per_key_day)
    number, day = draw.integers(0, size.n_keys, n_sales), np.sort(draw.integers(1, size.n_days + 1, n_sales))[::-1]
    at = pl.lit(midnight) + pl.duration(hours=9) - pl.duration(days=pl.col("day"))
    sales = pl.DataFrame({"number": number, "day": day, "units": draw.integers(1, 9, n_sales)}).select(
        *_key_columns(),
        sold_at=at,
        sale_id=pl.format("h{}", pl.int_range(pl.len())),
        units="units",
        revenue_cents=pl.col("units") * 990,
        known=at + pl.duration(hours=1),
    )
    yield "sales", sales
    every = pl.DataFrame({"number": np.arange(size.n_keys)})
    for back in (20, 5):
        when = pl.lit(midnight - timedelta(days=back))
        yield (
            "prices",
            every.select(
                *_key_columns(), valid_from=when, unit_price_cents=990 + back, is_promotion=back == 5, known=when
            ),
        )
    when = pl.lit(midnight - timedelta(hours=30))
    yield (
        "stock_counts",
        every.select(*_key_columns(), counted_at=when, on_hand_units=pl.col("number") % 50, known=when),
    )


def _key_columns() -> list[pl.Expr]:
    number = pl.col("number")
    sku, store = (number // N_STORES).cast(pl.String).str.zfill(6), (number % N_STORES).cast(pl.String).str.zfill(2)
    return [(pl.lit("sku-") + sku).alias("sku_id"), (pl.lit("store-") + store).alias("location_id")]


def _events(size: LoadSize, n: int, events_per_second: int, seed: int) -> Iterator[OfferedEvent]:
    """The load: sales, and every tenth `STOCK_RUN` events a count of so many articles."""
    chooser, recent, start = np.random.default_rng(seed), list[dict[str, Any]](), datetime.now(UTC)
    for nr in range(n):
        feed = "events.stock_counts" if nr // STOCK_RUN % STOCK_EVERY == 0 else "events.sales"
        yield _event(feed, size, chooser, recent, f"r{seed}-{nr}", start + timedelta(seconds=nr / events_per_second))


def _event(
    feed: str, size: LoadSize, chooser: np.random.Generator, recent: list[dict[str, Any]], name: str, at: datetime
) -> OfferedEvent:
    """One event: a stock count, a sale of yesterday, a late one, a correction or a retraction."""
    sku_id, location_id = sku_of(int(chooser.integers(size.n_keys)))
    key = {"sku_id": sku_id, "location_id": location_id}
    if feed == "events.stock_counts":
        counted_at = (at - timedelta(milliseconds=int(chooser.integers(1000)))).isoformat()
        return _offered(feed, name, key | {"counted_at": counted_at, "on_hand_units": int(chooser.integers(60))})
    kind = chooser.random()
    if recent and kind < CORRECTED_SHARE + RETRACTED_SHARE:
        # Each is changed once.
        old = recent.pop(int(chooser.integers(len(recent))))
        if kind < CORRECTED_SHARE:
            return _offered(feed, name, old | {"units": old["units"] + 1})
        return _offered(feed, name, {field: old[field] for field in _SALE_KEY}, op="delete")
    late = int(chooser.integers(2, 20)) if kind > 1 - LATE_SHARE else 1
    sold_at = (at - timedelta(days=late)).isoformat()
    sale = key | {"sold_at": sold_at, "sale_id": name, "units": 1, "revenue_cents": 990}
    if len(recent) < _RECENT_SALES:
        recent.append(sale)
    return _offered(feed, name, sale)


def _offered(feed: str, name: str, fields: dict[str, Any], op: EventOperation = "upsert") -> OfferedEvent:
    return OfferedEvent("bench", name, feed, op, json.dumps(fields).encode())


def _bronze(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Rows with `known` as bronze rows of the stream; dates are those of UTC."""
    event, known = pl.col(contract.event_time).cast(pl.Datetime("us", "UTC")), pl.col("known")
    rows = rows.with_columns(
        event_time=event,
        event_date=event.dt.date(),
        knowledge_time=known.cast(pl.Datetime("us", "UTC")),
        knowledge_date=known.dt.date(),
        row_nr=pl.int_range(pl.len(), dtype=pl.Int64),
    )
    flags = ("is_retraction", "is_cancellation", "is_correction")
    rows = rows.with_columns(pl.lit(False).alias(flag) for flag in flags)
    absent = [pl.lit(None).alias(name) for name in contract.bronze_schema if name not in rows.columns]
    return rows.with_columns(absent).select(pl.col(n).cast(t) for n, t in contract.bronze_schema.items())


def _append(
    journal: Journal, layout: RootLayout, contract: Contract, rows: pl.DataFrame, name: str, at: datetime
) -> None:
    """Write the parts of a file and the record that lists them, as a door does once its rows are judged."""
    parts = [
        write_part(of_month, contract, month, name, layout.accepted).as_json()
        for month, of_month in split_by_month(rows)
    ]
    data: dict[str, object] = {"feed": contract.stream, "parts": parts, "accepted": rows.height}
    journal.append(
        JournalRecord("bench", name, FILE_ACCEPTED, "bench", at, f"{contract.stream}@{contract.version}", data)
    )
