"""Runs in the journal: many events in one row, each with its own digest and link, so that each is verified alone.

A run holds what its events share once, and packs the rest: ids as a JSON array, the ends of the bodies as unsigned
32-bit numbers (little-endian), digests and chains of 32 bytes each, and the bodies behind one another, compressed
(`packed_bodies`). Readers see single records (`LogRow`); only this module knows how they are packed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import apsw
import msgspec

from replenish.errors import DamagedLog
from replenish.stores.event_run import DIGEST_BYTES, EventRun, packed_ends
from replenish.stores.journal_chain import LogRow, canonical_digest, links_of_run
from replenish.stores.journal_identity import FIND_SEQ, Select, insert_packed_identities
from replenish.stores.packed_bodies import pack_bodies, unpack_bodies

T = TypeVar("T")
_INTO = (
    "insert into event_runs (first_seq, last_seq, source, type, subject, time, dataschema, traceparent, epoch, chain,"
    " ids, ends, digests, chains, canonical_digests, bodies) values "
)
_ROW = f"({', '.join('?' * 16)})"
_INSERT = _INTO + _ROW
RUNS_PER_STATEMENT = 16
_NEXT = (
    "select first_seq, last_seq, source, type, subject, time, dataschema, traceparent, epoch, chain, ids, ends,"
    " digests, chains, canonical_digests, bodies from event_runs"
    " where first_seq >= coalesce((select max(first_seq) from event_runs where first_seq <= ?1 + 1), 0)"
    " and last_seq > ?1 and first_seq <= ?2 and (?3 is null or type in (select value from json_each(?3)))"
    " and (?4 is null or subject = ?4) order by first_seq limit 1"
)
_NEXT_BARE = _NEXT.replace("bodies from", "null from")
_ROW_AT = (
    "select seq, source, id, type, subject, time, dataschema, data, traceparent, epoch, body_digest, chain from records"
    " where seq = ?"
)
_CHAIN_IN_RUN = (
    "select substr(chains, (?1 - first_seq) * 32 + 1, 32) from event_runs"
    " where first_seq = (select max(first_seq) from event_runs where first_seq <= ?1) and last_seq >= ?1"
)
LAST_PLACE = (
    "select max(coalesce((select max(seq) from records), 0), coalesce((select last_seq from event_runs"
    " order by first_seq desc limit 1), 0))"
)
COUNTS = (
    "select (select count(*) from identities), (select count(*) from records)"
    " + (select coalesce(sum(last_seq - first_seq + 1), 0) from event_runs)"
)
"""Identities, and the records they should stand for."""
LAST_LINK = (
    "select seq, chain, epoch from (select seq, chain, epoch from records order by seq desc limit 1) union all"
    " select seq, chain, epoch from (select last_seq as seq, substr(chains, -32) as chain, epoch from event_runs"
    " order by first_seq desc limit 1) order by seq desc limit 1"
)
"""The column `chain` of a run says the same and is not read: only what `verify_chain` looks at may be linked to."""
TAIL = LAST_LINK.join(
    (
        "select last.seq, last.chain, last.epoch, (select value from meta where name = 'standby') from (select 1)"
        " left join (",
        ") last",
    )
)
"""The last link, and whether this is a standby: one row, of nulls where there is none."""


class RunRow(NamedTuple):
    """One run as it lies in the journal."""

    first_seq: int
    last_seq: int
    source: str
    type: str
    subject: str
    time: str
    dataschema: str
    traceparent: str | None
    epoch: int
    chain: bytes
    """At its last event; `chains` is what counts."""
    ids: bytes
    ends: bytes
    digests: bytes
    chains: bytes
    canonical_digests: bytes | None
    bodies: bytes | None
    """None once trimmed."""

    def parts(self, after_seq: int = 0, up_to_seq: int = 2**62) -> list[tuple[int, str, bytes | None]]:
        """(seq, id, body) of its events (after_seq, up_to_seq].

        Raises:
            DamagedLog: What is packed does not fit together.
        """
        n = self.last_seq - self.first_seq + 1
        try:
            ids = msgspec.json.decode(self.ids, type=list[str])
            ends = struct.unpack(f"<{n}I", self.ends)
        except (msgspec.DecodeError, struct.error, UnicodeDecodeError):
            ids, ends = [], ()
        if not n == len(ids) == len(ends) or not n * DIGEST_BYTES == len(self.digests) == len(self.chains):
            raise DamagedLog("a run of events is not what was written", seq=self.first_seq)
        a, b = max(0, after_seq + 1 - self.first_seq), min(n, up_to_seq + 1 - self.first_seq)
        seqs = range(self.first_seq + a, self.first_seq + b)
        if self.bodies is None:
            return [(seq, id_, None) for seq, id_ in zip(seqs, ids[a:b], strict=True)]
        bodies, starts = unpack_bodies(self.bodies, ends[-1], seq=self.first_seq), (0, *ends[:-1])
        spans = zip(seqs, ids[a:b], starts[a:b], ends[a:b], strict=True)
        return [(seq, id_, bodies[start:end]) for seq, id_, start, end in spans]

    def rows(self, after_seq: int, up_to_seq: int) -> Iterator[LogRow]:
        """Its events (after_seq, up_to_seq] as records."""
        for seq, id_, body in self.parts(after_seq, up_to_seq):
            nr = seq - self.first_seq
            digest, chain = _nth(self.digests, nr), _nth(self.chains, nr)
            yield LogRow(
                seq, self.source, id_, self.type, self.subject, self.time, self.dataschema, body, self.traceparent,
                self.epoch, digest, chain,
            )  # fmt: skip

    def digests_at(self, seq: int) -> tuple[bytes, bytes | None]:
        """Digest of the body at one of its events, and of its canonical spelling once it was trimmed."""
        nr, canonical = seq - self.first_seq, self.canonical_digests
        return _nth(self.digests, nr), None if canonical is None else _nth(canonical, nr)

    def piece(self, first_seq: int, last_seq: int) -> RunRow:
        """The events first .. last of it as a run of their own."""
        a, b = first_seq - self.first_seq, last_seq - self.first_seq + 1
        bodies = [body for _, _, body in self.parts()[a:b] if body is not None]
        digests, chains = self.digests[a * 32 : b * 32], self.chains[a * 32 : b * 32]
        canonical = None if self.canonical_digests is None else self.canonical_digests[a * 32 : b * 32]
        n = b - a
        return self._replace(
            first_seq=first_seq,
            last_seq=last_seq,
            chain=chains[-DIGEST_BYTES:],
            ids=msgspec.json.encode(msgspec.json.decode(self.ids)[a:b]),
            ends=bytes(4 * n) if self.bodies is None else packed_ends(bodies),
            digests=digests,
            chains=chains,
            canonical_digests=canonical,
            bodies=None if self.bodies is None else pack_bodies(bodies),
        )

    def without_bodies(self) -> RunRow:
        """The same, trimmed."""
        digests = [canonical_digest(body) for _, _, body in self.parts() if body is not None]
        return self._replace(bodies=None, ends=bytes(len(self.ends)), canonical_digests=b"".join(digests))


def insert_runs(
    connection: apsw.Connection, runs: Sequence[EventRun], last_seq: int, last_chain: bytes, epoch: int, time: str
) -> bytes:
    """Insert runs behind `last_seq`, in their order; the chain at the last event.

    Raises:
        apsw.ConstraintError: One of the identities is there already; the caller has to roll back.
    """
    first = last_seq + 1
    for source, group in groupby(runs, key=lambda run: run.like.source):
        some = list(group)
        insert_packed_identities(connection, source, [(run.ids, run.packed().ids) for run in some], first)
        first += sum(map(len, some))
    chain, first = last_chain, last_seq + 1
    for start in range(0, len(runs), RUNS_PER_STATEMENT):
        values: list[Any] = []
        for run in runs[start : start + RUNS_PER_STATEMENT]:
            like, packed = run.like, run.packed()
            chains = links_of_run(chain, first, time, epoch, run)
            chain, last = chains[-1], first + len(run) - 1
            shared = (like.source, like.type, like.subject, time, like.dataschema, like.traceparent, epoch)
            columns = (packed.ids, packed.ends, packed.digests, b"".join(chains), None, packed.bodies)
            values += (first, last, *shared, chain, *columns)
            first = last + 1
        connection.execute(_insert_of(len(values) // 16), values)
    return chain


@lru_cache(maxsize=RUNS_PER_STATEMENT)
def _insert_of(n: int) -> str:
    return _INTO + ", ".join([_ROW] * n)


def next_run(
    select: Select,
    after_seq: int,
    up_to_seq: int,
    types: Iterable[str] | None = None,
    subject: str | None = None,
    *,
    with_bodies: bool = True,
) -> RunRow | None:
    """The first run with an event in (after_seq, up_to_seq], of these types and this feed where given."""
    wanted = None if types is None else json.dumps(list(types))
    rows = select(_NEXT if with_bodies else _NEXT_BARE, (after_seq, up_to_seq, wanted, subject))
    return RunRow._make(rows[0]) if rows else None


def row_at(select: Select, seq: int) -> LogRow | None:
    """The record at a place, however it is kept."""
    rows = select(_ROW_AT, (seq,))
    if rows:
        return LogRow._make(rows[0])
    run = next_run(select, seq - 1, seq)
    return None if run is None else next(run.rows(seq - 1, seq), None)


def chain_at(select: Select, seq: int) -> bytes | None:
    """The chain at a record, however it is kept; None where there is none."""
    rows = select("select chain from records where seq = ?", (seq,)) or select(_CHAIN_IN_RUN, (seq,))
    return rows[0][0] if rows else None


def find_row(select: Select, source: str, id: str) -> LogRow | None:
    """The record of this identity, or None."""
    rows = select(FIND_SEQ, (source, id))
    return row_at(select, rows[0][0]) if rows else None


def in_log_order(
    select: Select,
    after_seq: int,
    up_to_seq: int,
    singles: Callable[[int, int], Iterator[T]],
    of_run: Callable[[RunRow, int, int], Iterable[T]],
    types: Iterable[str] | None = None,
    subject: str | None = None,
) -> Iterator[T]:
    """Single records and runs of (after_seq, up_to_seq] in one sequence, a page or a run in memory at a time."""
    while after_seq < up_to_seq:
        run = next_run(select, after_seq, up_to_seq, types, subject)
        before_run = up_to_seq if run is None else run.first_seq - 1
        if before_run > after_seq:
            yield from singles(after_seq, before_run)
        if run is None:
            return
        yield from of_run(run, after_seq, up_to_seq)
        after_seq = run.last_seq


def clear_bodies(connection: apsw.Connection, first_seq: int, last_seq: int) -> None:
    """Take the bodies of the events first .. last out of their runs; a run that sticks out is divided."""

    def select(query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return connection.execute(query, values).fetchall()

    after = first_seq - 1
    while (run := next_run(select, after, last_seq)) is not None:
        a, b = max(first_seq, run.first_seq), min(last_seq, run.last_seq)
        pieces = [run.piece(a, b).without_bodies()] if run.bodies is not None else []
        if pieces:
            pieces += [run.piece(run.first_seq, a - 1)] if a > run.first_seq else []
            pieces += [run.piece(b + 1, run.last_seq)] if b < run.last_seq else []
            connection.execute("delete from event_runs where first_seq = ?", (run.first_seq,))
            connection.executemany(_INSERT, pieces)
        after = run.last_seq


def _nth(packed: bytes, nr: int) -> bytes:
    return packed[nr * DIGEST_BYTES : (nr + 1) * DIGEST_BYTES]
