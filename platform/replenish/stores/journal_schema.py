"""The journal's file: how it is opened durably, its tables, and what an error of SQLite means to a writer."""

from __future__ import annotations

import ctypes
import errno
import hashlib
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import cast

import apsw

from replenish.errors import DamagedLog, JournalOverloaded, StoreError, StoreFull, WriterFailed
from replenish.stores.durable import fsync_path
from replenish.stores.journal_chain import GENESIS, LetterRow, LettersDigest, next_chain, shared_header
from replenish.stores.journal_faults import damaged, raise_unopened
from replenish.stores.journal_runs import LAST_PLACE

MIN_SQLITE = (3, 51, 3)
"""Older ones can corrupt a WAL that two connections write and checkpoint (sqlite.org/wal.html, WAL-reset bug)."""
SCHEMA_VERSION = 4
"""4 is 3 with packed bodies of runs; plain ones in older files stay, and are read as before."""
_FIRST_WITH_RUNS = 3
JOURNAL_NAME = "journal.sqlite"
BUSY_TIMEOUT_MS = 30_000
CHECKPOINT_PAGES = 4_000
"""A commit that finds more than 16 MB in the WAL moves it into the file: seldom enough not to slow a burst down."""
WAL_LIMIT_BYTES = 64 << 20

NOT_EVENT = " (type < 'replenish.event.' or type > 'replenish.event/') "
"""Condition of the partial index: it stays small however many single events there are, and costs them next
to nothing. A query uses the index only where it says the condition in the same words."""

_TABLES = (
    """
create table records (
    seq integer primary key check (seq > 0),
    source text not null, id text not null, type text not null, subject text not null,
    time text not null, dataschema text not null, data blob, traceparent text,
    epoch integer not null, body_digest blob not null, chain blob not null,
    canonical_digest blob
) strict;
create table dead_letters (
    nr integer primary key,
    seq integer not null references records (seq) deferrable initially deferred,
    feed_id text not null, file text not null, row_nr integer,
    reason text not null, field text, rule text, raw text,
    status text not null default 'open', first_seen text not null, last_seen text not null,
    attempts integer not null default 1
) strict;
create index dead_letters_by_seq on dead_letters (seq);
create table meta (name text primary key, value text not null) strict, without rowid;
create index records_but_events on records (seq, type) where"""
    + NOT_EVENT
    + ";"
)
_RUN_TABLES = """
create table sources (nr integer primary key, name text not null unique) strict;
create table identities (
    source_nr integer not null, id text not null, seq integer not null,
    primary key (source_nr, id)
) strict, without rowid;
create table event_runs (
    first_seq integer primary key check (first_seq > 0), last_seq integer not null check (last_seq >= first_seq),
    source text not null, type text not null, subject text not null, time text not null, dataschema text not null,
    traceparent text, epoch integer not null, chain blob not null,
    ids blob not null, ends blob not null, digests blob not null, chains blob not null,
    canonical_digests blob, bodies blob
) strict;
"""
_NEED_IDENTITY = """
create trigger records_need_identity before insert on records
when not exists (select 1 from sources join identities on source_nr = nr
    where name = new.source and id = new.id and seq = new.seq) begin
    select raise(abort, 'a record without identity: this process is of an older release than the journal');
end;
"""
"""A process of an older release that is still running must not go on beside a newer one: it would take ids twice."""
_AS_CURRENT = """
create temp view sources as select distinct source as nr, source as name from main.records;
create temp view identities as select source as source_nr, id, seq from main.records;
create temp table event_runs (
    first_seq integer primary key, last_seq, source, type, subject, time, dataschema, traceparent, epoch, chain, ids,
    ends, digests, chains, canonical_digests, bodies
);
"""
_FILL_IDENTITIES = """
insert into sources (name) select distinct source from records order by 1;
insert into identities select nr, id, seq from records join sources on name = source order by nr, id;
"""
_INSERT_OLD = "insert into records values (?, ?, ?, ?, ?, ?, ?, ?, null, 1, ?, ?, null)"

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DEVICE = {errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENXIO}


def open_writer(path: Path) -> apsw.Connection:
    """A durable connection that may write; the file and its tables are made, or brought up from an older schema.

    Raises:
        StoreError: SQLite is too old, or the file cannot be opened durably.
        StoreFull: There is no space for SQLite's files beside it.
        DamagedLog: The file is no sound database, or it is gone while sealed segments of it are there.
    """
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < MIN_SQLITE:
        raise StoreError("this SQLite can damage a journal; install a newer apsw", found=version, needed=MIN_SQLITE)
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists() or path.stat().st_size == 0
    if is_new and path.name == JOURNAL_NAME and (witness := _made_by_a_journal(path.parent)) is not None:
        words = f"the journal is gone while its sealed segments, archive or tables are there ({witness})"
        raise DamagedLog(f"{words}: run `replenish doctor`", path=path)
    try:
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.execute("pragma journal_mode=wal")
        connection.execute("pragma synchronous=full")
        connection.execute("pragma foreign_keys=on")
        connection.pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        connection.pragma("journal_size_limit", WAL_LIMIT_BYTES)
        _require_durable(connection, path)
        _bring_up(connection)
        _require_not_behind(connection, path)
        if is_new:
            # SQLite forces the names inside the root to disk, not the name of a new root.
            fsync_path(path.parent)
            fsync_path(path.parent.parent)
    except (apsw.Error, OSError) as error:
        raise_unopened(path, error)
    return connection


def has_moved(connection: apsw.Connection) -> bool:
    """Whether the path no longer names the file that the connection has open: it was renamed, deleted or replaced."""
    answer = ctypes.c_int()
    connection.file_control("main", apsw.SQLITE_FCNTL_HAS_MOVED, ctypes.addressof(answer))
    return bool(answer.value)


def open_read_only(path: Path) -> apsw.Connection:
    """A connection that cannot write and never makes a writer wait.

    Raises:
        StoreError: There is no journal.
        StoreFull: There is no space for SQLite's files beside it.
        DamagedLog: The file is no sound database.
    """
    if not path.is_file():
        raise StoreError("there is no journal here", path=path)
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        show_as_current(connection)
    except apsw.Error as error:
        raise_unopened(path, error)
    return connection


def show_as_current(connection: apsw.Connection) -> None:
    """Let queries of today read a file of the schema before, which only a writer may bring up.

    Raises:
        apsw.Error: The file is no sound database.
    """
    connection.execute("select count(*) from sqlite_schema")
    if 0 < connection.pragma("user_version") < _FIRST_WITH_RUNS:
        connection.execute(_AS_CURRENT)


def store_error(error: BaseException, connection: apsw.Connection, path: Path) -> BaseException:
    """What an error inside a write means: full (try again), failed (stop for good), damaged, busy; else itself."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return damaged(path, error)
    if isinstance(error, apsw.BusyError):
        return JournalOverloaded("another process has been writing to the journal for too long; try again", path=path)
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) != apsw.SQLITE_IOERR_FSYNC:
        number = connection.system_errno
    if isinstance(error, apsw.FullError) or number in _FULL:
        return StoreFull("the disk is full: nothing was acknowledged; make space and offer it again", path=path)
    is_apsw = isinstance(error, apsw.IOError | apsw.CantOpenError | apsw.ReadOnlyError | apsw.NoMemError)
    if is_apsw or isinstance(error, MemoryError) or number in _DEVICE:
        # After a failed fsync the kernel may have dropped the pages: only a new process may read what is there.
        return WriterFailed(f"the journal's writer stopped ({error}); end this process and start it again", path=path)
    return error


def _require_durable(connection: apsw.Connection, path: Path) -> None:
    pragmas = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    found = {name: connection.pragma(name) for name in pragmas}
    if found != pragmas:
        raise StoreError("the journal cannot be opened durably", path=path, **found)


def _require_not_behind(connection: apsw.Connection, path: Path) -> None:
    """An older copy of the journal that was put back would give the places of sealed entries to others."""
    names = (manifest.name.partition(".")[0] for manifest in (path.parent / "segments").glob("*.manifest.json"))
    sealed_to = max((int(last) for _, _, last in (name.partition("-") for name in names) if last.isdigit()), default=0)
    if not sealed_to or path.name != JOURNAL_NAME:
        return
    last = cast(int, connection.execute(LAST_PLACE).fetchall()[0][0])
    if last < sealed_to:
        words = f"the journal ends at entry {last}, its sealed segments at {sealed_to}: run `replenish doctor`"
        raise DamagedLog(words, path=path)


def _made_by_a_journal(root: Path) -> str | None:
    """What shows that there was a journal here: an empty one in its place would be taken for the whole log."""
    witnesses = ("segments/*.manifest.json", "archive/*/*", "lake/bronze/*/_delta_log")
    return next((found.relative_to(root).as_posix() for name in witnesses for found in root.glob(name)), None)


def _bring_up(connection: apsw.Connection) -> None:
    if connection.pragma("user_version") == SCHEMA_VERSION:
        return
    connection.execute("begin immediate")
    try:
        # Read again under the lock: another process may have brought it up meanwhile.
        version = connection.pragma("user_version")
        if version > SCHEMA_VERSION:
            raise StoreError("the journal was written by a newer release; use that one", schema=version)
        if version == 0:
            is_old = connection.execute("select 1 from sqlite_schema where name = 'records'").fetchone()
            if is_old:
                _migrate(connection)
            else:
                connection.execute(_TABLES)
        if version < _FIRST_WITH_RUNS:
            # Before version 3 an index of `records` held the identities; where it is, it stays and does no harm.
            connection.execute(_RUN_TABLES + _FILL_IDENTITIES + _NEED_IDENTITY)
        connection.pragma("user_version", SCHEMA_VERSION)
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def _migrate(connection: apsw.Connection) -> None:
    """From the schema without chain, epoch and letter status: every record keeps its place and gets its link."""
    connection.execute(
        "drop index if exists records_by_type; drop index if exists dead_letters_by_seq;"
        "alter table dead_letters rename to old_letters; alter table records rename to old_records;"
    )
    connection.execute(_TABLES)
    letters = groupby(_old_letters(connection), key=lambda letter: letter.seq)
    waiting = next(letters, None)
    chain, last = GENESIS, 0
    columns = "select seq, source, id, type, subject, time, dataschema, data from old_records order by seq"
    for row in connection.execute(columns):
        seq, source, id_, kind, subject, time, dataschema, text = row
        if seq != last + 1:
            raise DamagedLog("a record is missing from the journal; run `replenish doctor`", seq=last + 1)
        digest = LettersDigest()
        if waiting is not None and waiting[0] == seq:
            for letter in waiting[1]:
                digest.add(letter)
            waiting = next(letters, None)
        body = text.encode()
        sha = hashlib.sha256(body).digest()
        shared = shared_header(1, time, source, kind, subject, dataschema)
        chain = next_chain(chain, sha, seq, id_, shared, None, digest.hex)
        connection.execute(_INSERT_OLD, (seq, source, id_, kind, subject, time, dataschema, body, sha, chain))
        last = seq
    connection.execute(
        "insert into dead_letters select l.nr, l.seq, l.feed_id, l.file, l.row_nr, l.reason, l.field, l.rule, l.raw,"
        " 'open', r.time, r.time, 1 from old_letters l join records r using (seq) order by l.nr;"
        "drop table old_letters; drop table old_records;"
    )


def _old_letters(connection: apsw.Connection) -> Iterable[LetterRow]:
    columns = "select nr, seq, feed_id, file, row_nr, reason, field, rule, raw from old_letters order by seq, nr"
    return (LetterRow(*row) for row in connection.execute(columns))
