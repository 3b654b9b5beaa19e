"""Siblings judge whole requests for one another: the same as the asking process would, or nothing at all."""

from __future__ import annotations

import asyncio
import json
import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from replenish.contracts.reader import read_contracts
from replenish.errors import RequestRefused
from replenish.ingest.events.event_door import EventDoor
from replenish.ingest.http import sibling_messages
from replenish.ingest.http import siblings as siblings_module
from replenish.ingest.http.app import HttpDoorOptions, build_app
from replenish.ingest.http.credentials import HttpSource, Sender
from replenish.ingest.http.envelopes import RowReader
from replenish.ingest.http.sibling_messages import Frames, Question, Reply, encode_message, read_reply
from replenish.ingest.http.siblings import MOST_ASKED, SMALLEST_BYTES, Sibling, Siblings, judge
from replenish.stores.event_run import LARGEST_RUN_BYTES, EventRun
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal import Journal
from tests.unit.ingest.http.http_door import NDJSON, NOW, cloud_event, fields, open_dataset

T = TypeVar("T")
ASKED = Question("events.sales", "pos", None, NOW, None)
FEED = "events.sales"
BIG = bytes(SMALLEST_BYTES)
Answer = Callable[[bytes, bytes], Awaitable[bytes | None]]
"""Head and body of a question to what is sent back; None ends the connection."""


@cache
def door() -> EventDoor:
    """One that judges and never writes."""
    return EventDoor(open_dataset(), read_contracts(), cast(GroupCommit, None), lambda: NOW)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine may be slow; where slowness matters a test says so."""
    monkeypatch.setattr(siblings_module, "ANSWER_SECONDS", 8.0)
    monkeypatch.setattr(siblings_module, "GONE_SECONDS", 0.0)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it; whatever the loop would only have logged fails the test."""
    escaped: list[dict[str, Any]] = []

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
        async with asyncio.timeout(20):
            done = await work
        await asyncio.sleep(0.01)
        return done

    done = asyncio.run(watched())
    assert escaped == []
    return done


def body_of(n: int, first: int = 0, note: str = "", **changes: object) -> bytes:
    rows = [cloud_event(nr, fields(nr, note=note), **changes) for nr in range(first, first + n)]
    return text_of(rows)


def text_of(rows: Sequence[object]) -> bytes:
    return b"".join(json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" for row in rows)


def judged_here(asked: Question, body: bytes) -> EventRun | None:
    sender = Sender(asked.grants)
    reader = RowReader(door(), sender, feed_id=asked.feed_id, source=asked.source, traceparent=asked.traceparent)
    try:
        return reader.read_run(body, asked.now)
    except RequestRefused:
        return None


def parts_of(judged: EventRun | None) -> object:
    """All that a run is, for comparing."""
    if judged is None:
        return None
    return judged.like, judged.ids, [bytes(b) for b in judged.bodies], judged.n_bytes, judged.packed(), list(judged)


@asynccontextmanager
async def at_work(*some: Siblings) -> AsyncIterator[None]:
    """They listen; behind the block they are gone."""
    for siblings in some:
        await siblings.listen()
    try:
        yield
    finally:
        for siblings in some:
            stop(siblings)


def stop(siblings: Siblings) -> None:
    if siblings._server is not None:
        siblings._server.close()
    for sibling in siblings._others:
        if sibling._asking is not None:
            sibling._asking.end()


@asynccontextmanager
async def pretender(path: Path, answer: Answer) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """A server that answers as it is told; gives its connections."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while True:
                n_head, n_body = struct.unpack("<II", await reader.readexactly(8))
                reply = await answer(await reader.readexactly(n_head), await reader.readexactly(n_body))
                if reply is None:
                    break
                writer.write(reply)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.transport.abort()

    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield writers
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


def frame(body: bytes, head: bytes = b"") -> bytes:
    return struct.pack("<II", len(head), len(body)) + head + body


async def until(met: Callable[[], object]) -> None:
    while not met():
        await asyncio.sleep(0.001)


async def ready(siblings: Siblings, body: bytes = BIG) -> Sibling:
    """A sibling that may be asked, once there is one."""
    await until(lambda: siblings.ready_to_judge(FEED, body) is not None)
    return cast(Sibling, siblings.ready_to_judge(FEED, body))


def pair(folder: Path) -> tuple[Siblings, Siblings]:
    """Two that know of each other; both say that they are idle."""
    a, b = folder / "a.sock", folder / "b.sock"
    both = Siblings(door(), a, [b]), Siblings(door(), b, [a])
    for one in both:
        one.is_idle = lambda: True
    return both


def asking(path: Path) -> Siblings:
    return Siblings(door(), path.with_name("asking.sock"), [path])


# What is judged


ROWS = st.builds(
    lambda ids, text, more, named, odd: (
        [
            {key: value for key, value in more.items() if key != "source" or named}
            | ({"source": more["source"]} if named else {})
            | {"id": f"e{id_}", "data": fields(id_, note=text)}
            for id_ in ids
        ],
        odd,
    ),
    st.lists(st.integers(0, 10**6), min_size=7, max_size=12),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        [
            {"specversion": "1.0", "source": "pos"},
            {"specversion": "1.0", "source": "other", "type": "replenish.event.upsert"},
            {"specversion": "1.0", "source": "pos", "subject": "sales"},
            {"source": "pos", "time": "2026-03-01T10:00:00Z"},
            {"source": "ж", "type": "replenish.event.delete"},
            {"source": "pos", "type": "of nobody"},
            {"source": "pos", "subject": "no feed"},
        ]
    ),
    st.booleans(),
    st.sampled_from(["", "", "", " ", "\n", "x", "cut", "backslash", "other source"]),
)
QUESTIONS = st.builds(
    Question,
    st.sampled_from(["events.sales", "events.sales", "events.locations", None]),
    st.sampled_from(["pos", "http", "é", ""]),
    st.sampled_from([None, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "no trace"]),
    st.sampled_from([NOW, NOW + timedelta(microseconds=1), NOW - timedelta(days=9_000)]),
    st.sampled_from(
        [
            None,
            {},
            {"pos": frozenset({"events.sales"})},
            {"pos": frozenset({"events.sales", "x"}), "ж": frozenset({"events.sales"})},
            {"other": frozenset()},
        ]
    ),
)


def spelled(rows: list[dict[str, object]], odd: str) -> bytes:
    """The rows, the last of them with something about it."""
    body = text_of([*rows[:-1], rows[-1] | {"source": "elsewhere"}] if odd == "other source" else rows)
    if odd == "cut":
        return body[:-1]
    if odd == "backslash":
        return body[:-4] + b'\\u0041"}}\n'
    return body + odd.encode() if odd in ("\n", "x") else body[:-2] + odd.encode() + body[-2:]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(QUESTIONS, ROWS), min_size=1, max_size=6))
def test_what_a_sibling_judges_is_what_the_process_would_have_judged(
    tmp_path_factory: pytest.TempPathFactory, requests: list[tuple[Question, Any]]
) -> None:
    asked = [(question, spelled(*rows)) for question, rows in requests]

    async def work() -> list[EventRun | None]:
        a, b = pair(tmp_path_factory.mktemp("s"))
        async with at_work(a, b):
            sibling = await ready(a)
            return await asyncio.gather(*(sibling.ask(question, body) for question, body in asked))

    assert list(map(parts_of, run(work()))) == [parts_of(judged_here(question, body)) for question, body in asked]


@pytest.mark.parametrize("grants", [None, {"pos": frozenset({"events.sales"})}])
@pytest.mark.parametrize("time", [{}, {"time": "2026-03-01T10:00:00.5+02:00"}])
@pytest.mark.parametrize("trace", [None, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"])
@pytest.mark.parametrize("note", ["tea", "чай 茶"])
def test_plain_rows_are_a_run_to_a_sibling(
    tmp_path: Path, grants: Any, time: dict[str, object], trace: str | None, note: str
) -> None:
    asked, body = (
        Question("events.sales", "http", trace, NOW, grants),
        text_of([{"source": "pos", **time, "id": f"{nr}", "data": fields(nr, note=note)} for nr in range(200)]),
    )

    async def work() -> EventRun | None:
        a, b = pair(tmp_path)
        async with at_work(a, b):
            return await (await ready(a, body)).ask(asked, body)

    judged = run(work())
    assert judged is not None
    assert parts_of(judged) == parts_of(judged_here(asked, body))
    assert (judged.like.source, judged.like.traceparent, len(judged)) == ("pos", trace, 200)


@pytest.mark.parametrize(
    ("asked", "body"),
    [
        (ASKED, body_of(7)),
        (ASKED, body_of(20)[:-1]),
        (ASKED, body_of(20) + b"{}\n"),
        (ASKED, body_of(20, type="of nobody")),
        (ASKED, b""),
        (ASKED, b"\xff\xfe" * 9_000),
        (ASKED, b"\n" * 20_000),
        (ASKED, b"[" * 20_000),
        (msgspec.structs.replace(ASKED, grants={}), body_of(20)),
        (msgspec.structs.replace(ASKED, grants={"pos": frozenset()}), body_of(20)),
        (msgspec.structs.replace(ASKED, grants={"other": frozenset({"events.sales"})}), body_of(20)),
        (msgspec.structs.replace(ASKED, now=NOW - timedelta(days=900)), body_of(20)),
    ],
)  # fmt: skip
def test_what_is_no_run_or_not_this_senders_is_none(asked: Question, body: bytes) -> None:
    reply = read_reply(judge(door(), encode_message(asked), body, is_idle=True))
    assert (reply.is_idle, reply.run()) == (True, None)


@pytest.mark.parametrize("head", [b"", b"\x93", b"\xc0", encode_message([1, 2, 3, 4, 5])])
def test_a_question_that_cannot_be_read_gets_no_answer(head: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)):
        judge(door(), head, body_of(20), is_idle=False)


def test_what_one_sender_may_write_another_one_may_not_behind_it(tmp_path: Path) -> None:
    grants = [{"pos": frozenset({FEED})}, {"pos": frozenset({"events.prices"})}, {}, None, {"till": frozenset({FEED})}]
    asked = [msgspec.structs.replace(ASKED, grants=some) for some in grants]

    async def work() -> list[bool]:
        a, b = pair(tmp_path)
        async with at_work(a, b):
            sibling = await ready(a)
            return [await sibling.ask(question, body_of(20)) is not None for question in asked]

    assert run(work()) == [True, False, False, True, False]


# In which order


@pytest.mark.parametrize("seed", range(3))
def test_answers_belong_to_their_questions(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    sizes = [chance.choice([8, 9, 40, 300, 1_500]) for _ in range(MOST_ASKED)]
    bodies = [body_of(n, 10_000 * nr, "x" * chance.choice([0, 10, 700])) for nr, n in enumerate(sizes)]
    bodies[5] = b"no run" * chance.choice([1, 50_000])

    async def work() -> list[list[str] | None]:
        a, b = pair(tmp_path)
        async with at_work(a, b):
            sibling, other = await ready(a), await ready(b)
            here = [sibling.ask(ASKED, body) for body in bodies]
            there = [other.ask(ASKED, body) for body in bodies]
            assert sibling.n_asked == MOST_ASKED
            assert not sibling.may_be_asked()
            runs = await asyncio.gather(*here, *there)
            assert (sibling.n_asked, other.n_asked) == (0, 0)
            return [None if judged is None else judged.ids for judged in runs]

    expected = [[f"e-{10_000 * nr + i}" for i in range(n)] for nr, n in enumerate(sizes)]
    assert run(work()) == [ids if nr != 5 else None for nr, ids in enumerate(expected)] * 2


class _Taken(Frames):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[tuple[bytes, bytes]] = []

    def take(self, head: bytes, body: bytes) -> None:
        self.messages.append((head, body))


def feed(taken: Frames, data: bytes) -> None:
    while data:
        place = taken.get_buffer(-1)
        n = min(len(place), len(data))
        place[:n] = data[:n]
        taken.buffer_updated(n)
        data = data[n:]


MESSAGES = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=60)), max_size=8)


@pytest.fixture()
def _little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The buffer has to grow, and now and then is just as long as a message."""
    monkeypatch.setattr(sibling_messages, "FIRST_BUFFER_BYTES", 16)


@pytest.mark.usefixtures("_little_room")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MESSAGES)
def test_messages_that_come_a_byte_at_a_time_are_whole(messages: list[tuple[bytes, bytes]]) -> None:
    taken, stream = _Taken(), b"".join(frame(body, head) for head, body in messages)
    for nr in range(len(stream)):
        feed(taken, stream[nr : nr + 1])
    assert taken.messages == messages


@pytest.mark.usefixtures("_little_room")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([(b"", bytes(8))], [4, 12], b"")
@given(MESSAGES, st.lists(st.integers(0, 800), max_size=12), st.binary(max_size=7))
def test_messages_that_are_cut_anywhere_are_whole(
    messages: list[tuple[bytes, bytes]], cuts: list[int], beginning: bytes
) -> None:
    taken, stream = _Taken(), b"".join(frame(body, head) for head, body in messages) + beginning
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, end in pairwise(places):
        if end > start:
            feed(taken, stream[start:end])
    assert taken.messages == messages


def test_a_late_answer_is_dropped_and_the_next_one_goes_to_its_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(siblings_module, "ANSWER_SECONDS", 0.05)

    async def work() -> None:
        may_answer = asyncio.Event()

        async def late(head: bytes, body: bytes) -> bytes:
            await may_answer.wait()
            return frame(judge(door(), head, body, is_idle=True))

        siblings = asking(tmp_path / "b.sock")
        async with pretender(tmp_path / "b.sock", late), at_work(siblings):
            sibling = await ready(siblings)
            first, second = sibling.ask(ASKED, body_of(20)), sibling.ask(ASKED, body_of(9, 100))
            assert (await first, await second, sibling.n_asked) == (None, None, 2)
            monkeypatch.setattr(siblings_module, "ANSWER_SECONDS", 8.0)
            third, fourth = sibling.ask(ASKED, body_of(8, 200)), sibling.ask(ASKED, body_of(8, 300))
            may_answer.set()
            judged, last = await third, await fourth
            assert judged is not None and judged.ids == [f"e-{nr}" for nr in range(200, 208)]
            assert last is not None and last.ids == [f"e-{nr}" for nr in range(300, 308)]
            assert sibling.n_asked == 0

    run(work())


def test_what_is_answered_makes_room_while_others_wait(tmp_path: Path) -> None:
    async def work() -> None:
        async def silent(head: bytes, body: bytes) -> bytes:
            return b""

        siblings = asking(tmp_path / "b.sock")
        async with pretender(tmp_path / "b.sock", silent) as writers, at_work(siblings):
            sibling = await ready(siblings)
            first, second = sibling.ask(ASKED, bytes(100)), sibling.ask(ASKED, bytes(30))
            await until(lambda: writers)
            writers[0].write(frame(encode_message(Reply(1, True))))
            assert await first is None
            asked = sibling._asking
            assert asked is not None and (asked.n_waiting, asked.n_bytes_asked, second.done()) == (1, 30, False)

    run(work())


def test_an_answer_nobody_waits_for_any_more_is_dropped(tmp_path: Path) -> None:
    async def work() -> None:
        a, b = pair(tmp_path)
        async with at_work(a, b):
            sibling = await ready(a)
            left, kept = sibling.ask(ASKED, body_of(20)), sibling.ask(ASKED, body_of(9, 100))
            left.cancel()
            judged = await kept
            assert judged is not None and judged.ids[0] == "e-100"

    run(work())


OF_NOBODY = msgspec.structs.replace(ASKED, feed_id="events.of_another_release")
PLAIN = text_of([{"id": f"{nr}", "data": fields(nr)} for nr in range(20)])


def test_a_feed_that_only_the_asking_process_knows_gets_an_answer() -> None:
    reply = judge(door(), encode_message(OF_NOBODY), PLAIN, is_idle=True)
    assert read_reply(reply).run() is None


def test_a_question_that_cannot_be_judged_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblings_module, "ANSWER_SECONDS", 0.5)

    async def work() -> tuple[EventRun | None, EventRun | None]:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
        a, b = pair(tmp_path)
        async with at_work(a, b):
            sibling = await ready(a)
            return await asyncio.gather(sibling.ask(OF_NOBODY, PLAIN), sibling.ask(ASKED, body_of(9, 100)))

    first, second = run(work())
    assert first is None
    assert second is not None and second.ids[0] == "e-100"


def test_a_siblings_own_work_waits_for_one_question_at_most() -> None:
    async def work() -> int:
        answering = siblings_module._Answering(door(), lambda: True)
        for nr in range(4):
            answering.take(encode_message(ASKED), body_of(8, nr))
        await asyncio.sleep(0)
        return len(answering._asked)

    assert run(work()) == 3


# Where a sibling is of no help


def test_one_that_is_gone_is_not_asked_until_it_is_there(tmp_path: Path) -> None:
    async def work() -> None:
        a, b = pair(tmp_path)
        for _ in range(20):
            assert a.ready_to_judge(FEED, BIG) is None
            await asyncio.sleep(0.001)
        lone = a._others[0].ask(ASKED, body_of(20))
        assert (await lone, a._others[0].n_asked) == (None, 0)
        async with at_work(a, b):
            assert await (await ready(a)).ask(ASKED, body_of(20)) is not None

    run(work())


def test_one_that_is_gone_is_tried_once_in_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblings_module, "GONE_SECONDS", 60.0)

    async def work() -> None:
        a, b = pair(tmp_path)
        tried: list[int] = []
        connect = Sibling._connect

        async def counted(sibling: Sibling) -> None:
            tried.append(1)
            await connect(sibling)

        monkeypatch.setattr(Sibling, "_connect", counted)
        for _ in range(5):
            assert a.ready_to_judge(FEED, BIG) is None
            await asyncio.sleep(0.002)
        async with at_work(b):
            assert a.ready_to_judge(FEED, BIG) is None
        assert len(tried) == 1

    run(work())


@pytest.mark.parametrize("n_answered", [0, 1])
def test_one_that_dies_leaves_nobody_waiting_and_is_asked_again_once_it_is_back(
    tmp_path: Path, n_answered: int
) -> None:
    path, bodies = tmp_path / "b.sock", [body_of(20, 100 * nr) for nr in range(5)]

    async def work() -> None:
        n_asked = 0

        async def dies(head: bytes, body: bytes) -> bytes | None:
            nonlocal n_asked
            n_asked += 1
            return frame(judge(door(), head, body, is_idle=True)) if n_asked <= n_answered else None

        siblings = asking(path)
        async with at_work(siblings):
            async with pretender(path, dies):
                sibling = await ready(siblings)
                runs = await asyncio.gather(*(sibling.ask(ASKED, body) for body in bodies))
                assert [judged is None for judged in runs] == [nr >= n_answered for nr in range(5)]
                assert sibling.n_asked == 0
            back = Siblings(door(), path, [])
            back.is_idle = lambda: True
            async with at_work(back):
                assert await (await ready(siblings)).ask(ASKED, bodies[0]) is not None

    run(work())


def test_one_that_never_answers_is_left_alone_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        is_over = asyncio.Event()

        async def never(head: bytes, body: bytes) -> None:
            await is_over.wait()

        siblings = asking(tmp_path / "b.sock")
        async with pretender(tmp_path / "b.sock", never), at_work(siblings):
            sibling = await ready(siblings)
            monkeypatch.setattr(siblings_module, "ANSWER_SECONDS", 0.02)
            monkeypatch.setattr(siblings_module, "GONE_SECONDS", 0.2)
            loop = asyncio.get_running_loop()
            asked = [sibling.ask(ASKED, body_of(20)) for _ in range(3)]
            assert await asyncio.gather(*asked) == [None] * 3
            late_at = loop.time()
            assert siblings.ready_to_judge(FEED, BIG) is None
            await ready(siblings)
            assert loop.time() - late_at > 0.1
            # What it owes counts: it is never drowned in questions.
            assert sibling.n_asked == 3
            monkeypatch.setattr(siblings_module, "GONE_SECONDS", 0.0)
            while sibling.may_be_asked():
                assert await sibling.ask(ASKED, BIG) is None
            assert sibling.n_asked == MOST_ASKED
            is_over.set()

    run(work())


def reply_of(**parts: object) -> bytes:
    whole = read_reply(judge(door(), encode_message(ASKED), body_of(20), is_idle=True))
    return frame(encode_message(msgspec.structs.replace(whole, nr=1, **parts)))


@pytest.mark.parametrize(
    "rubbish",
    [
        frame(b""),
        frame(b"rubbish"),
        frame(b"\xc1"),
        frame(encode_message([1, True, ["one"], b""])),
        frame(encode_message({"nr": 1, "is_idle": True})),
        frame(encode_message("HTTP/1.1 400")),
        reply_of(ids=b"["),
        reply_of(ids=b'["one"]'),
        reply_of(ids=b"[]", ends=b"", digests=b""),
        reply_of(ends=bytes(4)),
        reply_of(ends=b""),
        reply_of(digests=bytes(32)),
    ],
)
def test_rubbish_for_an_answer_is_no_run_and_ends_the_connection(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "b.sock"

    async def work() -> None:
        async def answers(head: bytes, body: bytes) -> bytes:
            return rubbish

        siblings = asking(path)
        async with at_work(siblings):
            async with pretender(path, answers):
                sibling = await ready(siblings)
                before = sibling._asking
                asked = [sibling.ask(ASKED, body_of(20)) for _ in range(3)]
                assert await asyncio.gather(*asked) == [None] * 3
                await until(lambda: before is not None and before.transport is None)
            back = Siblings(door(), path, [])
            back.is_idle = lambda: True
            async with at_work(back):
                assert await (await ready(siblings)).ask(ASKED, body_of(20)) is not None

    run(work())


@pytest.mark.parametrize("rubbish", [reply_of(ids=b'["\xff"]'), frame(b"\x93\x01\xc3\x95\xa1\xff")])
def test_rubbish_that_is_no_utf8_is_no_run_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rubbish: bytes
) -> None:
    monkeypatch.setattr(siblings_module, "ANSWER_SECONDS", 0.3)
    test_rubbish_for_an_answer_is_no_run_and_ends_the_connection(tmp_path, rubbish)


def test_a_question_that_is_no_utf8_gets_no_answer() -> None:
    head = encode_message(["events.sales", "?", None, NOW, None]).replace(b"?", b"\xff")
    test_a_question_that_cannot_be_read_gets_no_answer(head)


def test_an_answer_to_no_question_ends_the_connection_quietly(tmp_path: Path) -> None:
    async def work() -> None:
        async def silent(head: bytes, body: bytes) -> bytes:
            return b""

        siblings = asking(tmp_path / "b.sock")
        async with pretender(tmp_path / "b.sock", silent) as writers, at_work(siblings):
            before = (await ready(siblings))._asking
            await until(lambda: writers)
            writers[0].write(reply_of())
            await until(lambda: before is not None and before.transport is None)

    run(work())


def test_one_with_requests_of_its_own_says_so_and_is_left_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(siblings_module, "BUSY_SECONDS", 0.3)

    async def work() -> None:
        a, b = pair(tmp_path)
        async with at_work(a, b):
            sibling = await ready(a)
            assert await sibling.ask(ASKED, body_of(20)) is not None
            assert sibling.may_be_asked()
            b.is_idle = lambda: False
            # It judges what it was asked all the same.
            assert await sibling.ask(ASKED, body_of(20)) is not None
            busy_at = asyncio.get_running_loop().time()
            assert not sibling.may_be_asked()
            assert a.ready_to_judge(FEED, BIG) is None
            b.is_idle = lambda: True
            await ready(a)
            assert asyncio.get_running_loop().time() - busy_at > 0.2

    run(work())


def test_the_one_that_was_asked_least_is_asked_next(tmp_path: Path) -> None:
    async def work() -> None:
        a = Siblings(door(), tmp_path / "a.sock", [tmp_path / "b.sock", tmp_path / "c.sock"])
        b, c = (Siblings(door(), tmp_path / name, []) for name in ("b.sock", "c.sock"))
        async with at_work(a, b, c):
            await until(lambda: len([one for one in a._others if one.may_be_asked()]) == 2)
            asked: list[Sibling] = []
            for _ in range(2 * MOST_ASKED):
                sibling = a.ready_to_judge(FEED, BIG)
                assert sibling is not None
                sibling.ask(ASKED, b"no run")
                asked.append(sibling)
            assert asked == a._others * MOST_ASKED
            assert a.ready_to_judge(FEED, BIG) is None

    run(work())


def test_a_place_that_cannot_be_listened_at_stops_nobody(tmp_path: Path) -> None:
    async def work() -> None:
        for own in (tmp_path / ("x" * 120), tmp_path / "no folder" / "a.sock", tmp_path):
            siblings = Siblings(door(), own, [tmp_path / ("y" * 120)])
            async with at_work(siblings):
                assert siblings._server is None
                assert siblings.ready_to_judge(FEED, BIG) is None
                await asyncio.sleep(0.005)
                assert siblings.ready_to_judge(FEED, BIG) is None

    run(work())


def test_a_socket_that_another_one_left_is_listened_at_again(tmp_path: Path) -> None:
    async def work() -> None:
        a, b = pair(tmp_path)
        await b.listen()
        stop(b)
        assert (tmp_path / "b.sock").is_socket()
        async with at_work(a, Siblings(door(), tmp_path / "b.sock", [])):
            assert await (await ready(a)).ask(ASKED, body_of(20)) is not None

    run(work())


@pytest.mark.parametrize(
    ("n_bytes", "is_offered"),
    [
        (0, False),
        (SMALLEST_BYTES - 1, False),
        (SMALLEST_BYTES, True),
        (LARGEST_RUN_BYTES, True),
        (LARGEST_RUN_BYTES + 1, False),
    ],
)
def test_only_bodies_worth_the_way_are_offered(tmp_path: Path, n_bytes: int, is_offered: bool) -> None:
    async def work() -> None:
        a, b = pair(tmp_path)
        async with at_work(a, b):
            await ready(a)
            assert (a.ready_to_judge(FEED, bytes(n_bytes)) is not None) == is_offered

    run(work())


def test_alone_nobody_is_asked() -> None:
    async def work() -> None:
        assert Siblings(door(), Path("nowhere"), []).ready_to_judge(FEED, BIG) is None

    run(work())


def test_a_feed_that_was_asked_about_in_vain_is_not_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(siblings_module, "IN_VAIN_SECONDS", 0.2)

    async def work() -> None:
        a, b = pair(tmp_path)
        async with at_work(a, b):
            sibling = await ready(a)
            a.was_in_vain(FEED)
            assert a.ready_to_judge(FEED, BIG) is None
            assert a.ready_to_judge("events.prices", BIG) is a.ready_to_judge(None, BIG) is sibling
            vain_at = asyncio.get_running_loop().time()
            await ready(a)
            assert asyncio.get_running_loop().time() - vain_at > 0.1

    run(work())


# Through the door


class Posts:
    """A door with one sibling beside it, and how often that one was asked."""

    def __init__(self, client: httpx.AsyncClient, journal: Journal) -> None:
        self._client, self.journal = client, journal
        self.asked: list[EventRun | None] = []

    async def post(self, body: bytes, **headers: str) -> httpx.Response:
        return await self._client.post("/events/sales", content=body, headers={"content-type": NDJSON, **headers})


@asynccontextmanager
async def helped_door(
    folder: Path, monkeypatch: pytest.MonkeyPatch, sources: tuple[HttpSource, ...] = ()
) -> AsyncIterator[Posts]:
    """A door that always has something else to do."""
    journal, (own, other), contracts = Journal(folder / "journal.sqlite"), pair(folder), read_contracts()
    group = GroupCommit(journal, lambda: NOW)
    monkeypatch.setattr(GroupCommit, "pending_events", 1)
    monkeypatch.setattr(siblings_module, "IN_VAIN_SECONDS", 0.0)
    judging = EventDoor(open_dataset(), contracts, group, lambda: NOW)
    app = build_app(judging, group, contracts, HttpDoorOptions(sources, siblings=own), lambda: NOW)
    transport = httpx.ASGITransport(app=app)
    ask = Sibling.ask
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://door") as client, at_work(own, other):
            posts = Posts(client, journal)

            def counted(sibling: Sibling, question: Question, body: bytes) -> asyncio.Future[EventRun | None]:
                answered = ask(sibling, question, body)
                answered.add_done_callback(lambda done: posts.asked.append(done.result()))
                return answered

            monkeypatch.setattr(Sibling, "ask", counted)
            await ready(own)
            yield posts
    finally:
        group.close()
        journal.close()


def test_a_request_that_a_sibling_judged_is_journalled_as_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with helped_door(tmp_path, monkeypatch) as door_:
            answer = (await door_.post(body_of(200))).json()
            assert (answer["accepted"], answer["verdicts"][7]["id"], len(door_.asked)) == (200, "e-7", 1)
            assert door_.asked[0] is not None
            again = (await door_.post(body_of(200))).json()
            assert (again["accepted"], again["duplicate"]) == (0, 200)
            other = (await door_.post(body_of(200, note="other"))).json()
            assert (other["accepted"], other["duplicate"]) == (0, 0)
            assert [row["outcome"] for row in other["verdicts"]] == ["conflict"] * 200
            assert [judged is None for judged in door_.asked] == [False] * 3
            assert [record.data for record in door_.journal.records(up_to_seq=200)] == [
                fields(nr, note="") for nr in range(200)
            ]
            assert door_.journal.verify_chain() == 400
            assert door_.journal.check() == []

    run(work())


def test_what_a_sibling_will_not_judge_its_owner_reads_or_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "t" * 20
    sources = (HttpSource("pos", frozenset({"events.sales"}), token=token),)

    async def work() -> None:
        async with helped_door(tmp_path, monkeypatch, sources) as door_:
            refused = await door_.post(body_of(200, source="elsewhere"), authorization=f"Bearer {token}")
            assert (refused.status_code, door_.asked) == (403, [None])
            unproven = await door_.post(body_of(200))
            assert (unproven.status_code, door_.asked) == (401, [None])
            odd = await door_.post(body_of(199) + b"{\n", authorization=f"Bearer {token}")
            assert (odd.status_code, odd.json()["accepted"], door_.asked) == (207, 199, [None, None])
            taken = await door_.post(body_of(200, 500), authorization=f"Bearer {token}")
            assert (taken.json()["accepted"], door_.asked[2] is not None) == (200, True)
            assert door_.journal.check() == []

    run(work())
