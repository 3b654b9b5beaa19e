"""A source database, a deployment that follows it, and the answer: what the log says the table holds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import psycopg

from replenish.cli.deployment import Deployment, open_deployment
from replenish.contracts.doors import read_doors
from replenish.history.bronze import append_bronze
from replenish.history.silver import update_silver
from replenish.ingest.cdc.follower import BatchReport, PostgresFollower
from replenish.ingest.cdc.source_tables import bind_tables
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.settle import settle_events
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EVENT_DELETE, EVENT_UPSERT

PROGRAM = "from replenish.cli.entry import start; start()"
SALES = """
create table sales (
    shop text not null, sold_at timestamptz not null, id integer not null, article text not null,
    qty integer not null, amount numeric(12, 2), note text,
    primary key (shop, sold_at, id)
);
"""
DATASET = """
dataset_id: erp
zone: UTC
feeds:
  - feed_id: erp.sales
    stream: sales
    door: events
    columns:
      location_id: shop
      sold_at: sold_at
      sale_id: id
      sku_id: article
      units: qty
      revenue_cents: {column: amount, factor: 100}
    knowledge: {source: column, column: __commit_time}
    ignore_columns: [__table]
  - feed_id: erp.stock
    stream: stock_counts
    door: events
    columns: {sku_id: article, location_id: shop, counted_at: counted_at, on_hand_units: on_hand}
    knowledge: {source: column, column: __commit_time}
    ignore_columns: [__table]
"""
DOORS = """
postgres:
  - {name: erp, dsn_variable: ERP_DSN, slot: replenish_erp, publication: replenish_erp, tables: {TABLES}}
"""


def sale(id: int, *, qty: int = 1, article: str = "A1", amount: str | None = "1.50", note: str | None = None) -> str:
    values = [f"'S{id % 3}'", "'2025-01-10T12:00:00Z'", str(id), f"'{article}'", str(qty), amount or "null"]
    return f"({', '.join(values)}, {'null' if note is None else repr(note)})"


class SourceWorld:
    """One database with one follower's deployment. `sql` runs a statement, or several as one transaction."""

    def __init__(self, dsn: str, root: Path, *, tables: str = "{public.sales: erp.sales}", schema: str = SALES) -> None:
        self.dsn, self.root = dsn, root
        root.mkdir(parents=True, exist_ok=True)
        (root / "dataset.yaml").write_text(DATASET)
        (root / "doors.yaml").write_text(DOORS.replace("{TABLES}", tables))
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.sql(schema)

    def sql(self, *statements: str) -> None:
        with self.connection.transaction():
            for statement in statements:
                self.connection.execute(statement)  # type: ignore[arg-type]

    def publish(self, tables: str = "sales", options: str = "") -> None:
        self.sql(f"create publication replenish_erp for table {tables} {options}")

    def slots(self) -> list[str]:
        """Lasting slots of this database."""
        query = "select slot_name from pg_replication_slots where database = current_database() and not temporary"
        return [name for (name,) in self.connection.execute(query)]

    @property
    def deployment(self) -> Deployment:
        return open_deployment(self.root)

    @contextmanager
    def follower(self) -> Iterator[PostgresFollower]:
        deployment = self.deployment
        settings = read_doors(deployment.layout.doors_file).postgres[0]
        with self.journal() as journal:
            writer = GroupCommit(journal, lambda: datetime.now(UTC))
            door = EventDoor(deployment.dataset, deployment.contracts, writer, lambda: datetime.now(UTC))
            tables = bind_tables(settings, deployment.dataset, deployment.contracts, datetime.now(UTC))
            clock = lambda: datetime.now(UTC)  # noqa: E731
            follower = PostgresFollower(settings, self.dsn, tables, door, writer, journal.records, clock, time.sleep)
            try:
                yield follower
            finally:
                follower.close()
                writer.close()

    def follow(self) -> list[BatchReport]:
        """A follower from its start until nothing is left."""
        with self.follower() as follower:
            reports = [follower.start()]
            while (report := follower.read_batch()).n_changes:
                reports.append(report)
        return reports

    def command(self, *arguments: str, failpoint: str = "") -> subprocess.CompletedProcess[str]:
        """`replenish` with these arguments in a process of its own."""
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments], env=self.environment(failpoint),
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def environment(self, failpoint: str = "") -> dict[str, str]:
        named = {"REPLENISH_ROOT": str(self.root), "ERP_DSN": self.dsn, "REPLENISH_FAILPOINT": failpoint}
        return {**os.environ, **named, "REPLENISH_FAILPOINT_LOG": str(self.root / "fired")}

    @contextmanager
    def journal(self) -> Iterator[Journal]:
        journal = Journal(self.deployment.layout.journal)
        try:
            yield journal
        finally:
            journal.close()

    def silver(self, stream: str = "sales") -> pl.DataFrame:
        """Facts that hold now, after settling, bronze and silver: contract columns."""
        deployment = self.deployment
        with self.journal() as journal:
            layout, dataset, contract = deployment.layout, deployment.dataset, deployment.contracts[stream]
            settle_events(dataset, deployment.contracts, journal, layout, now=datetime.now(UTC))
            append_bronze(stream, contract, journal, layout, deployment.lake)
        update_silver(contract, dataset, deployment.lake)
        posted = deployment.lake.read(f"silver/{stream}").group_by(contract.names).agg(pl.col("posting_sign").sum())
        assert set(posted["posting_sign"]) <= {0, 1}
        return posted.filter(pl.col("posting_sign") == 1).sort(contract.fact_key)

    def events(self) -> list[tuple[str, str, dict[str, Any]]]:
        """(id, `upsert` or `delete`, body) of each accepted event in log order."""
        with self.journal() as journal:
            kinds = {EVENT_UPSERT: "upsert", EVENT_DELETE: "delete"}
            return [(r.id, kinds[r.type], r.data) for r in journal.records() if r.type in kinds]

    def dead(self) -> list[tuple[str, str]]:
        """(feed, reason) of each dead letter."""
        with self.journal() as journal:
            return [(letter.feed_id, letter.reason) for letter in journal.dead_letters()]

    def held(self, key: tuple[str, ...] = ("shop", "sold_at", "id")) -> list[dict[str, Any]]:
        """Rows that the log says are there, by key, without reserved fields."""
        rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        for _, kind, body in self.events():
            place = tuple(body[name] for name in key)
            if kind == "upsert":
                rows[place] = {name: value for name, value in body.items() if not name.startswith("__")}
            else:
                rows.pop(place)
        return [rows[place] for place in sorted(rows)]

    def table(self, name: str = "sales", key: tuple[str, ...] = ("shop", "sold_at", "id")) -> list[dict[str, Any]]:
        """Rows of the source's table as text, by key; instants (columns `..._at`) with their offset in full."""
        self.connection.execute("set timezone = 'UTC'")
        described = self.connection.execute(f"select * from {name} limit 0").description  # type: ignore[arg-type]
        names = [column.name for column in described or ()]
        with self.connection.cursor().copy(f"copy (select * from {name}) to stdout") as copy:  # type: ignore[arg-type]
            rows = [dict(zip(names, row, strict=True)) for row in copy.rows()]
        told = [{n: f"{v}:00" if n.endswith("_at") and v else v for n, v in row.items()} for row in rows]
        return sorted(told, key=lambda row: tuple(str(row[column]) for column in key))
