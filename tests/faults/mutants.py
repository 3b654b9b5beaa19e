"""Seeded faults: the product with one promise broken, to prove that the harness would see it.

A mutant is put into a fresh process before its first step. Each names the trial that has to catch it.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from replenish.stores import failpoints
from tests.faults.child_system import Arm


class Mutant(NamedTuple):
    """A seeded fault, and the trial (kind, door, fault) whose checker has to report it.

    The one without a barrier is caught by the fsync order as well, where no image can be mounted.
    """

    name: str
    install: Callable[[], None]
    kind: str
    door: str
    arm: Arm


def swap(module: str, name: str, make: Callable[[Any], Any]) -> None:
    """Replace a function wherever the product has bound it."""
    original = getattr(importlib.import_module(module), name)
    changed = make(original)
    for loaded in [m for n, m in sys.modules.items() if n.startswith("replenish.")]:
        if getattr(loaded, name, None) is original:
            setattr(loaded, name, changed)


def without_barrier() -> None:
    """Nothing is forced to disk: neither by us nor by SQLite."""

    os.fsync = lambda descriptor: None  # type: ignore[assignment]
    os.fdatasync = os.fsync

    def relaxed(opened: Callable[..., Any]) -> Callable[..., Any]:
        def open_relaxed(*args: Any, **how: Any) -> Any:
            connection = opened(*args, **how)
            connection.execute("pragma synchronous=off")
            return connection

        return open_relaxed

    importlib.import_module("replenish.stores.journal")
    swap("replenish.stores.journal_schema", "open_writer", relaxed)


def ack_before_commit() -> None:
    """A transaction is only committed when the next one begins, or the process ends well."""
    import apsw

    class LateConnection(apsw.Connection):
        is_due = False
        is_open = False
        """Set once the journal is made: its own schema is committed as it should be."""

        def execute(self, statements: str, *args: Any, **how: Any) -> Any:
            if statements == "commit" and self.is_open:
                self.is_due = True
                return None
            if statements.startswith("begin"):
                self.settle()
            return super().execute(statements, *args, **how)

        def settle(self) -> None:
            if self.is_due:
                self.is_due = False
                super().execute("commit")

    def opened(path: str, *args: Any, **how: Any) -> LateConnection:
        connection = LateConnection(path, *args, **how)
        atexit.register(connection.settle)
        return connection

    def opening(open_writer: Callable[..., Any]) -> Callable[..., Any]:
        def opened_writer(*args: Any, **how: Any) -> Any:
            connection = open_writer(*args, **how)
            connection.is_open = True
            return connection

        return opened_writer

    importlib.import_module("replenish.stores.journal")
    swap("replenish.stores.journal_schema", "open_writer", opening)
    apsw.Connection = opened  # type: ignore[misc,assignment]


def offset_in_a_side_file() -> None:
    """A consumer goes by a file beside the table and not by the offset inside the commit."""
    from replenish.stores.lake import DeltaLake

    def side_file(lake: DeltaLake, table: str, app_id: str) -> Path:
        return lake.path(table).with_suffix(f".{app_id.replace('/', '_')}.offset")

    def app_version(self: DeltaLake, table: str, app_id: str) -> int | None:
        side = side_file(self, table, app_id)
        return int(side.read_text()) if side.exists() else None

    def keeping(write: Callable[..., Any]) -> Callable[..., Any]:
        def written(self: DeltaLake, table: str, *args: Any, app: tuple[str, int] | None = None, **how: Any) -> Any:
            commit = write(self, table, *args, app=app, **how)
            if app is not None:
                side_file(self, table, app[0]).write_text(str(app[1]))
            return commit

        return written

    DeltaLake.app_version = app_version  # type: ignore[method-assign]
    for name in ("append", "overwrite", "replace_partitions"):
        setattr(DeltaLake, name, keeping(getattr(DeltaLake, name)))
    swap("replenish.stores.lake_commit", "is_inside", lambda _: lambda table, app: False)
    swap("replenish.stores.lake", "_refuse_moved", lambda _: lambda *args: None)


def blind_retry() -> None:
    """A write that raised is taken for one that did not happen, and is done again."""
    from deltalake import DeltaTable

    importlib.import_module("replenish.stores.lake")

    def undecided(_: Callable[..., Any]) -> Callable[..., Any]:
        def write_once(request: Any, before: Any, write: Callable[[], object]) -> DeltaTable:
            failpoints.failpoint("lake.before_write")
            write()
            failpoints.failpoint("lake.written")
            return DeltaTable(str(request.folder))

        return write_once

    def retrying(write_frame: Callable[..., Any]) -> Callable[..., Any]:
        def write_twice(request: Any, before: Any, data: Any, **how: Any) -> Any:
            try:
                return write_frame(request, before, data, **how)
            except Exception:
                newest = None if before is None else DeltaTable(str(request.folder))
                return write_frame(request, newest, data, **how)

        return write_twice

    swap("replenish.stores.lake_commit", "decided", undecided)
    swap("replenish.stores.lake_commit", "write_frame", retrying)


def without_dedupe_key() -> None:
    """The journal takes any identity again."""
    schema = importlib.import_module("replenish.stores.journal_tables")
    changed = schema._RUN_TABLES.replace("primary key (source_nr, id)", "primary key (source_nr, id, seq)")
    if changed == schema._RUN_TABLES:
        raise AssertionError("the journal's schema has changed: mend this mutant")
    schema._RUN_TABLES = changed


def letters_apart() -> None:
    """Dead letters are written in a transaction of their own, after that of their record."""
    journal = importlib.import_module("replenish.stores.journal")
    events = importlib.import_module("replenish.stores.journal_events")
    waiting: list[tuple[Any, ...]] = []

    class Deferring:
        """A connection that puts letters aside."""

        def __init__(self, connection: Any) -> None:
            self._connection = connection

        def executemany(self, statement: str, rows: Any) -> Any:
            if statement != events.INSERT_LETTER:
                return self._connection.executemany(statement, rows)
            waiting.extend(rows)
            return None

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

    def deferring(insert: Callable[..., Any]) -> Callable[..., Any]:
        return lambda connection, *rest: insert(Deferring(connection), *rest)

    def writing_after(transaction: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def with_letters(self: Any, **how: Any) -> Iterator[Any]:
            with transaction(self, **how) as tail:
                yield tail
            self._writer.executemany(events.INSERT_LETTER, waiting)
            waiting.clear()

        return with_letters

    swap("replenish.stores.journal_events", "insert_letters", deferring)
    swap("replenish.stores.journal_events", "insert_events", deferring)
    journal.Journal.transaction = writing_after(journal.Journal.transaction)


MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for mutant in (
        Mutant("no_fsync_barrier", without_barrier, "cut", "file", Arm("journal.after_commit", "kill", 4)),
        Mutant("ack_before_commit", ack_before_commit, "kill", "events", Arm("journal.before_begin", "kill", 3)),
        Mutant("offset_in_side_file", offset_in_a_side_file, "kill", "lake", Arm("lake.done", "kill", 2)),
        Mutant("blind_retry", blind_retry, "error", "lake", Arm("lake.written", "eio", 2)),
        Mutant("no_dedupe_key", without_dedupe_key, "kill", "events", Arm("journal.after_commit", "kill", 3)),
        Mutant("letters_apart", letters_apart, "kill", "file", Arm("journal.after_commit", "kill", 1)),
    )
}
