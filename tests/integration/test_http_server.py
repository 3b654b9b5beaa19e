"""The HTTP door as a process: slow, half-sent and broken requests, stops and kills; what was acknowledged is there."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from pathlib import Path

import pytest

from replenish.stores.journal import Journal
from replenish.stores.layout import RootLayout
from tests.integration.http_process import ServingProcess, answer_of, event, head, new_root, post, serving


@pytest.fixture()
def layout(tmp_path: Path) -> RootLayout:
    return new_root(tmp_path)


def journalled(layout: RootLayout) -> list[str]:
    journal = Journal(layout.journal)
    try:
        journal.verify_chain()
        return [record.id for record in journal.records()]
    finally:
        journal.close()


class Senders:
    """Threads that send numbered events one request after the other, noting what was acknowledged, until refused."""

    def __init__(self, door: ServingProcess, n: int = 4) -> None:
        self.door, self.acked = door, set[str]()
        self._threads = [threading.Thread(target=self._send, args=(nr,)) for nr in range(n)]
        for thread in self._threads:
            thread.start()

    def _send(self, nr: int) -> None:
        try:
            with self.door.connect() as connection:
                for i in range(100_000):
                    ids = [f"{nr}-{i}-{k}" for k in range(5)]
                    status, _ = post(connection, b"".join(event(event_id) for event_id in ids))
                    if status != 200:
                        return
                    self.acked.update(ids)
        except OSError:
            return

    def wait_for(self, n_acked: int) -> None:
        for _ in range(3000):
            if len(self.acked) >= n_acked:
                return
            time.sleep(0.01)
        raise AssertionError(f"only {len(self.acked)} events were acknowledged")

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


def test_a_stop_under_load_keeps_all_that_was_acknowledged_and_exits_clean(layout: RootLayout) -> None:
    with serving(layout.root) as door:
        senders = Senders(door)
        senders.wait_for(200)
        assert door.stop() == 0
        assert door.process.stderr is not None and door.process.stderr.read() == ""
        senders.join()
    assert senders.acked <= set(journalled(layout))


def test_a_kill_under_load_keeps_all_that_was_acknowledged_and_the_next_start_serves(layout: RootLayout) -> None:
    with serving(layout.root) as door:
        senders = Senders(door)
        senders.wait_for(200)
        door.kill()
        senders.join()
    with serving(layout.root) as door, door.connect() as connection:
        assert post(connection, event("after"))[0] == 200
        status, verdict = post(connection, event(min(senders.acked)))
        assert (status, verdict["duplicate"]) == (200, 1)
        assert door.stop() == 0
    ids = journalled(layout)
    assert senders.acked | {"after"} <= set(ids)
    assert len(ids) == len(set(ids))


def test_a_second_instance_on_the_same_root_is_refused(layout: RootLayout) -> None:
    with serving(layout.root) as door:
        second = ServingProcess(layout.root)
        assert second.process.wait(60) == 2
        assert second.process.stderr is not None
        assert f"process {door.process.pid}" in second.process.stderr.read()


def test_an_open_door_cannot_be_bound_to_the_outside(layout: RootLayout) -> None:
    door = ServingProcess(layout.root, "--host", "0.0.0.0")
    assert door.process.wait(60) == 2
    assert door.process.stderr is not None
    assert "token" in door.process.stderr.read()


def test_a_token_opens_the_door_and_nothing_else_does(layout: RootLayout) -> None:
    layout.doors_file.write_text(
        "http:\n  sources:\n    - {source: pos, feeds: [events.sales], token_variable: TOKEN_POS}\n"
    )
    with serving(layout.root, TOKEN_POS="s" * 40) as door, door.connect() as connection:
        assert post(connection, event("a"), f"authorization: Bearer {'s' * 40}")[0] == 200
        connection.sendall(head(1_000_000))
        # The answer comes before the body: nobody unknown makes us read.
        assert answer_of(connection)[0] == 401
    missing = ServingProcess(layout.root, TOKEN_POS="short")
    assert missing.process.wait(60) == 2


def test_half_a_request_is_no_request(layout: RootLayout) -> None:
    with serving(layout.root) as door:
        with door.connect() as connection:
            connection.sendall(head(10_000) + event("cut-length"))
        with door.connect() as connection:
            line = event("cut-chunk")
            connection.sendall(head(None) + b"%x\r\n" % len(line) + line + b"\r\n" + b"500\r\nabc")
        with door.connect() as connection:
            line = event("whole")
            connection.sendall(head(None) + b"%x\r\n" % len(line) + line + b"\r\n0\r\n\r\n")
            assert answer_of(connection)[0] == 200
        assert door.stop() == 0
    assert journalled(layout) == ["whole"]


def test_what_is_no_http_is_400_and_the_door_goes_on(layout: RootLayout) -> None:
    with serving(layout.root) as door:
        for rubbish in (b"\x16\x03\x01 hello\r\n\r\n", b"POST /events HTTP/1.1\r\ncontent-length: -1\r\n\r\n"):
            with door.connect() as connection:
                connection.sendall(rubbish)
                assert answer_of(connection)[0] in (0, 400)
        with door.connect() as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: door\r\n" + b"x-pad: " + b"y" * 100_000)
            assert answer_of(connection)[0] == 400
        with door.connect() as connection:
            assert post(connection, event("after"))[0] == 200


@pytest.mark.slow
def test_slow_senders_are_cut_off_and_keep_nobody_waiting(layout: RootLayout) -> None:
    with serving(layout.root) as door:
        drips = [door.connect() for _ in range(20)]
        for connection in drips:
            connection.sendall(b"POST /events/sales HTTP/1.1\r\nhost: door\r\n")
        with door.connect() as connection:
            assert post(connection, event("quick"))[0] == 200
        closed = threading.Event()

        def drip() -> None:
            # A header byte now and then does not move the deadline.
            while not closed.wait(0.5):
                for connection in drips:
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            answers = []
            for connection in drips:
                try:
                    answers.append(connection.recv(1))
                except ConnectionResetError:
                    answers.append(b"")
            assert answers == [b""] * len(drips)
        finally:
            closed.set()
            dripping.join()
        assert door.stop() == 0
    assert journalled(layout) == ["quick"]


def test_bombs_are_refused_within_little_memory(layout: RootLayout) -> None:
    bomb = gzip.compress(b"\0" * (300 << 20), 9)
    commas = gzip.compress(b"[" + b"1," * (20 << 20) + b"1]", 9)
    numbers = b"[" + b"1," * (4 << 20) + b"1]"
    deep = b"[" * (9 << 20)
    with serving(layout.root) as door:
        with door.connect() as connection:
            post(connection, event("warm"))
        before = door.resident_bytes()
        for body, headers in (
            (bomb, ["content-encoding: gzip"]),
            (commas, ["content-encoding: gzip"]),
            (numbers, []),
            (deep, []),
        ):
            for media_type in ("application/x-ndjson", "application/json"):
                with door.connect() as connection:
                    top = head(len(body), *headers).replace(b"application/x-ndjson", media_type.encode())
                    connection.sendall(top + body)
                    assert answer_of(connection)[0] in (207, 400, 413)
        growth = door.resident_bytes() - before
        with door.connect() as connection:
            assert post(connection, event("after"))[0] == 200
    assert growth < 100 << 20


def test_a_full_disk_is_507_and_the_same_event_passes_when_there_is_room(layout: RootLayout) -> None:
    with (
        serving(layout.root, REPLENISH_FAILPOINT="journal.before_commit:enospc:2") as door,
        door.connect() as connection,
    ):
        assert post(connection, event("before"))[0] == 200
        assert post(connection, event("refused"))[0] == 507
        status, verdict = post(connection, event("refused"))
        assert (status, verdict["accepted"]) == (200, 1)
        assert door.stop() == 0
    assert journalled(layout) == ["before", "refused"]


def test_a_failed_writer_is_503_and_ends_the_process_with_a_code(layout: RootLayout) -> None:
    with serving(layout.root, REPLENISH_FAILPOINT="journal.before_commit:eio:2") as door, door.connect() as connection:
        assert post(connection, event("before"))[0] == 200
        assert post(connection, event("lost"))[0] == 503
        assert door.process.wait(60) == 1
        assert door.process.stderr is not None and "stopped: " in door.process.stderr.read()
    assert journalled(layout) == ["before"]


@pytest.mark.parametrize("failpoint", ["http.received", "http.judged", "http.before_answer"])
def test_a_kill_inside_a_request_leaves_it_whole_or_absent_and_never_twice(layout: RootLayout, failpoint: str) -> None:
    batch = event("a") + event("b")
    with serving(layout.root, REPLENISH_FAILPOINT=f"{failpoint}:kill:1") as door, door.connect() as connection:
        connection.sendall(head(len(batch)) + batch)
        with contextlib.suppress(ConnectionResetError):
            assert answer_of(connection)[0] == 0
        assert door.process.wait(60) < 0
    with serving(layout.root) as door, door.connect() as connection:
        status, verdict = post(connection, batch)
        assert status == 200
        assert verdict["duplicate"] == (2 if failpoint == "http.before_answer" else 0)
        assert door.stop() == 0
    assert sorted(journalled(layout)) == ["a", "b"]


def test_a_crowd_of_events_is_429_for_those_without_room_and_all_others_are_there(layout: RootLayout) -> None:
    # Sixteen senders with more events than may wait: some are sent away, nobody who was not is forgotten.
    n_events = 4_000
    with serving(layout.root, REPLENISH_FAILPOINT="journal.before_commit:delay:1") as door:
        statuses: dict[int, int] = {}

        def send(nr: int) -> None:
            with door.connect() as connection:
                statuses[nr] = post(connection, b"".join(event(f"{nr}-{i}") for i in range(n_events)))[0]

        threads = [threading.Thread(target=send, args=(nr,)) for nr in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses.values()) == {200, 429}
        assert door.stop() == 0
    ids = set(journalled(layout))
    for nr, status in statuses.items():
        if status == 200:
            assert {f"{nr}-{i}" for i in range(n_events)} <= ids
