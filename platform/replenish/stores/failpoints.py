"""Named places where a test may make the process die, fail or wait; without the environment variable they do nothing.

`REPLENISH_FAILPOINT=name:action:nth` arms one of them for this process: at the nth time it is passed (from 1), the
action happens, once. Actions: `kill` (SIGKILL to itself), `raise`, `enospc`, `eio` (errors), `delay` (two seconds).
A firing is first appended to the file `REPLENISH_FAILPOINT_LOG` names, durably, so that a test knows it happened.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from typing import NamedTuple

from replenish.errors import OutOfRange

DELAY_SECONDS = 2.0
VARIABLE = "REPLENISH_FAILPOINT"
LOG_VARIABLE = "REPLENISH_FAILPOINT_LOG"
ACTIONS = ("kill", "raise", "enospc", "eio", "delay")
EVENT_DOORS = ("http", "cdc", "kafka")
WRITERS = ("file", *EVENT_DOORS, "settle")


class Failpoint(NamedTuple):
    """A named place: what has happened when it is passed, and through which doors a test can reach it."""

    name: str
    doors: tuple[str, ...]
    what: str


class InjectedFault(RuntimeError):
    """What the action `raise` raises: an error that nobody foresaw."""


FAILPOINTS: dict[str, Failpoint] = {
    point.name: point
    for point in (
        Failpoint("journal.before_begin", WRITERS, "a write is asked for, its transaction not begun"),
        Failpoint(
            "journal.rows_written",
            WRITERS,
            "rows of a transaction are written: events, or the letters of a file and not its record",
        ),
        Failpoint("journal.before_commit", WRITERS, "all rows are written, nothing is committed"),
        Failpoint("journal.after_commit", WRITERS, "committed, nobody told"),
        Failpoint("group.before_ack", EVENT_DOORS, "a group is committed, no submitter told"),
        Failpoint("archive.copied", ("file",), "a file is copied into the archive, not forced to disk"),
        Failpoint("archive.synced", ("file",), "the copy is on disk, under its draft name"),
        Failpoint("archive.renamed", ("file",), "the copy has its name, the folder is not forced to disk"),
        Failpoint("parts.written", ("file", "settle"), "an accepted part is written, not forced to disk"),
        Failpoint("parts.synced", ("file", "settle"), "an accepted part is on disk, its record not appended"),
        Failpoint("file.judged", ("file",), "a file is judged and its parts written, nothing journalled"),
        Failpoint(
            "settle.judged", ("settle",), "a batch of events is judged and its parts written, nothing journalled"
        ),
        Failpoint("settle.appended", ("settle",), "a batch of events is settled in the journal"),
        Failpoint("segment.written", ("seal",), "a segment is written, not forced to disk"),
        Failpoint("segment.synced", ("seal",), "a segment is on disk, its manifest not written"),
        Failpoint("segment.sealed", ("seal",), "a segment and its manifest are on disk and verified"),
        Failpoint("trim.before_commit", ("seal",), "bodies of sealed events are cleared, not committed"),
        Failpoint("trim.after_commit", ("seal",), "bodies of sealed events are gone from the journal"),
        Failpoint("lake.before_write", ("lake",), "a table commit is about to begin"),
        Failpoint("lake.written", ("lake",), "a table commit is written, not forced to disk"),
        Failpoint("lake.data_synced", ("lake",), "data files are on disk, the log entry is not"),
        Failpoint("lake.log_synced", ("lake",), "the log entry is on disk, the folders above are not"),
        Failpoint("lake.done", ("lake",), "a table commit is on disk, its caller not told"),
        Failpoint("lake.compact_before", ("maintain",), "a table is about to be compacted"),
        Failpoint("lake.compact_after", ("maintain",), "a table is compacted, not forced to disk"),
        Failpoint("lake.vacuum_before", ("maintain",), "old files are about to be removed"),
        Failpoint("lake.vacuum_after", ("maintain",), "old files are removed"),
        Failpoint("lake.checkpoint_before", ("maintain",), "a checkpoint is about to be written"),
        Failpoint("lake.checkpoint_after", ("maintain",), "a checkpoint is written, not forced to disk"),
        Failpoint("http.received", ("http",), "a request body is read whole, nothing judged"),
        Failpoint("http.judged", ("http",), "its events are judged, nothing submitted"),
        Failpoint("http.before_answer", ("http",), "its events are committed, no answer sent"),
        Failpoint("cdc.decoded", ("cdc",), "changes are peeked and decoded, nothing journalled"),
        Failpoint("cdc.journalled", ("cdc",), "changes are journalled, the slot not advanced"),
        Failpoint("cdc.advanced", ("cdc",), "the slot is advanced"),
        Failpoint("cdc.snapshot_batch", ("cdc",), "a batch of the first snapshot is journalled"),
        Failpoint("cdc.snapshot_done", ("cdc",), "the first snapshot is journalled whole, streaming not begun"),
        Failpoint("kafka.polled", ("kafka",), "messages are polled, nothing journalled"),
        Failpoint("kafka.journalled", ("kafka",), "messages are journalled, no offset committed"),
        Failpoint("kafka.committed", ("kafka",), "offsets are committed"),
        Failpoint("ship.sent", ("ship",), "a range is read and checked, nothing appended to the standby"),
        Failpoint("ship.appended", ("ship",), "a range is appended to the standby"),
        Failpoint("promote.fenced", ("ship",), "the fence names the new epoch, the log does not"),
        Failpoint("promote.started", ("ship",), "the log of the new primary holds its epoch"),
        Failpoint("redrive.judged", ("redrive",), "letters are judged again, nothing journalled"),
        Failpoint("redrive.appended", ("redrive",), "their events are journalled, the letters still open"),
        Failpoint("doctor.quarantined", ("doctor",), "a damaged file is moved to quarantine, nothing repaired"),
        Failpoint("doctor.repaired", ("doctor",), "a repair is done, the report not written"),
        Failpoint("rebuild.dropped", ("doctor",), "the tables of a layer are out of the way, nothing rebuilt"),
        Failpoint("rebuild.layer_done", ("doctor",), "a layer is rebuilt"),
    )
}


class _Armed(NamedTuple):
    name: str
    action: str
    nth: int


def _armed(text: str | None) -> _Armed | None:
    if not text:
        return None
    name, _, rest = text.partition(":")
    action, _, nth = rest.partition(":")
    # A misspelt name would make a fault test pass without a fault.
    if name not in FAILPOINTS or action not in ACTIONS or not (nth or "1").isdigit():
        raise OutOfRange(f"{VARIABLE}={text}: expected name:action:nth with a registered name, action in {ACTIONS}")
    return _Armed(name, action, int(nth or "1"))


_ARMED = _armed(os.environ.get(VARIABLE))
_passed = 0
_counting = threading.Lock()


def failpoint(name: str) -> None:
    """Pass the named place: nothing happens unless the environment armed it when this module was imported."""
    if _ARMED is not None and _ARMED.name == name:
        _pass_armed(_ARMED)


def _pass_armed(armed: _Armed) -> None:
    global _passed
    with _counting:
        _passed += 1
        if _passed != armed.nth:
            return
    _log_firing(armed)
    if armed.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if armed.action == "raise":
        raise InjectedFault(armed.name)
    if armed.action in ("enospc", "eio"):
        number = errno.ENOSPC if armed.action == "enospc" else errno.EIO
        raise OSError(number, os.strerror(number), armed.name)
    time.sleep(DELAY_SECONDS)


def _log_firing(armed: _Armed) -> None:
    path = os.environ.get(LOG_VARIABLE)
    if not path:
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{armed.name}:{armed.action}:{armed.nth} {os.getpid()}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
