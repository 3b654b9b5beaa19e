"""The fast way and the strict way read the same events: whatever the fast one accepts, the strict one accepts alike."""

from __future__ import annotations

import json
import random
from pathlib import Path

from replenish.contracts.reader import read_contracts
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.events.offered_event import OfferedEvent
from replenish.ingest.http.credentials import Sender
from replenish.ingest.http.envelopes import RowReader
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
