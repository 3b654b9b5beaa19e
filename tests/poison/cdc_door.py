"""Poisoned rows of a real PostgreSQL through the follower, and damaged protocol messages into its decoder."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from replenish.cli.postgres_server import running_postgres
from replenish.contracts.dataset import Dataset
from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.reader import read_contracts
from replenish.errors import SourceFault
from replenish.history.bronze import append_bronze, bronze_table
from replenish.ingest.cdc.pgoutput import PgoutputDecoder
from replenish.ingest.reasons import REASONS
from replenish.ingest.settle import settle_events
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EVENT_DEAD, EVENT_UPSERT
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout
from tests.poison.facts import Fact, sound_fact
from tests.poison.file_poison import HEADER, KNOWN, MONEY, SKU, SOLD, UNITS, fields_of
from tests.poison.judge import Tally, judge_reasons, judge_rows, run_watched
from tests.poison.root import CONTRACT, NOW

COLUMNS = HEADER.split(",")
DATASET = f"""
dataset_id: poison
zone: Europe/Berlin
feeds:
  - feed_id: poison.sales
    stream: sales
    door: events
    columns: {{{", ".join(f"{name}: {name}" for name in COLUMNS[:-1])}}}
    knowledge: {{source: column, column: knowledge_time}}
    ignore_columns: [__table]
"""
DOORS = """
postgres:
  - {name: erp, dsn_variable: ERP_DSN, slot: poison, publication: poison, tables: {public.sales: poison.sales}}
"""
BAD_VALUES: list[tuple[int, tuple[str | None, ...]]] = [
    (
        UNITS,
        ("NaN", "Infinity", "1e999", "1.5", "2.0000001", "1e-7", "-1", "five", "", " ", "0x10", "1_000", "١٢", "𝟝"),
    ),
    (UNITS, (str(2**63), "9" * 30, "9" * 400, "--5", "true", "{1}", "[1,2)", None)),
    (MONEY, ("$5", "1.000,50", "1e30", "9" * 45, "-1", "NaN", "5 EUR")),
    (SOLD, ("2025-02-30 10:00:00+00", "infinity", "-infinity", "0044-03-15 10:00:00+00 BC", "yesterday", "", None)),
    (SOLD, ("294276-12-31 23:59:59+00", "2025-01-10 25:00:00+00", "2025-01-10 10:00:00+25", "9999-12-31 00:00:00+00")),
    (KNOWN, ("", "x", None, "2025-02-30 00:00:00+00", "infinity")),
    (SKU, ("", " A1", "A1 ", "\t", "A\x01B", "A\x1b[31m", "\x7f", None)),
]
SOUND_TEXTS = ("=1+1", "@SUM(A1)", "x' OR '1'='1", 'a"b', "А1", "A\u202e1", "\U0001f600", "\\N", "NULL", "{}", "A\nB")


def _row(rng: Random, fact: Fact, tally: Tally) -> tuple[list[str | None], Fact | None]:
    fields: list[str | None] = list(fields_of(fact))
    draw = rng.random()
    if draw >= 0.4:
        return fields, fact
    tally.inputs += 1
    if draw < 0.05:
        text = rng.choice(SOUND_TEXTS)
        fields[SKU] = text
        return fields, fact.but(sku_id=text)
    column, values = rng.choice(BAD_VALUES)
    fields[column] = rng.choice(values)
    return fields, None


def poison_cdc_door(folder: Path, n_inputs: int, seed: int) -> Tally:
    """Half the inputs as rows of a table of texts (snapshot and stream), half as damaged messages."""
    rng, tally = Random(seed), Tally("cdc")
    layout = RootLayout(folder / "cdc")
    layout.root.mkdir(parents=True)
    layout.dataset_file.write_text(DATASET)
    layout.doors_file.write_text(DOORS)
    acceptable: dict[str, Fact] = {}
    n_rows = 0
    peaks: list[float] = []
    with running_postgres() as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"create table sales (nr integer primary key, {' text, '.join(COLUMNS)} text)")  # type: ignore[arg-type]
        connection.execute("alter table sales replica identity full")
        connection.execute("create publication poison for table sales")
        for until in (n_inputs // 6, n_inputs // 3, n_inputs // 2):
            while tally.inputs < until:
                rows = []
                for _ in range(500):
                    n_rows += 1
                    fact = sound_fact(n_rows, rng)
                    fields, as_fact = _row(rng, fact, tally)
                    rows.append((n_rows, *fields))
                    if as_fact is not None:
                        acceptable[fact.sale_id] = as_fact
                with connection.cursor() as cursor, cursor.copy("copy sales from stdin") as copy:
                    for row in rows:
                        copy.write_row(row)
            peaks.append(_follow(layout, dsn, tally))
        messages = _messages_of(connection)
    tally.grown_mb = max(peaks) - peaks[0]
    _judge(layout, n_rows, acceptable, tally)
    _damage_messages(messages, rng, tally, n_inputs)
    return tally


def _follow(layout: RootLayout, dsn: str, tally: Tally) -> float:
    """Follow to the end; the greatest memory of the follower, in MB."""
    command = [str(Path(sys.executable).with_name("replenish")), "follow", "postgres", "erp", "--once"]
    code, _, errors, peak_mb = run_watched(command, {"REPLENISH_ROOT": str(layout.root), "ERP_DSN": dsn})
    if code:
        tally.blame(f"follow postgres ended with {code}: {errors[-500:]}")
    return peak_mb


def _judge(layout: RootLayout, n_rows: int, acceptable: dict[str, Fact], tally: Tally) -> None:
    dataset: Dataset = read_dataset(layout.dataset_file)
    journal = Journal(layout.journal)
    kinds = [record.type for record in journal.records()]
    accepted, dead = kinds.count(EVENT_UPSERT), kinds.count(EVENT_DEAD)
    tally.count(accepted, dead, 0, n_rows, "rows of the table")
    settle_events(dataset, read_contracts(), journal, layout, now=NOW)
    judge_reasons((letter.reason for letter in journal.dead_letters()), REASONS, tally)
    lake = DeltaLake(layout.lake)
    append_bronze("sales", CONTRACT, journal, layout, lake)
    judge_rows(lake.read(bronze_table("sales")), acceptable, tally)
    journal.close()


def _messages_of(connection: psycopg.Connection[Any]) -> list[bytes]:
    """Sound protocol messages of a small transaction, to be damaged."""
    connection.execute("select pg_create_logical_replication_slot('damage', 'pgoutput')")
    connection.execute("insert into sales select nr + 10000000, 'S1', sold_at, sale_id from sales limit 20")
    connection.execute("update sales set units = '9' where nr > 10000000")
    connection.execute("delete from sales where nr > 10000000")
    query = (
        "select data from pg_logical_slot_get_binary_changes"
        "('damage', null, null, 'proto_version', '1', 'publication_names', 'poison')"
    )
    return [bytes(row[0]) for row in connection.execute(query).fetchall()]


def _damage_messages(messages: list[bytes], rng: Random, tally: Tally, n_inputs: int) -> None:
    """Whatever bytes come, the decoder reads them or says that they break the protocol."""
    refused = 0
    while tally.inputs < n_inputs:
        tally.inputs += 1
        decoder = PgoutputDecoder()
        for message in messages[:2]:
            decoder.decode(message)
        message = bytearray(rng.choice(messages))
        for _ in range(rng.randint(1, 4)):
            message[rng.randrange(len(message))] = rng.randrange(256)
        damaged = bytes(message[: rng.choice([len(message), rng.randint(0, len(message))])])
        try:
            decoder.decode(damaged)
        except SourceFault:
            refused += 1
        except Exception as error:
            tally.blame(f"the decoder raised {error!r} at {damaged[:60]!r}")
    tally.refused = refused
