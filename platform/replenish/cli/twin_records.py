"""Bronze records by fact, so that a late word on an old fact finds all that was said of it before, in microseconds.

One SQLite file beside the twins' snapshots. Nothing in it is not in the log: where it is lost, damaged or of another
log it is made again. It is never behind a snapshot that counts, and may be ahead: a question says up to which place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import apsw
import msgspec
import polars as pl

from replenish.contracts.model import CLOCK_COLUMNS, Contract
from replenish.errors import BrokenPromise, StoreError

_FLAGS = ("is_retraction", "is_cancellation", "is_correction", "journal_seq", "row_nr")
_TABLES = """
create table if not exists records (
    stream text not null, fact blob not null, seq integer not null, row_nr integer not null,
    layout integer not null, body blob not null, primary key (stream, fact, seq, row_nr)
) without rowid;
create table if not exists members (
    stream text not null, grouping blob not null, fact blob not null, primary key (stream, grouping, fact)
) without rowid;
create table if not exists cancelled (
    stream text not null, grouping blob not null, primary key (stream, grouping)
) without rowid;
create table if not exists layouts (layout integer primary key, names text not null unique);
create table if not exists meta (name text primary key, value text not null) without rowid;
"""
_OF_FACT = "select layout, body from records where stream = ? and fact = ? and seq <= ? order by seq, row_nr"
_MEMBERS = "select fact from members where stream = ? and grouping = ?"
_MEMBERS_OF_CANCELLED = (
    "select m.fact from members m join cancelled c on c.stream = m.stream and c.grouping = m.grouping"
    " where m.stream = ? and m.grouping = ?"
)
LONGEST_LOG_OF_WRITES = 2**26
"""Bytes; a log as long as this is carried over by the writer itself, so that it does not outgrow the records."""
_BUSY_MILLISECONDS = 10_000
_CHECKPOINT_ATTEMPTS = 3
"""Commits that come meanwhile are left to the next attempt: once nothing is left the log of writes begins anew."""
_KEEP_PLACE = "insert into meta values (?, ?) on conflict do update set value = excluded.value"


class TwinRecords:
    """Records of the streams that features read. One thread writes and asks; `checkpoint` may be another's.

    Args:
        path: The file; made where it is missing, made anew where it is no sound database.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open()
        except (apsw.NotADBError, apsw.CorruptError):
            self.clear()
        self._encode, self._decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode

    def close(self) -> None:
        """Give the file back."""
        self._beside.close()
        self._connection.close()

    def clear(self) -> None:
        """Forget everything: the log brings it again."""
        for name in ("_beside", "_connection"):
            # Where the file was no database, only one of them was opened.
            if hasattr(self, name):
                getattr(self, name).close()
        for path in (self.path, *self.path.parent.glob(f"{self.path.name}-*")):
            path.unlink(missing_ok=True)
        self._open()

    @property
    def place(self) -> tuple[int, str]:
        """How far the log is in here: seq and chain (hex) of the last record that bears parts; (0, "") for nothing."""
        found = dict(self._connection.execute("select name, value from meta where name in ('seq', 'chain')"))
        return int(found.get("seq", 0)), str(found.get("chain", ""))

    def add(
        self, rows: pl.DataFrame | None, contract: Contract | None, seq: int, chain: str, match: Sequence[str]
    ) -> None:
        """Take in the rows of records that follow each other, and their place, as a whole; twice is once.

        Args:
            rows: Bronze rows of one stream; None where the records brought none that anybody reads.
            contract: Of the stream.
            seq: Place of the last record.
            chain: Its chain, in hex.
            match: Columns by which a cancellation finds its sale; empty where the stream has none.
        """
        with self._connection:
            if rows is not None and contract is not None:
                self._insert(rows, contract, match)
            self._connection.executemany(_KEEP_PLACE, [("seq", str(seq)), ("chain", chain)])
        if self._log_of_writes.stat().st_size > LONGEST_LOG_OF_WRITES:
            self.make_durable()

    def of_facts(self, keys: pl.DataFrame, contract: Contract, up_to_seq: int) -> pl.DataFrame:
        """All records of some facts up to a place of the log, as bronze rows (`kept_columns`)."""
        facts = set(self._blobs(keys, contract.fact_key))
        return self._frame(facts, contract, up_to_seq)

    def of_groups(
        self, groups: pl.DataFrame, contract: Contract, up_to_seq: int, *, with_cancellation: bool
    ) -> pl.DataFrame:
        """All records of the facts that are or were in some groups.

        Args:
            groups: Values of the match columns, without nulls.
            contract: Of the stream.
            up_to_seq: Place of the log.
            with_cancellation: Leave out groups that never had a cancellation.
        """
        query = _MEMBERS_OF_CANCELLED if with_cancellation else _MEMBERS
        facts: set[bytes] = set()
        for grouping in self._blobs(groups, groups.columns):
            facts.update(fact for (fact,) in self._connection.execute(query, (contract.stream, grouping)))
        return self._frame(facts, contract, up_to_seq)

    def make_durable(self) -> None:
        """Force everything to disk now."""
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def checkpoint(self) -> None:
        """Force what is committed now to disk, and carry it from the log of writes into the file; on any one thread.

        SQLite by itself does so within whichever commit finds that log long, and the commit waits for the disk.
        """
        for _ in range(_CHECKPOINT_ATTEMPTS):
            # The log of writes is forced to disk first, also where not all of it can be carried over.
            n_pages, n_carried = self._beside.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if n_pages < 0:
                raise BrokenPromise("the records have no log of writes to carry over", path=self.path)
            if n_carried >= n_pages:
                return

    def _open(self) -> None:
        self._connection = apsw.Connection(str(self.path))
        self._connection.execute("pragma journal_mode = wal")
        # A commit survives the death of the process; `make_durable` makes it survive that of the machine.
        self._connection.execute("pragma synchronous = normal")
        self._connection.execute("pragma cache_size = -65536")
        self._connection.execute(_TABLES)
        self._connection.set_busy_timeout(_BUSY_MILLISECONDS)
        self._connection.wal_autocheckpoint(0)
        self._log_of_writes = self.path.with_name(f"{self.path.name}-wal")
        self._beside = apsw.Connection(str(self.path))
        self._beside.set_busy_timeout(_BUSY_MILLISECONDS)
        # A connection that has read nothing does not know of the log of writes, and its checkpoints do nothing.
        self._beside.execute("select * from meta").fetchall()

    def _insert(self, rows: pl.DataFrame, contract: Contract, match: Sequence[str]) -> None:
        stream, names = contract.stream, list(kept_columns(contract))
        layout = self._layout(names)
        facts = self._blobs(rows, contract.fact_key)
        bodies = map(self._encode, _physical(rows, names).rows())
        records = zip(facts, rows["journal_seq"].to_list(), rows["row_nr"].to_list(), bodies, strict=True)
        self._connection.executemany(
            "insert or replace into records values (?, ?, ?, ?, ?, ?)",
            ((stream, fact, seq, row_nr, layout, body) for fact, seq, row_nr, body in records),
        )
        if not match:
            return
        in_groups = rows.with_columns(pl.Series("_fact", facts)).drop_nulls(match)
        pairs = zip(self._blobs(in_groups, match), in_groups["_fact"].to_list(), strict=True)
        self._connection.executemany(
            "insert or ignore into members values (?, ?, ?)", ((stream, grouping, fact) for grouping, fact in pairs)
        )
        cancelled = in_groups.filter("is_cancellation")
        self._connection.executemany(
            "insert or ignore into cancelled values (?, ?)",
            ((stream, grouping) for grouping in self._blobs(cancelled, match)),
        )

    def _layout(self, names: Iterable[str]) -> int:
        text = json.dumps(list(names))
        self._connection.execute("insert or ignore into layouts (names) values (?)", (text,))
        return int(next(iter(self._connection.execute("select layout from layouts where names = ?", (text,))))[0])

    def _blobs(self, rows: pl.DataFrame, names: Sequence[str]) -> list[bytes]:
        return [self._encode(row) for row in _physical(rows, names).rows()]

    def _frame(self, facts: Iterable[bytes], contract: Contract, up_to_seq: int) -> pl.DataFrame:
        by_layout: dict[int, list[list[object]]] = {}
        for fact in facts:
            for layout, body in self._connection.execute(_OF_FACT, (contract.stream, fact, up_to_seq)):
                by_layout.setdefault(layout, []).append(self._decode(body))
        schema = kept_columns(contract)
        frames = [pl.DataFrame(schema=schema)]
        for layout, bodies in by_layout.items():
            frames.append(_typed(bodies, self._names(layout), contract))
        return pl.concat(frames)

    def _names(self, layout: int) -> list[str]:
        for (names,) in self._connection.execute("select names from layouts where layout = ?", (layout,)):
            return list(json.loads(names))
        raise StoreError("a record names a layout that is not there", path=self.path, layout=layout)


def kept_columns(contract: Contract) -> dict[str, pl.DataType]:
    """Columns of bronze that decide its ledger: those of the contract, clocks, flags and place."""
    return {name: contract.bronze_schema[name] for name in (*contract.names, *CLOCK_COLUMNS, *_FLAGS)}


def _physical(rows: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Columns as numbers, text and booleans: instants in microseconds, dates in days."""
    return rows.select(
        pl.col(name).to_physical() if rows.schema[name].is_temporal() else pl.col(name) for name in names
    )


def _typed(bodies: list[list[object]], names: list[str], contract: Contract) -> pl.DataFrame:
    """The rows of `_physical` with the contract's types; a column that it got since was never given."""
    schema = kept_columns(contract)
    physical = {n: schema[n] if n in schema and not schema[n].is_temporal() else pl.Int64() for n in names}
    rows = pl.DataFrame(bodies, schema=physical, orient="row")
    return rows.select(
        pl.col(n).cast(dtype) if n in physical else pl.lit(None, dtype).alias(n) for n, dtype in schema.items()
    )
