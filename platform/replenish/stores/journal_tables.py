"""The journal's tables, and how files of older releases are brought up to them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import groupby

import apsw

from replenish.errors import DamagedLog, StoreError
from replenish.stores.journal_chain import GENESIS, LetterRow, LettersDigest, next_chain, shared_header

SCHEMA_VERSION = 4
"""4 is 3 with packed bodies of runs; plain ones in older files stay, and are read as before."""
_FIRST_WITH_RUNS = 3

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


def show_as_current(connection: apsw.Connection) -> None:
    """Let queries of today read a file of the schema before, which only a writer may bring up.

    Raises:
        apsw.Error: The file is no sound database.
    """
    connection.execute("select count(*) from sqlite_schema")
    if 0 < connection.pragma("user_version") < _FIRST_WITH_RUNS:
        connection.execute(_AS_CURRENT)


def bring_up_tables(connection: apsw.Connection) -> None:
    """Make the tables, or make those of an older release into today's, in one transaction.

    Raises:
        StoreError: The file was written by a newer release.
        DamagedLog: A record is missing from an older file.
    """
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
