"""Locks: one holder, named to the others, and free when it dies."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from replenish.errors import AlreadyRunning
from replenish.stores.locks import hold, holder_of

HOLD = """
import sys
from pathlib import Path
from replenish.stores.locks import hold
with hold(Path(sys.argv[1]), "serve"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_told_who_holds_it_and_gets_it_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "serve.lock"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdin is not None
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(AlreadyRunning, match=rf"process {other.pid} \(serve\)"), hold(path, "serve"):
            pass
        assert holder_of(path) == f"process {other.pid} (serve)"
    finally:
        other.kill()
        other.wait(30)
        other.stdin.close()
        other.stdout.close()
    with hold(path, "serve"):
        pass
    assert holder_of(path) is None


def test_who_waits_gets_it_when_it_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "ingest.lock"
    held, give_back = threading.Event(), threading.Event()

    def first() -> None:
        with hold(path, "settle"):
            held.set()
            give_back.wait(30)

    thread = threading.Thread(target=first)
    thread.start()
    assert held.wait(30)
    with pytest.raises(AlreadyRunning), hold(path, "ingest", wait_seconds=0.1):
        pass
    threading.Timer(0.1, give_back.set).start()
    with hold(path, "ingest", wait_seconds=30):
        pass
    thread.join()


def test_a_failing_block_gives_it_back(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), hold(tmp_path / "a.lock", "fail"):
        raise RuntimeError
    with hold(tmp_path / "a.lock", "work"):
        pass
