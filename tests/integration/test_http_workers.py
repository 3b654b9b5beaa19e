"""The HTTP door as several processes: a killed worker, a killed supervisor, stops, refusals; counters are sums."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path

import pytest

from replenish.stores.layout import RootLayout
from tests.integration.http_process import ServingProcess, event, new_root, post, serving
from tests.integration.test_http_server import Senders, journalled


@pytest.fixture()
def layout(tmp_path: Path) -> RootLayout:
    return new_root(tmp_path)


def workers_of(door: ServingProcess) -> list[int]:
    pid = door.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_gone(pid: int) -> bool:
    for _ in range(600):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False


def metrics_of(door: ServingProcess) -> str:
    with door.connect() as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nhost: door\r\nconnection: close\r\n\r\n")
        received = b""
        while part := connection.recv(65536):
            received += part
    return received.decode()


def accepted_of(door: ServingProcess) -> float:
    pattern = r'replenish_http_events_total\{feed="events.sales",outcome="accepted"\} ([0-9.e+]+)'
    found = re.search(pattern, metrics_of(door))
    return float(found[1]) if found else 0


def test_a_stop_drains_every_worker_and_exits_clean(layout: RootLayout) -> None:
    with serving(layout.root, "--workers", "2") as door:
        workers = workers_of(door)
        senders = Senders(door, 8)
        senders.wait_for(400)
        assert door.stop() == 0
        assert door.process.stderr is not None and door.process.stderr.read() == ""
        senders.join()
    assert len(workers) == 2 and all(map(is_gone, workers))
    ids = journalled(layout)
    assert senders.acked <= set(ids) and len(ids) == len(set(ids))


def test_a_killed_worker_loses_nothing_acknowledged_and_is_replaced(layout: RootLayout) -> None:
    with serving(layout.root, "--workers", "2") as door:
        senders = Senders(door, 8)
        senders.wait_for(400)
        killed, kept = workers_of(door)
        os.kill(killed, signal.SIGKILL)
        senders.wait_for(len(senders.acked) + 200)
        for _ in range(300):
            if len(workers_of(door)) == 2 and killed not in workers_of(door):
                break
            time.sleep(0.1)
        assert kept in workers_of(door) and killed not in workers_of(door) and len(workers_of(door)) == 2
        for nr in range(12):
            # Whichever worker these come to, one waits in the killed one's queue until its successor is there.
            with door.connect() as connection:
                assert post(connection, event(f"after-{nr}"))[0] == 200
        assert door.stop() == 0
        senders.join()
    ids = journalled(layout)
    assert senders.acked | {f"after-{nr}" for nr in range(12)} <= set(ids)
    assert len(ids) == len(set(ids))


def test_a_killed_supervisor_takes_its_workers_with_it_and_the_next_one_serves(layout: RootLayout) -> None:
    with serving(layout.root, "--workers", "2") as door:
        workers = workers_of(door)
        senders = Senders(door)
        senders.wait_for(200)
        door.kill()
        senders.join()
    assert all(map(is_gone, workers))
    with serving(layout.root, "--workers", "2") as door, door.connect() as connection:
        assert post(connection, event("after"))[0] == 200
        assert door.stop() == 0
    assert senders.acked | {"after"} <= set(journalled(layout))


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_a_second_instance_is_refused_while_workers_serve(layout: RootLayout, options: tuple[str, ...]) -> None:
    with serving(layout.root, "--workers", "2") as door:
        second = ServingProcess(layout.root, *options)
        assert second.process.wait(60) == 2
        assert second.process.stderr is not None
        assert f"process {door.process.pid}" in second.process.stderr.read()


def test_a_door_of_another_root_cannot_share_the_port(layout: RootLayout, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = new_root(tmp_path / "other")
    with serving(layout.root, "--workers", "2") as door:
        second = ServingProcess(other.root, "--workers", "2", "--port", str(door.port))
        assert second.process.wait(60) == 2
        assert second.process.stderr is not None
        assert "cannot listen" in second.process.stderr.read()


def test_every_scrape_shows_the_sum_over_all_workers(layout: RootLayout) -> None:
    with serving(layout.root, "--workers", "2") as door:
        for nr in range(20):
            with door.connect() as connection:
                assert post(connection, event(f"{nr}") + event(f"{nr}+"))[0] == 200
        assert {accepted_of(door) for _ in range(12)} == {40}
        os.kill(workers_of(door)[0], signal.SIGKILL)
        assert accepted_of(door) == 40
        text = metrics_of(door)
        assert "replenish_http_held_bytes 0.0" in text and text.endswith("# EOF\n")


def test_a_worker_whose_journal_fails_ends_the_door_with_a_code(layout: RootLayout) -> None:
    with serving(layout.root, "--workers", "2", REPLENISH_FAILPOINT="journal.before_commit:eio:1") as door:
        with door.connect() as connection:
            assert post(connection, event("a"))[0] == 503
        assert door.process.wait(60) == 1
    assert journalled(layout) == []


def test_a_worker_that_dies_again_and_again_ends_the_door(layout: RootLayout) -> None:
    with serving(layout.root, "--workers", "2", REPLENISH_FAILPOINT="http.received:kill:1") as door:
        for nr in range(40):
            if door.process.poll() is not None:
                break
            try:
                with door.connect() as connection:
                    assert post(connection, event(f"{nr}"))[0] == 0
            except OSError:
                continue
        assert door.process.wait(120) == 1
    assert journalled(layout) == []


@pytest.mark.parametrize("failpoint", ["http.judged", "journal.before_commit", "group.before_ack"])
def test_workers_killed_inside_requests_leave_each_whole_or_absent_and_never_twice(
    layout: RootLayout, failpoint: str
) -> None:
    offered = [[f"{nr}/{k}" for k in range(10)] for nr in range(12)]
    acked: set[str] = set()
    with serving(layout.root, "--workers", "2", REPLENISH_FAILPOINT=f"{failpoint}:kill:3") as door:
        for ids in offered:
            with contextlib.suppress(OSError), door.connect() as connection:
                if post(connection, b"".join(map(event, ids)))[0] == 200:
                    acked.update(ids)
    there = journalled(layout)
    assert acked <= set(there) and len(there) == len(set(there))
    assert all(len(set(ids) & set(there)) in (0, 10) for ids in offered)
    with serving(layout.root, "--workers", "2") as door, door.connect() as connection:
        for ids in offered:
            assert post(connection, b"".join(map(event, ids)))[0] == 200
        assert door.stop() == 0
    assert sorted(journalled(layout)) == sorted(id_ for ids in offered for id_ in ids)
