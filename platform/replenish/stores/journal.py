"""The event log of one deployment: accepted files, single events and dead letters, durable once written.

SQLite in WAL mode with `synchronous=FULL`: what `append` returned for survives a power cut. Writers take turns (one
transaction at a time), readers never wait. The columns are the CloudEvents 1.0 attributes; every record is linked to
the one before it by a hash.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw

from replenish.errors import DamagedLog, Fenced, OutOfRange, WriteConflict, WriterFailed
from replenish.stores.event_run import EventRun, JoinedEntries, pack_runs
from replenish.stores.failpoints import failpoint
from replenish.stores.fence import FIRST_EPOCH, Fence, fence_of
from replenish.stores.journal_chain import GENESIS, LogRow, next_chain, shared_header
from replenish.stores.journal_entry import (
    EVENT_DEAD,
    LETTER_DISCARDED,
    LETTER_REDRIVEN,
    AcceptedRange,
    DeadLetter,
    EventEntry,
    JournalRecord,
    LetterStatus,
    Receipt,
)
from replenish.stores.journal_events import Tail, insert_events, insert_letters, sort_out
from replenish.stores.journal_identity import insert_record_row
from replenish.stores.journal_reader import JournalReader, last_parts_seq, record_of
from replenish.stores.journal_runs import TAIL, find_row
from replenish.stores.journal_schema import has_moved, open_writer, store_error
from replenish.stores.journal_turns import keep_wal_short, wait_for_nobody, wait_for_others

STATUS_BY_TYPE: dict[str, LetterStatus] = {LETTER_REDRIVEN: "redriven", LETTER_DISCARDED: "discarded"}


class Journal(JournalReader):
    """The log at one path; created where there is none, brought up from an older schema where needed.

    Safe to open in several processes. One thread at a time may write through one object; every thread may read.
    """

    def __init__(self, path: Path, *, epoch_fence: Fence | None = None) -> None:
        super().__init__(path)
        self._writer = open_writer(path)
        wait_for_others(self._writer)
        keep_wal_short(self._writer)
        self._fence = fence_of(path.parent) if epoch_fence is None else epoch_fence
        self._failed: str | None = None
        self._expects_known = False
        self.journal_id = self._own_id()
        self.epoch = max(self.head().epoch, int(self.meta("epoch") or FIRST_EPOCH))

    def close(self) -> None:
        """Give the file back; the object cannot be used afterwards."""
        super().close()
        self._writer.close()

    def open_reader(self) -> JournalReader:
        """A reader of the same log with connections of its own."""
        return JournalReader(self.path)

    def append(
        self, record: JournalRecord, dead: Iterable[DeadLetter] = (), *, expected_parts_seq: int | None = None
    ) -> int:
        """Write the record and its dead letters in one transaction and return its place in the log.

        A record equal in all but its time is there already: nothing is written, its place is returned. A record of
        redriven or discarded letters (`data["nrs"]`) also sets their status.

        Raises:
            WriteConflict: The same source and id with another body; or `expected_parts_seq` was given and another
                record with accepted parts came after it.
            StoreFull: The disk is full; nothing was written.
            WriterFailed: An I/O error; this object writes no more.
            Fenced: Another root was promoted, or this one is a standby.
        """
        with self.transaction() as tail:
            known = self._find_inside(record)
            if known is not None:
                return _same(known, record)
            if expected_parts_seq is not None and expected_parts_seq != last_parts_seq(self._writer):
                raise WriteConflict("another writer added accepted rows meanwhile", seq=expected_parts_seq)
            return self.insert_record(record, dead, tail)

    def insert_record(self, record: JournalRecord, dead: Iterable[DeadLetter], tail: Tail) -> int:
        """Insert a new record behind `tail` inside `transaction()` and return its place."""
        seq = tail.seq + 1
        time = record.time.astimezone(UTC).isoformat()
        digest, _ = insert_letters(self._writer, dead, seq, time)
        failpoint("journal.rows_written")
        body = _json(record.data)
        sha256 = hashlib.sha256(body).digest()
        shared = shared_header(tail.epoch, time, record.source, record.type, record.subject, record.dataschema)
        chain = next_chain(tail.chain, sha256, seq, record.id, shared, record.traceparent, digest.hex)
        names = (record.source, record.id, record.type, record.subject, time, record.dataschema)
        insert_record_row(self._writer, LogRow(seq, *names, body, record.traceparent, tail.epoch, sha256, chain))
        self._set_letters(record, time)
        return seq

    def append_events(self, entries: Sequence[EventEntry], *, now: datetime) -> Sequence[Receipt]:
        """Write single events in one transaction; receipts in offered order. What it returns for is durable.

        Raises:
            StoreFull, WriterFailed, Fenced: As for `append`.
        """
        if not entries:
            return []
        time = now.astimezone(UTC).isoformat()
        pack_runs(entries)
        with self.transaction() as tail:
            receipts = None if self._expects_known else self._append_new(entries, tail, time)
            if receipts is None:
                tail = self._tail(as_standby=False)
                new, receipts, repeated = sort_out(self._writer, entries, tail)
                # A source that repeats itself tends to go on: looking first is then the shorter way.
                self._expects_known = len(new) < len(entries)
                insert_events(self._writer, new, tail, time)
                self._writer.executemany(
                    "update dead_letters set attempts = attempts + 1, last_seen = ? where seq = ?",
                    [(time, seq) for seq in repeated],
                )
            failpoint("journal.rows_written")
        return receipts

    @contextmanager
    def not_waiting(self) -> Iterator[None]:
        """Inside, a write that would have to wait for another process is refused at once: JournalOverloaded."""
        wait_for_nobody(self._writer)
        try:
            yield
        finally:
            wait_for_others(self._writer)

    def set_meta(self, name: str, value: str) -> None:
        """Keep a setting in the journal; inside `transaction()` together with its records."""
        self._writer.execute("insert or replace into meta values (?, ?)", (name, value))

    @contextmanager
    def transaction(self, *, as_standby: bool = False) -> Iterator[Tail]:
        """A write transaction of this store's own modules: gives what to append to, commits, or takes all back.

        `begin immediate` takes the write lock before the first read, so two writers never act on one state; the
        fence is read under that lock, so a promotion that holds it knows that nobody is in between.

        Raises:
            StoreFull, WriterFailed, DamagedLog, JournalOverloaded: What an error of SQLite means.
            Fenced: Another root was promoted; or `as_standby` is not what this root is.
        """
        if self._failed is not None:
            raise WriterFailed("the journal's writer has stopped: end this process", cause=self._failed, path=self.path)
        try:
            failpoint("journal.before_begin")
            self._begin()
            yield self._tail(as_standby=as_standby)
            failpoint("journal.before_commit")
            self._writer.execute("commit")
            failpoint("journal.after_commit")
        except BaseException as error:
            meaning = store_error(error, self._writer, self.path)
            # A caller's own DamagedLog (a range it refuses) says nothing against this file.
            if meaning is not error and isinstance(meaning, WriterFailed | DamagedLog):
                self._failed = str(error)
            self._roll_back()
            if meaning is error:
                raise
            raise meaning from error

    @property
    def connection(self) -> apsw.Connection:
        """The connection that writes, for this store's own modules inside `transaction()`."""
        return self._writer

    def _append_new(self, entries: Sequence[EventEntry], tail: Tail, time: str) -> Sequence[Receipt] | None:
        """Receipts where every identity is new; None, with nothing written, where one is not."""
        try:
            insert_events(self._writer, entries, tail, time)
        except apsw.ConstraintError:
            self._writer.execute("rollback")
            self._begin()
            return None
        return _accepted(entries, tail.seq + 1)

    def _begin(self) -> None:
        self._writer.execute("begin immediate")
        if has_moved(self._writer):
            # Set aside by the doctor, most likely: what is written there nobody would ever find again.
            self._failed = "the journal's file was replaced"
            raise WriterFailed("the journal was replaced: end this process and start it again", path=self.path)

    def _tail(self, *, as_standby: bool) -> Tail:
        row: tuple[Any, ...] = self._writer.execute(TAIL).fetchall()[0]
        standby = row[3]
        seq, chain, epoch = (0, GENESIS, FIRST_EPOCH) if row[0] is None else row[:3]
        if (standby is not None) != as_standby:
            words = "this root is a standby: promote it before anything is written here" if standby else "no standby"
            raise Fenced(words, path=self.path)
        if not as_standby:
            if epoch > self.epoch:
                raise Fenced("a later epoch was started in this journal: start this process again", epoch=epoch)
            self._fence.check(self.epoch, self.journal_id)
        return Tail(seq, chain, self.epoch)

    def _find_inside(self, record: JournalRecord) -> JournalRecord | None:
        row = find_row(lambda query, values: self._writer.execute(query, values).fetchall(), record.source, record.id)
        return None if row is None else record_of(row)

    def _set_letters(self, record: JournalRecord, time: str) -> None:
        status = STATUS_BY_TYPE.get(record.type)
        if status is None:
            return
        nrs = record.data.get("nrs")
        if not isinstance(nrs, list) or not nrs:
            raise OutOfRange("a record of letters names them in `nrs`", id=record.id)
        set_letter_status(self._writer, nrs, status, time)

    def _roll_back(self) -> None:
        try:
            if self._writer.in_transaction:
                self._writer.execute("rollback")
        except apsw.Error as error:
            self._failed = str(error)

    def _own_id(self) -> str:
        known = self.meta("journal_id")
        if known is None:
            self._writer.execute("insert or ignore into meta values ('journal_id', ?)", (uuid.uuid4().hex,))
            known = self.meta("journal_id")
        return str(known)


def set_letter_status(connection: apsw.Connection, nrs: list[int], status: LetterStatus, time: str) -> None:
    """Close open letters; those closed before stay as they are."""
    change = "update dead_letters set status = ?, last_seen = ? where nr = ? and status = 'open'"
    for nr in nrs:
        if connection.execute("select 1 from dead_letters where nr = ?", (nr,)).fetchone() is None:
            raise OutOfRange("there is no dead letter of this number", nr=nr)
        connection.execute(change, (status, time, nr))


def _accepted(entries: Sequence[EventEntry], first: int) -> Sequence[Receipt]:
    """Receipts of entries that were all new, without taking runs apart."""
    parts = entries.parts if isinstance(entries, JoinedEntries) else (entries,)
    if all(isinstance(part, EventRun) for part in parts):
        return AcceptedRange(range(first, first + len(entries)))
    receipts: list[Receipt] = []
    for part in parts:
        seqs = range(first + len(receipts), first + len(receipts) + len(part))
        if isinstance(part, EventRun):
            receipts += AcceptedRange(seqs)
        else:
            receipts += [
                Receipt("dead" if entry.type == EVENT_DEAD else "accepted", seq)
                for entry, seq in zip(part, seqs, strict=True)
            ]
    return receipts


def _same(known: JournalRecord, offered: JournalRecord) -> int:
    if _body_of(known) != _body_of(offered) or known.seq is None:
        raise WriteConflict("this source and id name another event", source=offered.source, id=offered.id)
    return known.seq


def _body_of(record: JournalRecord) -> tuple[str, str, str, bytes]:
    return record.type, record.subject, record.dataschema, _json(record.data)


def _json(data: dict[str, object]) -> bytes:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()
