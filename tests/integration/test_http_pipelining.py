"""Many requests on one connection that wait for no answer: their order, their ends, and what they may cost."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import pytest

from replenish.cli.load_generator import ID_PLACE, varied_lines
from replenish.ingest.http.siblings import BUSY_SECONDS
from replenish.stores.layout import RootLayout
from tests.integration.http_process import ServingProcess, event, head, new_root, serving
from tests.integration.test_http_server import journalled
from tests.integration.test_http_workers import workers_of

Answer = tuple[int, dict[str, object]]
ENDED: Answer = (0, {})
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: door\r\n\r\n"
LINES = varied_lines()
DELAYED_COMMIT = {"REPLENISH_FAILPOINT": "journal.before_commit:delay:1"}
with_and_without_workers = pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["alone", "workers"])


@pytest.fixture()
def layout(tmp_path: Path) -> RootLayout:
    return new_root(tmp_path)


class Answers:
    """What comes back over one connection, one answer after the other."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._received = connection, b""

    def next(self) -> Answer:
        """Status and JSON; `ENDED` where the connection ended instead."""
        while b"\r\n\r\n" not in self._received:
            if not self._read():
                return ENDED
        top, _, self._received = self._received.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in top.split(b"\r\n")[1:])
        length = int(fields[b"content-length"])
        while len(self._received) < length:
            if not self._read():
                return ENDED
        body, self._received = self._received[:length], self._received[length:]
        return int(top.split()[1]), json.loads(body) if body.startswith(b"{") else {}

    def take(self, n: int) -> list[Answer]:
        """The next ones."""
        return [self.next() for _ in range(n)]

    def rest(self) -> list[Answer]:
        """All until the connection ends."""
        return list(iter(self.next, ENDED))

    def n_here(self) -> int:
        """How many have come and were not taken, without waiting."""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._connection.fileno(), 1 << 20):
                self._received += part
        return self._received.count(b"HTTP/1.1 ")

    def _read(self) -> bool:
        try:
            part = self._connection.recv(1 << 16)
        except ConnectionResetError:
            part = b""
        self._received += part
        return bool(part)


def request(body: bytes, *headers: str, path: str = "/events/sales", kind: str = "application/x-ndjson") -> bytes:
    top = head(len(body), *headers).replace(b"/events/sales", path.encode())
    return top.replace(b"application/x-ndjson", kind.encode()) + body


def ids_of(nr: int, n_rows: int) -> list[str]:
    return [f"{nr}-{row}".ljust(len(ID_PLACE), "_") for row in range(n_rows)]


def batch(ids: Sequence[str]) -> bytes:
    """Sound sales of a kilobyte each: from sixteen on they are worth being judged by another worker."""
    place = ID_PLACE.encode()
    return b"".join(LINES[nr % len(LINES)].replace(place, id_.encode()) for nr, id_ in enumerate(ids))


def line_of(offered: list[list[str]]) -> bytes:
    return b"".join(request(batch(ids)) for ids in offered)


def flat(offered: list[list[str]]) -> list[str]:
    return [id_ for ids in offered for id_ in ids]


@contextlib.contextmanager
def sending(connection: socket.socket, data: bytes) -> Iterator[None]:
    """All of it is on its way while the block reads answers."""

    def send() -> None:
        with contextlib.suppress(OSError):
            connection.sendall(data)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        sender.join()


def owner_of(connection: socket.socket, door: ServingProcess) -> int:
    """The worker that an answered connection came to."""
    ends = (door.port, connection.getsockname()[1])
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inode = next(row[9] for row in rows if tuple(int(end.rpartition(":")[2], 16) for end in row[1:3]) == ends)
    for pid in workers_of(door):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if str(descriptor.readlink()) == f"socket:[{inode}]":
                    return pid
    raise AssertionError("nobody has the connection")


@with_and_without_workers
def test_requests_take_effect_and_are_answered_in_the_order_they_were_sent(
    layout: RootLayout, options: tuple[str, ...]
) -> None:
    # Great ones, which another worker judges, and small ones, which are judged sooner than they are sent to it.
    offered = [ids_of(nr, 5 if nr % 3 else 60) for nr in range(60)]
    with serving(layout.root, *options) as door:
        with door.connect() as connection, sending(connection, line_of(offered)):
            answers = Answers(connection).take(len(offered))
        assert door.stop() == 0
    assert [status for status, _ in answers] == [200] * len(offered)
    firsts = list(accumulate(map(len, offered[:-1]), initial=1))
    assert [verdict["first_seq"] for _, verdict in answers] == firsts
    told = [[row["id"] for row in verdict["verdicts"]] for _, verdict in answers]  # type: ignore[attr-defined]
    assert told == offered
    assert journalled(layout) == flat(offered)


@with_and_without_workers
def test_a_mixed_line_gets_the_verdicts_of_its_requests_sent_one_by_one(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    first, large = batch(ids_of(0, 60)), batch(ids_of(1, 60))
    other = first.replace(b'"units":', b'"units":1')
    line = [
        request(first),
        request(event("a") + b'{"id":"bad","data":{"units":"many"}}\n' + event("b")),
        request(b'{"id":"cut","data":', kind="application/json"),
        HEALTH,
        request(large),
        request(first),
        request(first[:1000], "content-encoding: gzip"),
        request(event("a")[:-1], kind="application/json"),
        request(event("a").replace(b"tea", b"cup")[:-1], kind="application/json"),
        request(other),
        b"GET /nowhere HTTP/1.1\r\nhost: door\r\n\r\n",
        request(gzip.compress(batch(ids_of(2, 60))), "content-encoding: gzip"),
        request(large, "prefer: return=minimal"),
        request(event("c"), path="/events/nothing"),
        request(event("never")),
        HEALTH,
    ]
    seen: list[tuple[list[Answer], list[str]]] = []
    for name in ("one-by-one", "line"):
        (tmp_path / name).mkdir()
        layout = new_root(tmp_path / name)
        with serving(layout.root, *options) as door, door.connect() as connection:
            answers, got = Answers(connection), []
            if name == "line":
                connection.sendall(b"".join(line))
                got = answers.rest()
            for part in line if name == "one-by-one" else ():
                connection.sendall(part)
                got.append(answers.next())
                if got[-1][0] == 404 and "nothing" in str(got[-1]):
                    got += answers.rest()
                    break
            assert door.stop() == 0
        seen.append((got, journalled(layout)))
    statuses = [status for status, _ in seen[1][0]]
    assert statuses == [200, 207, 400, 200, 200, 200, 400, 200, 409, 207, 404, 200, 200, 404]
    assert seen[1] == seen[0]
    assert "never" not in seen[1][1]


@with_and_without_workers
def test_behind_a_request_that_asks_to_close_nothing_is_executed(layout: RootLayout, options: tuple[str, ...]) -> None:
    with serving(layout.root, *options) as door:
        with door.connect() as connection:
            last = request(batch(ids_of(1, 20)), "connection: close")
            connection.sendall(line_of([ids_of(0, 20)]) + last + line_of([ids_of(2, 20), ids_of(3, 20)]))
            assert [status for status, _ in Answers(connection).rest()] == [200, 200]
        assert door.stop() == 0
    assert journalled(layout) == ids_of(0, 20) + ids_of(1, 20)


def test_behind_a_request_that_is_refused_unread_nothing_is_executed(layout: RootLayout) -> None:
    with serving(layout.root) as door:
        with door.connect() as connection:
            refused = request(event("picture"), kind="image/png")
            connection.sendall(request(event("a")) + refused + request(event("never")) * 2)
            assert [status for status, _ in Answers(connection).rest()] == [200, 415]
        assert door.stop() == 0
    assert journalled(layout) == ["a"]


@with_and_without_workers
@pytest.mark.parametrize("rubbish", [b"\x16\x03\x01 hello\r\n\r\n", b"POST /events HTTP/1.1\r\nfoo : \x00\r\n\r\n"])
def test_what_is_no_http_is_answered_behind_what_came_before_it(
    layout: RootLayout, options: tuple[str, ...], rubbish: bytes
) -> None:
    with serving(layout.root, *options) as door:
        with door.connect() as connection:
            connection.sendall(line_of([ids_of(0, 20), ids_of(1, 20)]) + rubbish + line_of([ids_of(2, 20)]))
            assert [status for status, _ in Answers(connection).rest()] == [200, 200, 400]
        assert door.stop() == 0
    assert journalled(layout) == ids_of(0, 20) + ids_of(1, 20)


def test_a_body_that_is_no_http_is_answered_behind_what_came_before_it(layout: RootLayout) -> None:
    with serving(layout.root, **DELAYED_COMMIT) as door:
        with door.connect() as connection:
            connection.sendall(request(event("a")) + head(None) + b"zz\r\n" + event("b"))
            assert [status for status, _ in Answers(connection).rest()] == [200, 400]
        assert door.stop() == 0
    assert journalled(layout) == ["a"]


def test_a_body_that_is_no_http_after_its_answer_ends_the_connection(layout: RootLayout) -> None:
    with serving(layout.root, **DELAYED_COMMIT) as door, door.connect() as connection:
        connection.settimeout(10)
        unread = b"GET /healthz HTTP/1.1\r\nhost: door\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.sendall(request(event("a")) + unread)
        time.sleep(0.5)
        connection.sendall(b"zz\r\n")
        assert [status for status, _ in Answers(connection).rest()][:2] == [200, 200]


def test_the_body_of_a_request_for_another_protocol_is_never_taken_for_a_request(layout: RootLayout) -> None:
    inner = request(event("inner"))
    with serving(layout.root) as door:
        with door.connect() as connection, contextlib.suppress(OSError):
            connection.sendall(head(len(inner), "connection: upgrade", "upgrade: h2c"))
            time.sleep(0.3)
            connection.sendall(inner + HEALTH)
            Answers(connection).take(2)
        assert door.stop() == 0
    assert "inner" not in journalled(layout)


@with_and_without_workers
@pytest.mark.parametrize("leaves_by", ["end", "reset"])
def test_a_sender_that_leaves_its_answers_leaves_a_prefix_and_may_send_all_again(
    layout: RootLayout, options: tuple[str, ...], leaves_by: str
) -> None:
    offered = [ids_of(nr, 60) for nr in range(10)]
    with serving(layout.root, *options) as door:
        connection = door.connect()
        connection.sendall(line_of(offered))
        if leaves_by == "end":
            connection.shutdown(socket.SHUT_WR)
        else:
            time.sleep(0.02)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        with door.connect() as other:
            other.sendall(HEALTH)
            assert Answers(other).next()[0] == 200
        assert door.stop() == 0
        connection.close()
    there = journalled(layout)
    assert len(there) % 60 == 0 and there == flat(offered)[: len(there)]
    with serving(layout.root, *options) as door:
        with door.connect() as connection, sending(connection, line_of(offered)):
            assert [status for status, _ in Answers(connection).take(10)] == [200] * 10
        assert door.stop() == 0
    assert journalled(layout) == flat(offered)


@with_and_without_workers
def test_a_lone_sender_is_never_sent_away_for_its_own_line(layout: RootLayout, options: tuple[str, ...]) -> None:
    # The first commit takes two seconds; meanwhile more is sent than may wait for the journal.
    offered = [["first"], *([f"{nr}-{row}" for row in range(2_000)] for nr in range(30))]
    line = b"".join(request(b"".join(map(event, ids)), "prefer: return=minimal") for ids in offered)
    with serving(layout.root, *options, **DELAYED_COMMIT) as door:
        with door.connect() as connection, sending(connection, line):
            answers = Answers(connection).take(len(offered))
        assert door.stop() == 0
    assert [(status, verdict.get("accepted")) for status, verdict in answers] == [(200, len(ids)) for ids in offered]
    assert journalled(layout) == flat(offered)


@with_and_without_workers
def test_an_unreadable_body_behind_a_full_queue_is_kept_in_its_place(
    layout: RootLayout, options: tuple[str, ...]
) -> None:
    # As many as may wait for the journal, to the last one; all of them do while the first commit takes its time.
    offered = [[f"{nr}-{row}" for row in range(n)] for nr, n in enumerate([1, *[2_000] * 9, 1_999])]
    line = b"".join(request(b"".join(map(event, ids)), "prefer: return=minimal") for ids in offered)
    broken = request(b"no gzip", "content-encoding: gzip")
    with serving(layout.root, *options, **DELAYED_COMMIT) as door:
        with door.connect() as connection, sending(connection, line + broken + request(event("after"))):
            answers = Answers(connection).take(13)
        assert door.stop() == 0
    assert [status for status, _ in answers] == [200] * 11 + [400, 200]
    ids = journalled(layout)
    assert ids[:20_000] == flat(offered) and ids[20_001:] == ["after"]


@pytest.mark.parametrize(("n_requests", "n_rows"), [(200, 8), (30, 53)], ids=["many requests", "large ones"])
def test_a_line_is_read_no_further_ahead_than_a_few_requests(layout: RootLayout, n_requests: int, n_rows: int) -> None:
    row = event("#").replace(b'"units"', b'"note":"%s","units"' % (b"x" * 30_000))
    offered = [[f"{nr}-{k}" for k in range(n_rows)] for nr in range(n_requests)]
    line = b"".join(request(b"".join(row.replace(b"#", id_.encode()) for id_ in ids)) for ids in offered)
    with serving(layout.root, REPLENISH_FAILPOINT="journal.before_commit:delay:2") as door:
        with door.connect() as connection:
            connection.sendall(request(event("warm")))
            assert Answers(connection).next()[0] == 200
            before = door.resident_bytes()
            with sending(connection, line):
                time.sleep(1.5)
                growth = door.resident_bytes() - before
                answers = Answers(connection).take(len(offered))
        assert door.stop() == 0
    assert [status for status, _ in answers] == [200] * len(offered)
    assert growth < len(line) // 2
    assert journalled(layout) == ["warm", *flat(offered)]


@with_and_without_workers
def test_a_reader_that_takes_its_time_is_told_everything_within_little_memory(
    layout: RootLayout, options: tuple[str, ...]
) -> None:
    row = event("#").replace(b'"units"', b'"note":"%s","units"' % (b"x" * 30_000))
    offered = [[f"{nr}-{k}" for k in range(8)] for nr in range(100)]
    document = b"GET /openapi.json HTTP/1.1\r\nhost: door\r\n\r\n"
    line = [request(b"".join(row.replace(b"#", id_.encode()) for id_ in ids)) for ids in offered]
    with serving(layout.root, *options) as door:
        with door.connect() as connection:
            answers = Answers(connection)
            connection.sendall(HEALTH)
            assert answers.next()[0] == 200
            pid = owner_of(connection, door) if options else door.process.pid
            before = resident_bytes(pid)
            with sending(connection, document * 500 + b"".join(line)):
                time.sleep(1)
                growth = resident_bytes(pid) - before
                n_waiting = answers.n_here()
                assert [status for status, _ in answers.take(600)] == [200] * 600
        assert door.stop() == 0
    assert n_waiting < 600 and growth < sum(map(len, line)) // 2
    assert journalled(layout) == flat(offered)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@with_and_without_workers
def test_a_stop_inside_a_line_keeps_all_that_was_answered_and_exits_clean(
    layout: RootLayout, options: tuple[str, ...]
) -> None:
    offered = [ids_of(nr, 60) for nr in range(150)]
    with serving(layout.root, *options) as door:
        with door.connect() as connection, sending(connection, line_of(offered)):
            answers = Answers(connection)
            told = answers.take(5)
            door.process.send_signal(signal.SIGTERM)
            told += answers.rest()
        assert door.process.wait(60) == 0
        assert door.process.stderr is not None and door.process.stderr.read() == ""
    assert {status for status, _ in told} == {200}
    there = journalled(layout)
    assert len(there) % 60 == 0 and there == flat(offered)[: len(there)]
    assert 60 * len(told) <= len(there)


def test_a_worker_killed_while_it_judges_for_another_one_costs_that_one_nothing(layout: RootLayout) -> None:
    offered = [ids_of(nr, 60) for nr in range(40)]
    with serving(layout.root, "--workers", "2") as door:
        with door.connect() as connection:
            answers, line = Answers(connection), line_of(offered[10:])
            # Until they know one another each judges by itself.
            for _ in range(50):
                connection.sendall(line_of(offered[:10]))
                assert [status for status, _ in answers.take(10)] == [200] * 10
                if n_helped(door) > 0:
                    break
            time.sleep(2 * BUSY_SECONDS)
            owner = owner_of(connection, door)
            (helper,) = (pid for pid in workers_of(door) if pid != owner)
            os.kill(helper, signal.SIGSTOP)
            with sending(connection, line):
                time.sleep(0.4)
                n_answered = answers.n_here()
                os.kill(helper, signal.SIGKILL)
                assert [status for status, _ in answers.take(30)] == [200] * 30
        assert n_answered < 30
        for _ in range(300):
            if len(workers_of(door)) == 2 and helper not in workers_of(door):
                break
            time.sleep(0.1)
        assert door.stop() == 0
    assert journalled(layout) == flat(offered)


def test_a_line_of_thousands_of_empty_requests_is_no_line_of_events(layout: RootLayout) -> None:
    with serving(layout.root) as door:
        before = door.resident_bytes()
        connections = [door.connect() for _ in range(8)]
        for connection in connections:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n" * 12_000)
        statuses = [[status for status, _ in Answers(connection).rest()] for connection in connections]
        grown = door.resident_bytes() - before
        for connection in connections:
            connection.close()
        assert door.stop() == 0
    assert all(400 in some and len(some) < 3_000 for some in statuses)
    assert grown < 60 << 20


def n_helped(door: ServingProcess) -> float:
    """Requests that one worker judged for another."""
    with door.connect() as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nhost: door\r\nconnection: close\r\n\r\n")
        told = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    counted = re.search(rb"^replenish_http_requests_judged_by_siblings_total (\S+)", told, re.MULTILINE)
    return float(counted[1]) if counted else 0.0


def test_many_senders_with_long_lines_are_all_served(layout: RootLayout) -> None:
    # Sixteen requests under way on each of forty connections: more than there may be connections.
    with serving(layout.root, **DELAYED_COMMIT) as door:
        connections = [door.connect() for _ in range(40)]
        for nr, connection in enumerate(connections):
            connection.sendall(b"".join(request(event(f"{nr}-{k}")) for k in range(16)))
        statuses = [[status for status, _ in Answers(connection).take(16)] for connection in connections]
        for connection in connections:
            connection.close()
        assert door.stop() == 0
    assert statuses == [[200] * 16] * 40
    assert sorted(journalled(layout)) == sorted(f"{nr}-{k}" for nr in range(40) for k in range(16))
