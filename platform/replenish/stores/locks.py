"""One process per purpose: a lock that the kernel gives back when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from replenish.errors import AlreadyRunning

POLL_SECONDS = 0.05


@contextmanager
def hold(path: Path, purpose: str, *, wait_seconds: float = 0) -> Iterator[int]:
    """Hold the lock at `path` inside the block; the file stays and says who holds it, and for what.

    Gives the lock's descriptor: a child that inherits it holds the lock too, until it ends.

    Args:
        path: Lock file, made where there is none. Never deleted: a deleted lock file can be locked twice.
        purpose: What the holder does, in words for the one who has to wait.
        wait_seconds: How long to wait for another holder.

    Raises:
        AlreadyRunning: Another process (or another block of this one) holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _lock(descriptor, path, purpose, wait_seconds)
        content = json.dumps({"pid": os.getpid(), "purpose": purpose}).encode()
        os.ftruncate(descriptor, 0)
        # On a full disk the lock holds all the same; only its words are missing.
        with suppress(OSError):
            os.pwrite(descriptor, content, 0)
        yield descriptor
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder_of(path: Path) -> str | None:
    """Who holds the lock, in words; None where nobody does."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _words(path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path, purpose: str, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise AlreadyRunning(
                    f"cannot {purpose}: {_words(path)} has the lock; wait for it or stop it, then try again", lock=path
                ) from None
        time.sleep(POLL_SECONDS)


def _words(path: Path) -> str:
    try:
        holder = json.loads(path.read_bytes())
        return f"process {holder['pid']} ({holder['purpose']})"
    except (ValueError, KeyError, TypeError):
        # The other one is between locking the file and writing into it.
        return "another process"
