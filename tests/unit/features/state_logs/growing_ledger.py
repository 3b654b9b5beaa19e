"""A silver table that grows as statements arrive, out of the order of their knowledge too, written as silver writes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from replenish.features.state_logs.definition import PostingsTable, StateLogDefinition
from replenish.stores.lake import DeltaLake
from tests.oracle.frames import ENTITY, fact_key, ledger_frame, ledger_rows
from tests.oracle.histories import History, Seeded, Setting, Statement, draw_history, draw_setting

TABLE = "silver/ledger"
SOURCE = PostingsTable(TABLE)
MONTH = "event_month"


def drawn_histories(seed: int, n_histories: int = 6) -> tuple[Setting, list[History]]:
    """A setting and histories of different entities."""
    chooser = Seeded(seed)
    setting = draw_setting(chooser)
    return setting, [draw_history(chooser, setting, number) for number in range(n_histories)]


def log_of(setting: Setting) -> StateLogDefinition:
    """The log of the generic ledger's values in a setting."""
    values = (("cents", "integer"), ("channel", "string"), ("units", "integer"))
    return StateLogDefinition("ledger", "ledger", ENTITY[: setting.n_entity], fact_key(setting), values)  # type: ignore[arg-type]


def ledgers_by_arrival(setting: Setting, histories: list[History], seed: int, n_steps: int) -> Iterator[pl.DataFrame]:
    """The whole ledger after each step: first the older half in one go, then the rest in random cuts.

    Statements arrive in order of knowledge but for a few that arrive at any time, so that versions shift their numbers
    and postings have to go.
    """
    chance = random.Random(seed)
    said = [(nr, s) for nr, history in enumerate(histories) for s in history.statements]
    place = {id(s): s.knowledge_time.timestamp() for _, s in said}
    for _, s in said:
        if chance.random() < 0.1:
            place[id(s)] = place[id(chance.choice(said)[1])]
    said.sort(key=lambda one: place[id(one[1])])
    cuts = sorted(chance.sample(range(len(said) // 2, len(said) + 1), min(n_steps, len(said) // 2)))
    for cut in cuts or [len(said)]:
        yield ledger_of_arrived(setting, histories, said[:cut])


def ledger_of_arrived(setting: Setting, histories: list[History], arrived: list[tuple[int, Statement]]) -> pl.DataFrame:
    """The ledger that silver would hold after these statements."""
    rows = []
    for nr, history in enumerate(histories):
        statements = tuple(s for of, s in arrived if of == nr)
        rows += ledger_rows(replace(history, statements=statements), setting)
    month = pl.col("event_date").dt.year() * 100 + pl.col("event_date").dt.month().cast(pl.Int32)
    return ledger_frame(rows).with_columns(month.cast(pl.Int32).alias(MONTH))


def write_as_silver(lake: DeltaLake, ledger: pl.DataFrame, table: str = TABLE) -> int:
    """Append what came, or write the months anew in which a posting has to go; rows that were rewritten."""
    if not lake.has(table):
        lake.append(table, ledger, partition_by=[MONTH])
        return 0
    before = lake.read(table).select(ledger.columns)
    signed = [frame.with_columns(sign=pl.lit(sign)) for frame, sign in ((ledger, 1), (before, -1))]
    net = pl.concat(signed).group_by(ledger.columns).agg(pl.col("sign").sum())
    came, gone = (net.filter(pl.col("sign") == sign).drop("sign") for sign in (1, -1))
    if gone.is_empty():
        lake.append(table, came)
        return 0
    months = sorted({*came[MONTH], *gone[MONTH]})
    lake.replace_partitions(table, ledger.filter(pl.col(MONTH).is_in(months)), column=MONTH, values=months)
    return gone.height
