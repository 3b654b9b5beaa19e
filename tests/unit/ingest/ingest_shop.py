"""A small sales stream to offer files to: contract, feed and a deployment in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path

import polars as pl

from replenish.contracts.dataset import ColumnRule, Dataset, Feed, FileFormat, KnowledgeRule, RowTest
from replenish.contracts.model import Column, Contract, ServiceLevel
from replenish.ingest.accepted_parts import parts_of
from replenish.ingest.door import ingest_file, ingest_folder
from replenish.ingest.verdict import FileVerdict, IngestReport
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import PART_BEARING
from replenish.stores.layout import RootLayout

NOW = datetime(2025, 2, 4, 5, tzinfo=UTC)
HEADER = "shop,time,receipt,article,qty,price,op,known"

SALES = Contract(
    stream="sales",
    version="1.0.0",
    description="Sales lines.",
    owner="sales@example.org",
    escalation="duty@example.org",
    runbook="docs/runbooks/sales.md",
    columns=(
        Column("location_id", "string", "Shop", is_required=True),
        Column("sold_at", "timestamp", "When", is_required=True),
        Column("sale_id", "string", "Receipt", is_required=True),
        Column("sku_id", "string", "Article", is_required=True),
        Column("units", "integer", "Sold", is_required=True, unit="units", minimum=0, is_additive=True),
        Column("revenue_cents", "integer", "Takings", unit="cents", minimum=0, is_additive=True),
    ),
    fact_key=("location_id", "sold_at", "sale_id"),
    event_time="sold_at",
    is_reference=False,
    max_dead_share=0.5,
    sla=ServiceLevel(26, 50, "tier_1"),
    retention_days=3650,
)

FEED = Feed(
    feed_id="shop.sales",
    stream="sales",
    files=("sales*",),
    format=FileFormat(),
    zone="Europe/Berlin",
    columns={
        "location_id": ColumnRule(column="shop"),
        "sold_at": ColumnRule(column="time"),
        "sale_id": ColumnRule(column="receipt"),
        "sku_id": ColumnRule(column="article"),
        "units": ColumnRule(column="qty"),
        "revenue_cents": ColumnRule(column="price", factor=100),
    },
    knowledge=KnowledgeRule("column", column="known"),
    retraction=RowTest(column="op", equals="D"),
)


class Shop:
    """A deployment under one folder; every `offer` is a new file."""

    def __init__(self, root: Path, feed: Feed = FEED, contract: Contract = SALES) -> None:
        self.layout = RootLayout(root)
        self.layout.drop.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(self.layout.journal)
        self.feed, self.contract = feed, contract
        self.dataset = Dataset("shop", "Europe/Berlin", time(6), "demo", None, (feed,))
        self._n_files = 0

    def offer(self, content: bytes | str, name: str | None = None, *, feed: Feed | None = None) -> FileVerdict:
        self._n_files += 1
        path = self.layout.drop / (name or f"sales-{self._n_files}.csv")
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return ingest_file(path, feed or self.feed, self.contract, self.dataset, self.journal, self.layout, now=NOW)

    def ingest(self) -> IngestReport:
        return ingest_folder(
            self.layout.drop, self.dataset, {"sales": self.contract}, self.journal, self.layout, now=NOW
        )

    def accepted(self) -> pl.DataFrame:
        empty = pl.DataFrame(schema=self.contract.bronze_schema)
        frames = [
            pl.read_parquet(self.layout.accepted / part.path).with_columns(pl.lit(part.seq).alias("journal_seq"))
            for record in self.journal.records(type=PART_BEARING)
            for part in parts_of(record)
            if part.kept_until is None
        ]
        return pl.concat(
            [empty, *(frame.cast({"journal_seq": pl.Int64}).select(empty.columns) for frame in frames)]
        ).sort("journal_seq", "row_nr")

    def reasons(self) -> list[tuple[int | None, str, str | None]]:
        return [(d.row_nr, d.reason, d.field) for d in self.journal.dead_letters()]


def line(
    receipt: str = "r1",
    *,
    shop: str = "S1",
    time: str = "2025-01-10T12:00:00",
    article: str = "A1",
    qty: object = 2,
    price: object = "1.50",
    op: str = "I",
    known: str = "2025-01-10T18:00:00",
) -> str:
    return f"{shop},{time},{receipt},{article},{qty},{price},{op},{known}"


def csv(lines: Sequence[str], header: str = HEADER, end: str = "\n") -> str:
    return end.join([header, *lines, ""])


def feed_with(**changes: object) -> Feed:
    return replace(FEED, **changes)  # type: ignore[arg-type]
