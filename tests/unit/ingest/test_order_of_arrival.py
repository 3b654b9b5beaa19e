"""Silver is a function of what was told, not of the order in which it came or of how deliveries were cut."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from event_shop import TILL, EventShop, event
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_shop import FEED, NOW, SALES, csv, line

from replenish.contracts.dataset import KnowledgeRule
from replenish.history.bronze import append_bronze
from replenish.history.ledger import build_ledger
from replenish.history.silver import update_silver
from replenish.ingest.accepted_parts import parts_of
from replenish.ingest.door import ingest_file
from replenish.ingest.rederive import have_rules_changed, is_as_recorded, rederive_parts
from replenish.stores.journal_entry import PART_BEARING
from replenish.stores.lake import DeltaLake

BY_COLUMN = KnowledgeRule("column", column="known", else_arrival=True)
CONTRACT = replace(SALES, max_dead_share=1.0)
N_SLOTS = 8
Postings = list[tuple[str, str, datetime, int, int]]


@dataclass(frozen=True)
class Told:
    """One statement about a sale, known in a slot; None: when it arrives."""

    key: int
    units: int | None
    """None: the sale is taken back."""
    slot: int | None


@dataclass(frozen=True)
class Delivery:
    """Statements that come together, as a file or as single events."""

    told: tuple[Told, ...]
    is_file: bool = False
    is_settled: bool = True


class OrderShop(EventShop):
    """A shop whose clock goes on by an hour with every delivery; it keeps what it was told for the oracle."""

    def __init__(self, root: Path, *, starts_at: int = 0) -> None:
        super().__init__(root, replace(TILL, knowledge=BY_COLUMN), contract=CONTRACT)
        self.feed = replace(FEED, knowledge=BY_COLUMN)
        self.dataset = replace(self.dataset, feeds=(self.feed, *self.dataset.feeds[1:]))
        self.hour = starts_at
        self.told: dict[tuple[str, datetime], int | None] = {}
        self._n_events = 0

    def take(self, delivery: Delivery) -> None:
        self.hour += 1
        lines = [text for told in delivery.told if (text := self._line(told)) is not None]
        if delivery.is_file:
            self._n_files += 1
            path = self.layout.drop / f"sales-{self._n_files}.csv"
            # Other bytes each time: the same file again is the same delivery, known since it first came.
            path.write_text(csv(lines) + "\n" * self._n_files)
            ingest_file(path, self.feed, self.contract, self.dataset, self.journal, self.layout, now=self.now)
            return
        names = ("shop", "time", "receipt", "article", "qty", "price", "op", "known")
        for text in lines:
            self._n_events += 1
            body: dict[str, object] = dict(zip(names, text.split(","), strict=True))
            self.send(event(f"{self._n_events}", body, feed_id=TILL.feed_id))
        if delivery.is_settled:
            self.settle()

    @property
    def now(self) -> datetime:  # type: ignore[override]
        return NOW + timedelta(hours=self.hour)

    @now.setter
    def now(self, value: datetime) -> None:
        """The clock follows the deliveries."""

    def _line(self, told: Told) -> str | None:
        """Its line; None where another statement was made about the sale for that very moment."""
        slot = None if told.slot is None else min(told.slot, self.hour - 1)
        known = self.now if slot is None else NOW + timedelta(hours=slot, minutes=30)
        key = f"r{told.key}"
        if self.told.setdefault((key, known), told.units) != told.units:
            return None
        text = "" if slot is None else known.isoformat()
        units, op = ("", "D") if told.units is None else (told.units, "I")
        return line(key, qty=units, op=op, known=text)

    def postings(self) -> Postings:
        return postings_of(build_ledger(self.accepted(), self.contract))


def postings_of(ledger: pl.DataFrame) -> Postings:
    names = ("sale_id", "posting_kind", "knowledge_time", "version_nr", "units")
    return sorted(ledger.select(names).rows())


def oracle(told: dict[tuple[str, datetime], int | None]) -> Postings:
    """By hand: each sale's statements in order of knowledge, those that say nothing new passed over."""
    by_sale: dict[str, list[tuple[datetime, int | None]]] = defaultdict(list)
    for (key, known), units in sorted(told.items()):
        before = by_sale[key][-1][1] if by_sale[key] else None
        if units != before:
            by_sale[key].append((known, units))
    postings: Postings = []
    for key, news in by_sale.items():
        nr = 0
        for place, (known, units) in enumerate(news):
            if units is None:
                continue
            nr += 1
            postings.append((key, "version", known, nr, units))
            if place + 1 < len(news):
                postings.append((key, "reversal", news[place + 1][0], nr, units))
    return sorted(postings)


def tolds(slots: st.SearchStrategy[int | None]) -> st.SearchStrategy[Told]:
    units = st.sampled_from([0, 1, 1, 2, None])
    return st.builds(Told, st.integers(0, 1), units, slots)


ANY_SLOT = st.integers(0, N_SLOTS - 1) | st.none()
DELIVERIES = st.lists(
    st.builds(Delivery, st.lists(tolds(ANY_SLOT), max_size=4).map(tuple), st.booleans(), st.booleans()), max_size=7
)
SOME = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FEW = settings(SOME, max_examples=8)


@SOME
@given(deliveries=DELIVERIES)
def test_the_ledger_is_what_was_told_in_order_of_knowledge(tmp_path_factory, deliveries: list[Delivery]) -> None:  # type: ignore[no-untyped-def]
    shop = OrderShop(tmp_path_factory.mktemp("shop"))
    for delivery in deliveries:
        shop.take(delivery)
    shop.settle()
    assert shop.postings() == oracle(shop.told)


@SOME
@given(told=st.lists(tolds(st.integers(0, N_SLOTS - 1)), min_size=1, max_size=10), data=st.data())
def test_the_same_statements_in_any_order_and_cut_give_the_same_ledger(  # type: ignore[no-untyped-def]
    tmp_path_factory, told: list[Told], data: st.DataObject
) -> None:
    told = list({(t.key, t.slot): t for t in told}.values())
    ledgers = []
    for order in (told, data.draw(st.permutations(told))):
        shop = OrderShop(tmp_path_factory.mktemp("shop"), starts_at=N_SLOTS)
        for delivery in _cut(order, data):
            shop.take(delivery)
        shop.settle()
        ledgers.append(shop.postings())
    assert ledgers[0] == ledgers[1]


def _cut(told: Sequence[Told], data: st.DataObject) -> list[Delivery]:
    deliveries: list[Delivery] = []
    while told:
        n = data.draw(st.integers(1, len(told)))
        deliveries.append(Delivery(tuple(told[:n]), data.draw(st.booleans()), data.draw(st.booleans())))
        told = told[n:]
    return deliveries


@FEW
@given(deliveries=DELIVERIES)
def test_silver_follows_step_by_step_and_the_parts_can_be_made_again(  # type: ignore[no-untyped-def]
    tmp_path_factory, deliveries: list[Delivery]
) -> None:
    shop = OrderShop(tmp_path_factory.mktemp("shop"))
    lake = DeltaLake(shop.layout.lake)
    for delivery in [*deliveries, Delivery(())]:
        shop.take(delivery)
        append_bronze("sales", shop.contract, shop.journal, shop.layout, lake)
        update_silver(shop.contract, shop.dataset, lake)
    assert postings_of(lake.read("silver/sales")) == oracle(shop.told)
    contracts = {"sales": shop.contract}
    for record in shop.journal.records(type=PART_BEARING):
        assert not have_rules_changed(record, shop.dataset, contracts)
        made = rederive_parts(record, shop.dataset, contracts, shop.journal, shop.layout, into=shop.layout.root / "new")
        assert is_as_recorded(record, made)


def test_a_repeat_becomes_news_when_what_came_between_arrives_late(tmp_path: Path) -> None:
    shop = OrderShop(tmp_path, starts_at=N_SLOTS)
    for told in (Told(1, 2, 1), Told(1, 2, 3), Told(1, 5, 2)):
        shop.take(Delivery((told,)))
    assert [row[4] for row in shop.postings() if row[1] == "version"] == [2, 5, 2]
    first, repeat, late = shop.journal.records(type=PART_BEARING)
    assert [first.data[n] for n in ("accepted", "duplicate", "revived")] == [1, 0, 0]
    assert [repeat.data[n] for n in ("accepted", "duplicate", "revived")] == [0, 1, 0]
    assert [part.kept_until is None for part in parts_of(repeat)] == [False]
    assert [late.data[n] for n in ("accepted", "duplicate", "revived")] == [1, 0, 1]


def test_a_retraction_that_came_before_its_fact_takes_it_back_once_it_arrives(tmp_path: Path) -> None:
    shop = OrderShop(tmp_path, starts_at=N_SLOTS)
    for told in (Told(1, None, 3), Told(1, 2, 1)):
        shop.take(Delivery((told,)))
    assert [row[1] for row in shop.postings()] == ["reversal", "version"]
    # Its letter stays for a person to see, and is closed like any other.
    assert [letter.reason for letter in shop.journal.dead_letters()] == ["retraction_of_unknown"]


def test_rows_known_in_order_are_never_read_against_kept_ones(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A daily file that repeats the catalogue costs no more with every day."""
    shop = OrderShop(tmp_path, starts_at=N_SLOTS)
    shop.take(Delivery((Told(1, 2, 1),), is_file=True))
    shop.take(Delivery((Told(1, 2, 2), Told(2, 1, 2)), is_file=True))
    read: list[str] = []
    monkeypatch.setattr("replenish.ingest.accepted_parts.pl.read_parquet", _noting(read))
    shop.take(Delivery((Told(1, 2, 3),), is_file=True))
    kept = [
        part.path for record in shop.journal.records(type=PART_BEARING) for part in parts_of(record) if part.kept_until
    ]
    assert len(kept) == 2
    assert not {path for path in read if path.endswith(tuple(kept))}


def _noting(read: list[str]):  # type: ignore[no-untyped-def]
    original = pl.read_parquet

    def noted(path, **options):  # type: ignore[no-untyped-def]
        read.append(str(path))
        return original(path, **options)

    return noted
