"""`replenish follow`: processes that take single events from a source's own change stream, until they are stopped."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from replenish.cli.deployment import Deployment, default_root, now_utc, open_deployment
from replenish.cli.doctor_visit import require_sound_journal
from replenish.cli.tables import open_console
from replenish.contracts.doors import PostgresSettings, read_doors
from replenish.errors import ContractError, JournalOverloaded, SourceFault, StoreFull
from replenish.ingest.cdc.follower import BatchReport, PostgresFollower
from replenish.ingest.cdc.follower_metrics import FollowedDatabase, write_database_metrics
from replenish.ingest.cdc.slot import slot_lag
from replenish.ingest.cdc.source_tables import bind_tables
from replenish.ingest.events.event_door import EventDoor
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal_entry import JournalRecord
from replenish.stores.locks import hold
from replenish.stores.segments import log_records

group = typer.Typer(help="Follow a source's change stream.", no_args_is_help=True)

MAX_PENDING_EVENTS = 100_000
"""The follower is the only one to submit, in large batches, and bounds by itself how many are under way."""
IDLE_PAUSE_SECONDS = 0.5
METRICS_SECONDS = 5.0
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 1.0, 60.0


@group.command("postgres")
def follow_postgres(
    name: Annotated[str, typer.Argument(help="Name of a database under `postgres:` in doors.yaml.")],
    once: Annotated[bool, typer.Option("--once", help="Stop when nothing is left to read.")] = False,
) -> None:
    """Follow a PostgreSQL database: a snapshot of its tables first, then every change, until stopped."""
    deployment = open_deployment(default_root())
    settings = postgres_settings(deployment, name)
    require_sound_journal(deployment.layout)
    with hold(deployment.layout.locks / f"door-{name}.lock", f"follow {name}"):
        tune_process()
        journal = deployment.journal
        writer = GroupCommit(journal, now_utc, max_pending_events=MAX_PENDING_EVENTS)
        try:
            _follow(deployment, settings, writer, once=once)
        finally:
            writer.close()
            journal.close()


@group.command("lag")
def show_lag(name: Annotated[str, typer.Argument(help="Name of a database under `postgres:` in doors.yaml.")]) -> None:
    """Say how far behind its source a followed database is; exit code 1 where that is an alarm."""
    settings = postgres_settings(open_deployment(default_root()), name)
    lag = slot_lag(source_dsn(settings), settings.slot, settings.publication, now=now_utc())
    print(f"{lag.slot}: {lag.lag_bytes:,} bytes behind, {lag.lag_seconds:.0f} s, {lag.kept_bytes:,} bytes kept")
    alarm = lag.alarm(settings.max_lag_bytes)
    if alarm is not None:
        print(alarm)
        raise typer.Exit(1)


def tune_process() -> None:
    """Collect garbage less often: batches make many short-lived objects and no cycles, and each search costs."""
    gc.set_threshold(100_000, 50, 100)


def postgres_settings(deployment: Deployment, name: str) -> PostgresSettings:
    """The database of this name in `doors.yaml`.

    Raises:
        ContractError: There is none, or a feed it names takes no events.
    """
    doors = read_doors(deployment.layout.doors_file)
    takes_events = frozenset(feed.feed_id for feed in deployment.dataset.feeds if feed.door == "events")
    for settings in doors.postgres:
        if settings.name == name:
            for table, feed in settings.tables.items():
                if feed not in takes_events:
                    raise ContractError(
                        f"doors.yaml: postgres {name}: {table}: the data set has no feed {feed!r} with `door: events`"
                    )
            return settings
    known = ", ".join(settings.name for settings in doors.postgres) or "none"
    raise ContractError(f"doors.yaml has no postgres {name!r}; it has: {known}", file=deployment.layout.doors_file)


def source_dsn(settings: PostgresSettings) -> str:
    """The connection string, from the variable that `doors.yaml` names.

    Raises:
        ContractError: The variable is not set.
    """
    dsn = os.environ.get(settings.dsn_variable)
    if not dsn:
        raise ContractError(f"set {settings.dsn_variable} to the connection string of postgres {settings.name}")
    return dsn


def _follow(deployment: Deployment, settings: PostgresSettings, writer: GroupCommit, *, once: bool) -> None:
    console, stop = open_console(), threading.Event()
    reader = deployment.journal.open_reader()

    def read_log() -> Iterable[JournalRecord]:
        return log_records(reader, deployment.layout)

    door = EventDoor(deployment.dataset, deployment.contracts, writer, now_utc)
    tables = bind_tables(settings, deployment.dataset, deployment.contracts, now_utc())
    follower = PostgresFollower(settings, source_dsn(settings), tables, door, writer, read_log, now_utc, stop.wait)
    watch = _Watch(settings.name, follower, deployment.layout.metrics / f"postgres-{settings.name}.prom")
    try:
        # A signal ends the snapshot at once, and the next start takes a new one; batches are finished first.
        report = follower.start()
        watch.take(report)
        if report.n_snapshot_rows is not None:
            console.print(f"{settings.name}: snapshot of {report.n_snapshot_rows:,} rows, {_words(report)}")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        if not once:
            _until_stopped(follower, settings, stop, watch)
            return
        while (report := follower.read_batch()).n_changes:
            watch.take(report)
            console.print(f"{settings.name}: {report.n_changes:,} changes, {_words(report)}")
        watch.write()
    finally:
        follower.close()
        reader.close()


class _Watch:
    """Keeps the metrics file of a follower."""

    def __init__(self, name: str, follower: PostgresFollower, path: Path) -> None:
        self._name, self._follower, self._path = name, follower, path
        self._seen = FollowedDatabase()
        self._written = -METRICS_SECONDS

    def take(self, report: BatchReport) -> None:
        """A pass went well: count it, and from time to time ask how far behind we are.

        Raises:
            SourceFault: The source went away meanwhile.
        """
        self._seen.outcomes.update(report.outcomes)
        self._seen.is_connected = True
        if time.monotonic() - self._written >= METRICS_SECONDS:
            self.write()

    def write(self) -> None:
        """Ask how far behind we are, and write the file; raises as `take`."""
        self._seen.lag = self._follower.lag()
        self._write()

    def lose(self) -> None:
        """The source or the disk failed us."""
        self._seen.is_connected = False
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        try:
            write_database_metrics(self._name, self._seen, self._path)
        except OSError as error:
            # What is counted is not worth what is followed: on a full disk the next try may do.
            open_console().print(f"{self._name}: metrics were not written: {error}", soft_wrap=True)


def _until_stopped(
    follower: PostgresFollower, settings: PostgresSettings, stop: threading.Event, watch: _Watch
) -> None:
    """Batches until the stop event; what may pass (source away, disk full) is tried again, less and less often.

    An error that a person has to mend ends the process, so that its supervisor tells.
    """
    console, retry_seconds = open_console(), FIRST_RETRY_SECONDS
    while not stop.is_set():
        try:
            report = follower.read_batch()
            watch.take(report)
        except (SourceFault, StoreFull, JournalOverloaded) as error:
            watch.lose()
            if isinstance(error, SourceFault) and not error.may_pass:
                raise
            console.print(f"{settings.name}: {error}; next try in {retry_seconds:.0f} s", soft_wrap=True)
            follower.close()
            stop.wait(retry_seconds)
            retry_seconds = min(2 * retry_seconds, LAST_RETRY_SECONDS)
            continue
        retry_seconds = FIRST_RETRY_SECONDS
        if report.n_changes:
            console.print(f"{settings.name}: {report.n_changes:,} changes, {_words(report)}")
        else:
            stop.wait(IDLE_PAUSE_SECONDS)


def _words(report: BatchReport) -> str:
    counts = Counter(report.outcomes)
    return ", ".join(f"{counts[outcome]:,} {outcome}" for outcome in ("accepted", "dead", "duplicate", "conflict"))
