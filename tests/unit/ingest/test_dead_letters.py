"""Letters get another chance: what is mended enters once, what is not stays open, and what is given up says why."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from ingest_shop import FEED, NOW, SALES, Shop, csv, line

from replenish.contracts.model import Contract
from replenish.errors import OutOfRange
from replenish.ingest.dead_letters import Redrive, RedriveOutcome, discard_letters
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import OfferedEvent
from replenish.ingest.letter_headers import connect_headers
from replenish.ingest.settle import settle_events
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal_entry import LETTER_DISCARDED, LETTER_REDRIVEN
from replenish.stores.segments import seal
from replenish.stores.trim import trim


def with_rules(version: str, **units: object) -> Contract:
    columns = tuple(replace(c, **units) if c.name == "units" else c for c in SALES.columns)  # type: ignore[arg-type]
    return replace(SALES, version=version, columns=columns)


MENDED = with_rules("1.1.0", minimum=-10)


class LetterShop(Shop):
    """The small shop, with single events and letters."""

    def event(self, id: str, contract: Contract, **changes: object) -> str:
        fields = {
            "location_id": "S1", "sold_at": "2025-01-10T12:00:00Z", "sale_id": id, "sku_id": "A1", "units": 2,
            "knowledge_time": "2025-01-10T18:00:00Z",
        }  # fmt: skip
        body = json.dumps(fields | changes).encode()
        return self.offer_event(OfferedEvent("pos", id, "events.sales", "upsert", body, offset="sales[3]@17"), contract)

    def offer_event(self, event: OfferedEvent, contract: Contract) -> str:
        group = GroupCommit(self.journal, lambda: NOW)
        verdict = EventDoor(self.dataset, {"sales": contract}, group, lambda: NOW).offer([event])[0]
        group.close()
        return verdict.outcome

    def redrive(self, contract: Contract) -> list[RedriveOutcome]:
        group = GroupCommit(self.journal, lambda: NOW)
        redrive = Redrive(self.dataset, {"sales": contract}, self.journal, self.layout, group, NOW)
        try:
            return redrive.redrive(self.journal.dead_letters())
        finally:
            group.close()

    def settle(self, contract: Contract) -> None:
        settle_events(self.dataset, {"sales": contract}, self.journal, self.layout, now=NOW)

    def all_rows(self) -> list[tuple[object, ...]]:
        return sorted(self.accepted().select("sale_id", "units", "revenue_cents").rows())

    def statuses(self) -> list[str]:
        return [letter.status for letter in self.journal.dead_letters()]


@pytest.fixture
def shop(tmp_path: Path) -> LetterShop:
    return LetterShop(tmp_path)


def test_an_event_enters_once_after_its_contract_is_mended(shop: LetterShop) -> None:
    assert shop.event("r1", SALES, units=-1) == "dead"
    assert [o.result for o in shop.redrive(SALES)] == ["dead"]
    assert shop.statuses() == ["open"]
    assert [o.result for o in shop.redrive(MENDED)] == ["accepted"]
    assert shop.redrive(MENDED) == []
    assert shop.statuses() == ["redriven"]
    record = shop.journal.find("pos", "r1")
    assert record is not None
    assert record.data["units"] == -1
    assert len(list(shop.journal.records(type=LETTER_REDRIVEN))) == 1


def test_a_letter_whose_event_was_trimmed_comes_again_from_its_segment(shop: LetterShop) -> None:
    assert shop.event("a", SALES, units=-1) == "dead"
    seal(shop.journal, shop.layout, min_records=1)
    assert trim(shop.journal, shop.layout, now=NOW + timedelta(days=60)) == 1
    assert [outcome.result for outcome in shop.redrive(MENDED)] == ["accepted"]


def test_a_crash_between_event_and_closing_leads_to_no_second_event(shop: LetterShop) -> None:
    shop.event("r1", SALES, units=-1)
    body = shop.journal.dead_letters()[0].raw
    assert body is not None
    # What a redrive did before it was killed: the event is in, its letter is open.
    assert shop.offer_event(OfferedEvent("pos", "r1", "events.sales", "upsert", body.encode()), MENDED) == "accepted"
    assert [o.result for o in shop.redrive(MENDED)] == ["duplicate"]
    assert shop.statuses() == ["redriven"]


def test_rows_of_an_accepted_file_come_again_through_their_feed(shop: LetterShop) -> None:
    verdict = shop.offer(csv([line("r1"), line("r2", qty=-3), line("r3")]))
    assert (verdict.accepted, verdict.dead) == (2, 1)
    assert [o.result for o in shop.redrive(MENDED)] == ["accepted"]
    shop.settle(MENDED)
    shop.settle(MENDED)
    rows = shop.all_rows()
    assert rows == [("r1", 2, 150), ("r2", -3, 150), ("r3", 2, 150)]


def test_a_whole_file_comes_again_from_the_archive(shop: LetterShop) -> None:
    assert shop.offer(csv([line(f"r{nr}", qty=-1) for nr in range(4)])).status == "dead"
    assert {o.result for o in shop.redrive(SALES)} == {"dead"}
    assert {o.result for o in shop.redrive(MENDED)} == {"accepted"}
    assert set(shop.statuses()) == {"redriven"}
    assert len(shop.all_rows()) == 4


def test_a_retraction_that_came_too_early_enters_behind_its_fact(shop: LetterShop) -> None:
    gone = OfferedEvent("pos", "x", "events.sales", "delete", json.dumps({
        "location_id": "S1", "sold_at": "2025-01-10T12:00:00Z", "sale_id": "r1",
        "knowledge_time": "2025-01-11T18:00:00Z",
    }).encode())  # fmt: skip
    assert shop.offer_event(gone, SALES) == "accepted"
    shop.settle(SALES)
    assert [d.reason for d in shop.journal.dead_letters()] == ["retraction_of_unknown"]
    shop.event("r1", SALES)
    shop.settle(SALES)
    assert [o.result for o in shop.redrive(SALES)] == ["accepted"]
    shop.settle(SALES)
    assert shop.statuses() == ["redriven"]


def test_a_conflict_of_ids_is_for_people(shop: LetterShop) -> None:
    shop.event("r1", SALES)
    assert shop.event("r1", SALES, units=9) == "conflict"
    outcome = shop.redrive(SALES)[0]
    assert outcome.result == "skipped"
    with pytest.raises(OutOfRange):
        discard_letters(shop.journal, shop.journal.dead_letters(), " ", NOW)
    assert discard_letters(shop.journal, shop.journal.dead_letters(), "sent twice by mistake", NOW) == 1
    assert shop.statuses() == ["discarded"]
    record = next(shop.journal.records(type=LETTER_DISCARDED))
    assert record.data["reason"] == "sent twice by mistake"


def test_headers_are_those_of_kafka_connect(shop: LetterShop) -> None:
    shop.event("r1", SALES, units=-1)
    letter = shop.journal.dead_letters()[0]
    record = next(shop.journal.records(type="replenish.event.dead"))
    headers = connect_headers(letter, record)
    assert headers["__connect.errors.topic"] == "sales"
    assert headers["__connect.errors.partition"] == "3"
    assert headers["__connect.errors.offset"] == "17"
    assert headers["__connect.errors.connector.name"] == "pos"
    assert headers["__connect.errors.exception.class.name"] == "below_minimum"
    assert FEED.feed_id == "shop.sales"
