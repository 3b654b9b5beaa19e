"""What one request may cost: refused before it is parsed, with nothing accepted."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from replenish.errors import RequestRefused
from replenish.ingest.http.app import HttpDoorOptions
from replenish.ingest.http.limits import ClientGone, HttpLimits, InFlightBytes, inflate, read_raw_body
from replenish.ingest.http.request_rows import split_rows
from tests.unit.ingest.http.http_door import NDJSON, STRUCTURED, Shop, cloud_event, fields, lines, open_shop

SMALL = HttpLimits(body_bytes=4_000, inflated_bytes=10_000, rows=5, body_seconds=0.05)


@pytest.fixture()
def shop(tmp_path: Path):
    with open_shop(tmp_path, HttpDoorOptions(limits=SMALL)) as opened:
        yield opened


def rows(n: int) -> bytes:
    return lines(*({"id": str(i), "data": fields(i)} for i in range(n)))


def test_a_body_over_the_limit_is_413_with_and_without_a_declared_length(shop: Shop) -> None:
    body = b"[" + b" " * 5_000 + b"]"

    async def chunks():
        for start in range(0, len(body), 500):
            yield body[start : start + 500]

    assert shop.post("/events/sales", body).status_code == 413
    answer = shop.request("POST", "/events/sales", content=chunks(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"
    assert shop.types() == []


def test_as_many_rows_as_allowed_pass_and_one_more_does_not(shop: Shop) -> None:
    assert shop.post("/events/sales", rows(5), NDJSON).json()["accepted"] == 5
    assert shop.post("/events/sales", rows(6), NDJSON).status_code == 413
    as_list = [{"id": f"l{i}", "data": fields(i)} for i in range(6)]
    assert shop.post("/events/sales", as_list[:5]).json()["accepted"] == 5
    assert shop.post("/events/sales", as_list).status_code == 413


def test_a_gzip_body_is_inflated(shop: Shop) -> None:
    answer = shop.post("/events/sales", gzip.compress(rows(3)), NDJSON, content_encoding="gzip")
    assert answer.json()["accepted"] == 3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (gzip.compress(b" " * 2_000_000), 413),
        (gzip.compress(b" " * 9_000), 413),
        (gzip.compress(rows(2))[:-20], 400),
        (gzip.compress(rows(2)) + gzip.compress(rows(2)), 400),
        (b"no gzip at all", 400),
        (zlib.compress(rows(2)), 400),
    ],
    ids=["too large", "ratio over 100", "cut short", "two members", "not gzip", "zlib"],
)
def test_what_inflates_too_far_or_not_at_all_is_refused(shop: Shop, body: bytes, status: int) -> None:
    answer = shop.post("/events/sales", body, NDJSON, content_encoding="gzip")
    assert answer.status_code == status
    assert "upsert" not in shop.types()


def test_inflating_stops_at_the_limit() -> None:
    bomb = gzip.compress(b"\0" * (200 << 20), 9)
    with pytest.raises(RequestRefused) as refused:
        inflate(bomb, HttpLimits(inflate_ratio=10_000))
    assert refused.value.status == 413


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip"])
def test_other_encodings_are_415(shop: Shop, encoding: str) -> None:
    assert shop.post("/events/sales", rows(1), NDJSON, content_encoding=encoding).status_code == 415


@pytest.mark.parametrize("media_type", ["text/plain", "", "application/xml", "application/json; charset=utf-16"])
def test_other_media_types_are_415(shop: Shop, media_type: str) -> None:
    assert shop.post("/events", cloud_event(), media_type).status_code == 415


def test_an_empty_body_is_400(shop: Shop) -> None:
    for media_type in (NDJSON, STRUCTURED, "application/json"):
        assert shop.post("/events/sales", b"", media_type).status_code == 400
    assert shop.post("/events/sales", b"[]").status_code == 400


def test_nested_lists_without_end_are_400(shop: Shop) -> None:
    assert shop.post("/events/sales", b"[" * 3_900).status_code == 400


def receiver(*messages: dict[str, Any]):
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.sleep(60)
        return waiting.pop(0)

    return receive


def read(*messages: dict[str, Any], room: InFlightBytes) -> bytes:
    return asyncio.run(read_raw_body(receiver(*messages), None, SMALL, room))


def part(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_sender_that_leaves_in_the_middle_leaves_nothing_behind() -> None:
    room = InFlightBytes(1_000)
    with pytest.raises(ClientGone):
        read(part(b"abc"), {"type": "http.disconnect"}, room=room)
    assert room.held == 0


def test_a_body_that_stops_coming_is_408() -> None:
    room = InFlightBytes(1_000)
    with pytest.raises(RequestRefused) as refused:
        read(part(b"abc"), room=room)
    assert (refused.value.status, room.held) == (408, 0)


def test_bodies_beyond_what_may_be_held_at_once_are_429() -> None:
    room = InFlightBytes(5)
    assert read(part(b"abc", more=False), room=room) == b"abc"
    with pytest.raises(RequestRefused) as refused:
        read(part(b"abc", more=False), room=room)
    assert (refused.value.status, room.held) == (429, 3)


def test_a_list_of_many_small_values_is_counted_before_it_is_built() -> None:
    with pytest.raises(RequestRefused) as refused:
        split_rows(b"[" + b"1," * 1_000_000 + b"1]", "array", 1_000)
    assert refused.value.status == 413


def test_commas_inside_rows_are_no_rows() -> None:
    body = json.dumps([{"a": [1] * 50} for _ in range(100)]).encode()
    assert len(split_rows(body, "array", 100)) == 100


@contextmanager
def peak_below(n_bytes: int) -> Iterator[None]:
    """The memory that Python takes in the block, beyond what it had."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield
        assert tracemalloc.get_traced_memory()[1] - before < n_bytes
    finally:
        tracemalloc.stop()


@pytest.fixture()
def wide_shop(tmp_path: Path):
    with open_shop(tmp_path) as opened:
        yield opened


def test_line_ends_are_counted_before_they_are_listed(wide_shop: Shop) -> None:
    body = b"\n" * (4 << 20)
    with peak_below(24 << 20):
        assert wide_shop.post("/events/sales", body, NDJSON).status_code == 400


def test_nothing_is_kept_of_rows_with_fields_that_nobody_knows(wide_shop: Shop) -> None:
    def wide(nr: int) -> bytes:
        others = {f"{nr}-{field}": 1 for field in range(20_000)}
        return lines({"id": f"e-{nr}", "data": {**fields(nr), **others}}) + b"x\n" * 7

    assert wide_shop.post("/events/sales", wide(0), NDJSON).status_code == 207
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for nr in range(1, 6):
            assert wide_shop.post("/events/sales", wide(nr), NDJSON).json()["accepted"] == 1
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 6 << 20
    finally:
        tracemalloc.stop()


def test_a_row_of_a_million_values_is_refused_before_they_are_made(wide_shop: Shop) -> None:
    head = b'{"id":"many","source":"till","data":{"sale_id":"s","tags":['
    row = head + b"[]," * 1_000_000 + b"[]]}}"
    with peak_below(40 << 20):
        answer = wide_shop.post("/events/sales", row + b"\n", NDJSON).json()
    (verdict,) = answer["verdicts"]
    assert (verdict["id"], verdict["outcome"], verdict["reason"]) == ("many", "dead", "too_large")


def test_a_long_row_is_taken_unless_its_commas_could_be_too_many_values(wide_shop: Shop) -> None:
    texts = {f"note{nr}": "x, " * 300_000 for nr in range(2)}
    sound = {f"note{nr}": "x" * 900_000 for nr in range(2)}
    body = lines({"id": "a", "data": fields(1) | sound}, {"id": "b", "data": fields(2) | texts})
    answer = wide_shop.post("/events/sales", body, NDJSON).json()
    assert [verdict["outcome"] for verdict in answer["verdicts"]] == ["accepted", "dead"]


@pytest.mark.parametrize("source", ["a%00b", "%0aevil", "q" * 513])
@pytest.mark.parametrize("body", [{"id": "a", "data": fields(1)}, {"id": "a", **fields(1)}, "no event"])
def test_a_source_in_the_address_is_looked_at_like_any_other(wide_shop: Shop, source: str, body: object) -> None:
    answer = wide_shop.post(f"/events/sales?source={source}", body)
    assert (answer.status_code, answer.json()["title"]) == (400, "bad_source")
    assert wide_shop.types() == []
