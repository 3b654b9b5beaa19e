"""A deployment to poison, and the look at what it accepted."""

from __future__ import annotations

from datetime import UTC, datetime, time

from replenish.contracts.dataset import ColumnRule, Dataset, Feed, FileFormat, KnowledgeRule
from replenish.contracts.dataset_writer import write_dataset
from replenish.contracts.reader import read_contracts
from replenish.history.bronze import append_bronze, bronze_table
from replenish.ingest.reasons import REASONS
from replenish.ingest.settle import settle_events
from replenish.stores.journal import Journal
from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout
from tests.poison.facts import Fact
from tests.poison.judge import Tally, judge_reasons, judge_rows

NOW = datetime(2026, 12, 2, tzinfo=UTC)
CONTRACT = read_contracts()["sales"]
NAMES = ("location_id", "sold_at", "sale_id", "sku_id", "units", "revenue_cents")


def poison_feed(file_type: str) -> Feed:
    """A feed that maps each column to the contract's column of the same name."""
    return Feed(
        feed_id=f"poison.{file_type}",
        stream="sales",
        files=(f"*.{file_type}",),
        format=FileFormat(type=file_type),  # type: ignore[arg-type]
        zone="Europe/Berlin",
        columns={name: ColumnRule(column=name) for name in NAMES},
        knowledge=KnowledgeRule("column", column="knowledge_time"),
    )


DATASET = Dataset(
    "poison",
    "Europe/Berlin",
    time(6),
    "demo",
    None,
    tuple(poison_feed(kind) for kind in ("csv", "jsonl", "parquet")),
)


def prepare_root(layout: RootLayout) -> None:
    """Lay out an empty deployment."""
    layout.drop.mkdir(parents=True)
    write_dataset(DATASET, layout.dataset_file)


def judge_settled(layout: RootLayout, acceptable: dict[str, Fact], tally: Tally) -> None:
    """Settle what was journalled, take it to bronze, and judge rows and reasons."""
    journal = Journal(layout.journal)
    settle_events(DATASET, read_contracts(), journal, layout, now=NOW)
    judge_reasons((letter.reason for letter in journal.dead_letters()), REASONS, tally)
    lake = DeltaLake(layout.lake)
    append_bronze("sales", CONTRACT, journal, layout, lake)
    judge_rows(lake.read(bronze_table("sales")), acceptable, tally)
    journal.close()
