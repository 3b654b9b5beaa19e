"""A small retailer whose facts come by file and as single events, and the questions put to its twin."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from replenish.bitemporal import origin_instant
from replenish.cli.demo import lay_out_retailer
from replenish.cli.deployment import Deployment, open_deployment
from replenish.cli.stages import build_gold_tables, run_to_silver
from replenish.features.definitions.model import FeatureSet
from replenish.history.bronze import append_bronze
from replenish.history.silver import update_silver
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import OfferedEvent
from replenish.ingest.settle import settle_events
from replenish.outcomes.retailer_plan import RetailerPlan
from replenish.stores.group_commit import GroupCommit

PLAN = RetailerPlan(seed=11, n_skus=6, n_locations=2, n_days=75, first_date=date(2024, 2, 1), n_extra_days=0)
LAST_DAY = PLAN.first_date + timedelta(days=PLAN.n_days)
TOLD_EARLIER = 0.3
"""Share of the changes that name a knowledge time long before they arrive."""


class OnlineWorld:
    """One root. Files first, as `settle_files` takes them in; then `send` and `settle` as often as one likes."""

    def __init__(self, root: Path, plan: RetailerPlan = PLAN) -> None:
        self.last_day = plan.first_date + timedelta(days=plan.n_days)
        self.layout = lay_out_retailer(root, plan)
        self.deployment: Deployment = open_deployment(root)
        self._n_sent = 0

    def take_files(self) -> None:
        """Every file of the drop folder into bronze and silver."""
        run_to_silver(self.deployment, now=datetime(2026, 1, 1, tzinfo=UTC))

    def sales(self) -> list[dict[str, Any]]:
        """Sales lines that were accepted from files, by day of sale."""
        rows = self.deployment.lake.read("silver/sales").filter(pl.col("posting_kind") == "version")
        return rows.sort("sold_at", "sale_id").to_dicts()

    def send(self, events: Sequence[OfferedEvent], at: datetime) -> None:
        """Offer single events, arriving at an instant."""
        journal = self.deployment.journal
        group = GroupCommit(journal, lambda: at)
        try:
            EventDoor(self.deployment.dataset, self.deployment.contracts, group, lambda: at).offer(events)
        finally:
            group.close()
            journal.close()

    def settle(self, at: datetime) -> None:
        """Make the events that wait into facts; silver is left behind."""
        dataset, contracts, layout = self.deployment.dataset, self.deployment.contracts, self.deployment.layout
        journal = self.deployment.journal
        settle_events(dataset, contracts, journal, layout, now=at)
        journal.close()

    def change_some_sales(
        self, seed: int, n_events: int, at: datetime, *, told_earlier: float = TOLD_EARLIER, until: date | None = None
    ) -> None:
        """Correct, take back and add sales (those up to a day) as single events."""
        chooser = random.Random(seed)
        old = [sale for sale in self.sales() if until is None or sale["event_date"] <= until]
        events = []
        for _ in range(n_events):
            sale = chooser.choice(old)
            key = {"location_id": sale["location_id"], "sold_at": _iso(sale["sold_at"]), "sale_id": sale["sale_id"]}
            kind = chooser.choice(("correct", "correct", "retract", "new", "new"))
            self._n_sent += 1
            if kind == "new":
                key["sale_id"] = f"e{seed}-{self._n_sent}"
            told = key | {"sku_id": sale["sku_id"], "units": chooser.randint(1, 9), "revenue_cents": 990}
            if chooser.random() < told_earlier:
                told["knowledge_time"] = key["knowledge_time"] = _iso(at - timedelta(days=chooser.randint(1, 20)))
            body = json.dumps(key if kind == "retract" else told).encode()
            op = "delete" if kind == "retract" else "upsert"
            events.append(OfferedEvent("tills", f"{seed}-{self._n_sent}", "events.sales", op, body, offset="1"))  # type: ignore[arg-type]
        self.send(events, at)

    def cutoffs(self, n_days: int) -> list[datetime]:
        """The cut-offs of the last days, ascending."""
        dataset = self.deployment.dataset
        days = [self.last_day - timedelta(days=back) for back in range(n_days, 0, -1)]
        return [origin_instant(day, dataset.zone, dataset.cutoff) for day in days]

    def build_lake(self) -> None:
        """Bronze, silver and gold up to date with the log."""
        deployment = self.deployment
        for stream, contract in deployment.contracts.items():
            append_bronze(stream, contract, deployment.journal, deployment.layout, deployment.lake)
            update_silver(contract, deployment.dataset, deployment.lake)
        build_gold_tables(deployment.lake, deployment.layout.root / "dbt")

    def gold_ledgers(self, feature_set: FeatureSet) -> dict[str, pl.DataFrame]:
        """Gold's facts with the casts that the set's sources declare."""
        found = {}
        for source in feature_set.sources:
            gold = self.deployment.lake.read(source.table)
            flags = [
                c.name for c in source.columns if c.logical_type == "integer" and gold.schema[c.name] == pl.Boolean
            ]
            found[source.name] = gold.with_columns(pl.col(name).cast(pl.Int64) for name in flags)
        return found

    def keys(self) -> list[tuple[str, str]]:
        """(sku_id, location_id) of every series, and one that nobody knows."""
        known = self.deployment.lake.read("silver/stock_counts").select("sku_id", "location_id").unique().sort(pl.all())
        return [*known.rows(), ("nothing", "nowhere")]


@contextmanager
def online_world(root: Path) -> Iterator[OnlineWorld]:
    """A world whose files are facts already."""
    world = OnlineWorld(root)
    world.take_files()
    yield world


def spine_of(keys: Sequence[tuple[str, str]], instants: Sequence[datetime]) -> pl.DataFrame:
    """Every key at every instant, instants first."""
    rows = [(*key, at) for at in instants for key in keys]
    schema = {"sku_id": pl.String(), "location_id": pl.String(), "as_of": pl.Datetime("us", "UTC")}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _iso(instant: datetime) -> str:
    return instant.isoformat()
