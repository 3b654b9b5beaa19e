"""The fast way and the strict way read the same events: whatever the fast one accepts, the strict one accepts alike."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from msgspec import UNSET

from replenish.contracts.reader import read_contracts
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import OfferedEvent
from replenish.ingest.http.credentials import Sender
from replenish.ingest.http.envelopes import RowReader
from replenish.ingest.http.plain_runs import MOST_SEEN_TEXTS, _match, _Texts
from replenish.stores.event_run import EventRun
from replenish.stores.journal_entry import EventEntry
from tests.unit.ingest.http.http_door import NOW, cloud_event, fields, open_dataset

N_MUTATIONS = 6_000
PIECES = [
    *(bytes([n]) for n in range(256)),
    b"\\u0041", b"\\ud800", b"1e999", b"NaN", b"-0", b"1.0", b"null", b"\xed\xa0\x80", b"9223372036854775808",
    b"[]", b"{}", b'"', b'""', b":", b" ", b"\t", b'"id":"x",', b'"data":{},', b'"units":1,', b'"extra":1,',
    b'"time":"2026-03-01T10:00:00Z",', b'"traceparent":"x",', b'"subject":"events.prices",', b'"specversion":"0.3",',
]  # fmt: skip


def rows() -> list[bytes]:
    compact = [
        cloud_event(1),
        cloud_event(2, fields(2, note="ü", share=0.5, flag=True, nothing=None)),
        {"id": "e-3", "data": fields(3)},
        cloud_event(4, time="2026-03-01T10:00:00Z"),
    ]
    return [json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() for row in compact]


def mutated(rng: random.Random, row: bytes) -> bytes:
    start = rng.randrange(len(row))
    return row[:start] + rng.choice(PIECES) + row[start + rng.choice([0, 0, 0, 1, 5]) :]


def test_what_the_fast_way_accepts_the_strict_way_accepts_alike(tmp_path: Path) -> None:
    door = EventDoor(open_dataset(), read_contracts(), None, lambda: NOW)  # type: ignore[arg-type]
    reader = RowReader(door, Sender(None), feed_id="events.sales", source="http")
    good = rows()
    # The first row of a kind is always read strictly; from then on the fast way is open.
    reader.read(good, 1, len(good), NOW)
    rng, n_fast = random.Random(7), 0
    for _ in range(N_MUTATIONS):
        row = mutated(rng, rng.choice(good))
        (fast,) = reader.read([row], 1, 1, NOW)
        if not isinstance(fast, EventEntry) or fast.letter is not None:
            continue
        n_fast += 1
        strict = reader._read_strictly(row, 1)
        judged = door.judge([strict])[0] if isinstance(strict, OfferedEvent) else strict
        assert judged == fast, row
    assert n_fast > N_MUTATIONS // 20


def lines(rows: list[bytes]) -> bytes:
    return b"".join(row + b"\n" for row in rows)


def shapes() -> list[dict[str, object]]:
    """Rows of several shapes: attributes in another order, fields left out, spelled otherwise, of other kinds."""
    row = cloud_event(1)
    last_data = {**{k: v for k, v in row.items() if k != "data"}, "time": "2026-03-01T10:00:00+00:00"}
    return [
        row,
        {**last_data, "data": fields(2, note="ü", share=0.5, flag=True, nothing=None, whole=7)},
        {"id": "e-3", "data": {**fields(3), "sold_at": "2026-03-01T10:00:00.5+01:00"}},
        {"subject": "events.sales", "id": "e-4", "data": dict(reversed(fields(4).items()))},
        {"id": "e-5", "data": {"knowledge_time": "2026-03-01T11:00:00Z", **fields(5)}},
    ]


def test_what_is_read_as_one_run_is_what_the_strict_way_accepts_row_by_row(tmp_path: Path) -> None:
    door = EventDoor(open_dataset(), read_contracts(), None, lambda: NOW)  # type: ignore[arg-type]
    rng, n_runs, n_whole = random.Random(11), 0, 0
    for shape in shapes():
        same = [json.dumps({**shape, "id": f"e-{nr}"}, separators=(",", ":"), ensure_ascii=False) for nr in range(10)]
        good = [row.encode() for row in same]
        reader = RowReader(door, Sender(None), feed_id="events.sales", source="http")
        n_whole += reader.read_run(lines(good), NOW) is not None
        for _ in range(N_MUTATIONS // 4):
            place, row = rng.randrange(10), rng.choice(good)
            changed = [*good[:place], mutated(rng, row), *good[place + 1 :]]
            run = reader.read_run(lines(changed), NOW)
            if run is None:
                continue
            n_runs += 1
            for nr in (0, place):
                strict = reader._read_strictly(changed[nr], nr + 1)
                judged = door.judge([strict])[0] if isinstance(strict, OfferedEvent) else strict
                assert judged == run[nr], changed[nr]
    assert n_whole == len(shapes())
    assert n_runs > N_MUTATIONS // 30


def test_rows_of_more_than_one_kind_are_no_run(tmp_path: Path) -> None:
    door = EventDoor(open_dataset(), read_contracts(), None, lambda: NOW)  # type: ignore[arg-type]
    reader = RowReader(door, Sender(None), feed_id="events.sales", source="http")
    good = [json.dumps(cloud_event(nr), separators=(",", ":")).encode() for nr in range(10)]
    run = reader.read_run(lines(good), NOW)
    assert run is not None
    assert list(run) == door.judge([reader._read_strictly(row, 1) for row in good])  # type: ignore[misc]
    others: list[dict[str, object]] = [
        {"source": "other"},
        {"type": "replenish.event.delete"},
        {"id": ""},
        {"id": "a\tb"},
        {"id": "x" * 513},
        {"traceparent": "00-" + "1" * 32 + "-" + "1" * 16 + "-01"},
        {"data": {**fields(1), "units": -1}},
        {"data": {**fields(1), "units": 1.5}},
        {"data": {**fields(1), "sold_at": "2026-03-01T10:00:00"}},
        {"data": {**fields(1), "sold_at": "2999-03-01T10:00:00Z"}},
        {"data": {**fields(1), "sold_at": "1799-03-01T10:00:00Z"}},
        {"data": {**fields(1), "extra": [1]}},
        {"data": {**fields(1), "extra": 2**64}},
        {"data": None},
        {"data": []},
    ]
    for change in others:
        for place in (0, 9):
            row = json.dumps({**cloud_event(1), **change}, separators=(",", ":")).encode()
            assert reader.read_run(lines([*good[:place], row, *good[place + 1 :]]), NOW) is None, change
    assert reader.read_run(lines([*good[:9], good[9].replace(b'"units":', b'"units" :')]), NOW) is None
    assert reader.read_run(lines(good[:3]), NOW) is None


def test_a_text_that_breaks_its_pattern_is_found_however_many_good_ones_came_before() -> None:
    door = EventDoor(open_dataset(), read_contracts(), None, lambda: NOW)  # type: ignore[arg-type]
    reader = RowReader(door, Sender(None), feed_id="events.sales", source="http")

    def run_of(skus: list[str]) -> EventRun | None:
        rows = [cloud_event(nr, fields(nr, sku_id=sku)) for nr, sku in enumerate(skus)]
        return reader.read_run(lines([json.dumps(row, separators=(",", ":")).encode() for row in rows]), NOW)

    for first in range(0, 3 * MOST_SEEN_TEXTS, 1_000):
        good = [f"sku-{nr}" for nr in range(first, first + 1_000)]
        assert run_of(good) is not None
        for bad in (" tea", "tea ", "", "sku-1 "):
            assert run_of([*good[:-1], bad]) is None
            assert run_of([*good[:-1], bad]) is None


def test_texts_that_are_kept_are_few_and_short() -> None:
    texts = _Texts(str, re.compile("^[^!]*$").search, {None, UNSET})
    for first in range(0, 10 * MOST_SEEN_TEXTS, 500):
        assert _match(texts, list(range(first, first + 500)))
        assert 500 <= len(texts.seen) <= MOST_SEEN_TEXTS
        assert not _match(texts, [first, "!"])
        assert "!" not in texts.seen
    assert _match(texts, ["x" * 65])
    assert "x" * 65 not in texts.seen
