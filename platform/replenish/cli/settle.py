"""`replenish settle`: accepted events become facts, once, or as they come by a process that stays."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
from typing import Annotated, NamedTuple

import polars as pl
import typer
from rich.markup import escape

from replenish.cli.deployment import Deployment, default_root, now_utc, open_deployment
from replenish.cli.doctor_visit import require_sound_journal
from replenish.cli.settle_watch import SettleWatch
from replenish.cli.tables import file_table, open_console
from replenish.errors import AlreadyRunning, JournalOverloaded, StoreFull, WriteConflict, WriterFailed
from replenish.ingest.accepted_parts import PartIndex
from replenish.ingest.resident_parts import ResidentParts
from replenish.ingest.settle import EventSettler
from replenish.stores.journal import Journal
from replenish.stores.locks import hold

POLL_SECONDS = 0.001
LOOK_SECONDS = 1.0
"""How often to look whether the journal is still the one that was opened."""
POLLS_OF_A_TURN = 50
SHARE_LEFT_TO_OTHERS, MOST_LEFT_SECONDS = 16, 0.1
"""Of the time that the lock was held, a sixteenth nobody holds it, and no longer than so many seconds."""
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.5, 30.0
DEFAULT_EVERY_SECONDS = 5.0
SWITCH_SECONDS = 0.0002
"""A part's digest is taken in a thread beside its writing, and neither is to wait 5 ms for the other."""


def settle_waiting(
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and settle events as they come.")] = False,
    every: Annotated[
        float, typer.Option(min=0, max=3600, help="With --follow: seconds from one settling to the next, at least.")
    ] = DEFAULT_EVERY_SECONDS,
) -> None:
    """Judge accepted events against all known facts: from then on they are facts, and features may see them.

    Every settling with news writes a part per feed and month, and a record: often means fresh, seldom means few files
    and short starts.
    """
    deployment = open_deployment(default_root())
    require_sound_journal(deployment.layout)
    console = open_console()
    if follow:
        with hold(deployment.layout.locks / "settle.lock", "settle events as they come"):
            _follow(deployment, every)
        return
    with console.status("settling events"):
        report = _settler(deployment, deployment.journal).settle(now=now_utc())
    console.print(file_table(report.batches) if report.batches else "no events wait")
    if report.waiting:
        names = escape(", ".join(report.waiting))
        console.print(f"[yellow]events of feeds that are no longer declared wait[/]: {names}", soft_wrap=True)


def _settler(deployment: Deployment, journal: Journal, index: PartIndex | None = None) -> EventSettler:
    dataset, contracts, layout = deployment.dataset, deployment.contracts, deployment.layout
    return EventSettler(dataset, contracts, journal, layout, versions=deployment.versions, index=index)


def _warm_index(deployment: Deployment, journal: Journal) -> ResidentParts:
    """One that has looked at all that is there, so that the first event does not wait for it."""
    index = ResidentParts(journal)
    index.refresh()
    for stream, contract in sorted(deployment.contracts.items()):
        try:
            index.warm_up(contract, deployment.layout.accepted)
        except (OSError, pl.exceptions.PolarsError) as error:
            # Whoever needs that part will say so; most events do not.
            words = f"an accepted part of {stream} cannot be read, run `replenish doctor`: {error}"
            open_console().print(escape(words), soft_wrap=True)
    return index


class _OpenJournal(NamedTuple):
    """A journal and the file that it was when it was opened."""

    journal: Journal
    inode: int

    def require_in_place(self) -> None:
        """Raise WriterFailed where another file, or none, has its name: what comes there would never be seen."""
        path = self.journal.path
        try:
            found = path.stat().st_ino
        except FileNotFoundError:
            found = 0
        if found != self.inode:
            raise WriterFailed("the journal was replaced: start this process again", path=path)


def _follow(deployment: Deployment, every: float) -> None:
    console, stop, journal = open_console(), threading.Event(), deployment.journal
    own_file = journal.path.stat().st_ino
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with console.status("reading the facts that are known"):
        settler = _settler(deployment, journal, _warm_index(deployment, journal))
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    watch = SettleWatch(deployment.layout.metrics / "settle.prom", now_utc())
    # Whoever started us through a pipe waits for the first line.
    print(f"settling events of {deployment.layout.root} as they come", flush=True)
    try:
        _until_stopped(_OpenJournal(journal, own_file), settler, watch, stop, every)
    finally:
        gc.unfreeze()


def _until_stopped(
    opened: _OpenJournal, settler: EventSettler, watch: SettleWatch, stop: threading.Event, every: float
) -> None:
    """Settle what is new until told to stop; what may pass is tried again, less and less often."""
    console, seen, retry = open_console(), -1, FIRST_RETRY_SECONDS
    next_at, looked = 0.0, -LOOK_SECONDS
    pause = min(max(POLL_SECONDS, every / POLLS_OF_A_TURN), LOOK_SECONDS)
    while not stop.is_set():
        began, head = time.monotonic(), opened.journal.last_seq()
        if began - looked >= LOOK_SECONDS:
            looked = began
            watch.write(now_utc(), is_waiting=head != seen)
            opened.require_in_place()
        if head == seen or began < next_at:
            stop.wait(pause)
            continue
        try:
            watch.take(settler.settle(now=now_utc(), wait_seconds=LOOK_SECONDS), now_utc())
            seen, retry = head, FIRST_RETRY_SECONDS
        except (AlreadyRunning, WriteConflict, StoreFull, JournalOverloaded) as error:
            console.print(f"{escape(str(error))}; next try in {retry:.1f} s", soft_wrap=True)
            stop.wait(retry)
            retry = min(2 * retry, LAST_RETRY_SECONDS)
            continue
        # Not at once again even without `every`: others take the same lock, and look for it every 50 ms.
        held = time.monotonic() - began
        next_at = began + max(every, held + min(max(POLL_SECONDS, held / SHARE_LEFT_TO_OTHERS), MOST_LEFT_SECONDS))
    watch.write(now_utc(), is_waiting=opened.journal.last_seq() != seen)
