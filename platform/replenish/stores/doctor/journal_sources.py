"""Where entries of a damaged log can still be had: the damaged file itself, row by row, and other journals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import apsw

from replenish.stores.doctor.reading import try_to_read
from replenish.stores.journal_chain import LetterRow, LogRow
from replenish.stores.journal_runs import LAST_PLACE, next_run
from replenish.stores.journal_tables import show_as_current
from replenish.stores.segments import SealedEntry, Segment, read_segment

PAGE_ENTRIES = 500
MAX_EMPTY_PAGES = 40
"""Pages in a row without a readable entry after which a file is taken to hold no more."""

_ROWS = (
    "select seq, source, id, type, subject, time, dataschema, data, traceparent, epoch, body_digest, chain"
    " from records where seq >= ?1 and seq <= ?2 order by seq"
)
_LETTERS = (
    "select nr, seq, feed_id, file, row_nr, reason, field, rule, raw from dead_letters"
    " where seq >= ?1 and seq <= ?2 order by seq, nr"
)


class LogSource(Protocol):
    """Something that may hold entries of the log, not yet verified by us."""

    name: str

    def entry(self, seq: int) -> SealedEntry | None:
        """The entry at a place; None where it is not there or cannot be read."""
        ...

    def last_seq(self) -> int:
        """The last place it may have an entry of; 0 where it has none."""
        ...


class JournalFileSource:
    """Entries of a journal file, sound or damaged: what cannot be read is skipped, never guessed."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        self._connection, _ = try_to_read(self._open)
        self._page: dict[int, SealedEntry] = {}
        self._page_nr = -1

    def entry(self, seq: int) -> SealedEntry | None:
        """The entry at a place; a page of neighbours is read along."""
        if seq // PAGE_ENTRIES != self._page_nr:
            self._page_nr = seq // PAGE_ENTRIES
            first = self._page_nr * PAGE_ENTRIES
            self._page = self._read(first, first + PAGE_ENTRIES - 1)
        return self._page.get(seq)

    def last_seq(self) -> int:
        """The last place; found by looking where the file cannot say."""
        if self._connection is None:
            return 0
        rows, _ = try_to_read(lambda: self._select(LAST_PLACE, ()))
        if rows:
            return int(rows[0][0])
        last, n_empty, nr = 0, 0, 0
        while n_empty < MAX_EMPTY_PAGES:
            self.entry(nr * PAGE_ENTRIES)
            last, n_empty = (max(self._page), 0) if self._page else (last, n_empty + 1)
            nr += 1
        return last

    def close(self) -> None:
        """Give the file back."""
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> apsw.Connection:
        connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(30_000)
        show_as_current(connection)
        return connection

    def _read(self, first: int, last: int) -> dict[int, SealedEntry]:
        if self._connection is None:
            return {}
        rows, _ = try_to_read(lambda: self._select(_ROWS, (first, last)))
        if rows is None:
            if first == last:
                return {}
            # Somewhere in here is a bad page: by halves, so that its neighbours are not lost with it.
            middle = (first + last) // 2
            return self._read(first, middle) | self._read(middle + 1, last)
        letters, _ = try_to_read(lambda: self._select(_LETTERS, (first, last)))
        by_seq: dict[int, list[LetterRow]] = {}
        for letter in letters or ():
            by_seq.setdefault(letter[1], []).append(LetterRow._make(letter))
        entries = (LogRow._make(row) for row in rows)
        singles = {row.seq: SealedEntry(row, tuple(by_seq.get(row.seq, ()))) for row in entries}
        return singles | {row.seq: SealedEntry(row, ()) for row in self._rows_of_runs(first, last)}

    def _rows_of_runs(self, first: int, last: int) -> list[LogRow]:
        """Events that are kept in runs; without their bodies where only those cannot be read."""
        rows: list[LogRow] = []
        after = first - 1
        while after < last:
            read, _ = try_to_read(lambda at=after: self._next_rows(at, last, with_bodies=True))  # type: ignore[misc]
            if read is None:
                read, _ = try_to_read(lambda at=after: self._next_rows(at, last, with_bodies=False))  # type: ignore[misc]
            if read == []:
                break
            rows += read or []
            after = read[-1].seq if read else after + 1
        return rows

    def _next_rows(self, after: int, last: int, *, with_bodies: bool) -> list[LogRow]:
        run = next_run(self._select, after, last, with_bodies=with_bodies)
        return [] if run is None else list(run.rows(after, last))

    def _select(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return [] if self._connection is None else list(self._connection.execute(sql, values))


class SegmentSource:
    """Entries of the sealed segments of one folder; a segment that is not what was sealed gives none."""

    def __init__(self, folder: Path) -> None:
        self.name = "segments"
        manifests = sorted(folder.glob("*.manifest.json")) if folder.is_dir() else []
        read = [try_to_read(lambda path=path: _segment_of(path))[0] for path in manifests]  # type: ignore[misc]
        self._segments: list[Segment] = [segment for segment in read if segment is not None]
        self._open: Segment | None = None
        self._entries: dict[int, SealedEntry] = {}

    def entry(self, seq: int) -> SealedEntry | None:
        """The entry at a place; its whole segment is held until another one is asked for."""
        if seq not in self._entries:
            segment = next((s for s in self._segments if s.first_seq <= seq <= s.last_seq), None)
            if segment is None or segment == self._open:
                return None
            self._open, self._entries = segment, {}
            try_to_read(lambda: self._entries.update((e.row.seq, e) for e in read_segment(segment)))
        return self._entries.get(seq)

    def last_seq(self) -> int:
        """The last place that was sealed."""
        return max((segment.last_seq for segment in self._segments), default=0)


def _segment_of(manifest: Path) -> Segment:
    fields = json.loads(manifest.read_bytes())
    return Segment(manifest.with_name(manifest.name.removesuffix(".manifest.json") + ".jsonl.gz"), **fields)
