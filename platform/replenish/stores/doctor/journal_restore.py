"""A journal made anew from every source that still holds entries of it, each verified against the chain of hashes.

An entry is taken from the first source whose copy verifies. Where only its body is damaged in every copy, the entry is
kept without it, so that those behind it keep their places; what it said is lost and said to be. At the first place that
no source can give, the new journal ends: behind a hole nothing could be verified.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from replenish.stores.doctor.journal_sources import LogSource
from replenish.stores.doctor.reading import try_to_read
from replenish.stores.durable import fsync_path
from replenish.stores.journal import Journal, set_letter_status
from replenish.stores.journal_chain import GENESIS, fault_of_row
from replenish.stores.journal_entry import EVENT_TYPES, LETTER_DISCARDED, LETTER_REDRIVEN, LetterStatus
from replenish.stores.journal_events import INSERT_LETTER
from replenish.stores.journal_identity import insert_record_row, insert_repeated_row
from replenish.stores.segments import SealedEntry
from replenish.stores.trim import TRIMMED_TO

ENTRIES_PER_COMMIT = 5_000
_STATUS: dict[str, LetterStatus] = {LETTER_REDRIVEN: "redriven", LETTER_DISCARDED: "discarded"}


@dataclass
class RestoredJournal:
    """What came back. Spans are of places in the log, inclusive."""

    n_entries: int = 0
    taken_from: dict[str, int] = field(default_factory=dict)
    """Name of a source to the number of entries taken from it."""
    bodies_lost: list[int] = field(default_factory=list)
    lost: tuple[int, int] | None = None
    """Places that no source could give and that were once written."""
    beyond: tuple[int, int] | None = None
    """Places behind the hole of which sources hold entries; they are not in the new journal."""


def restore_journal(target: Path, sources: Sequence[LogSource], old: Path | None) -> RestoredJournal:
    """Write a new journal at `target`, durably; an older attempt there is taken out of the way by the caller.

    Args:
        target: Path of the new file.
        sources: In order of trust.
        old: The damaged file, for settings such as its id, where they can be read.
    """
    journal = Journal(target)
    last = max((source.last_seq() for source in sources), default=0)
    restored = RestoredJournal()
    before, seq = GENESIS, 1
    try:
        _keep_settings(journal, old)
        while seq <= last:
            journal.connection.execute("begin immediate")
            for _ in range(ENTRIES_PER_COMMIT):
                found = _sound_entry(sources, seq, before)
                if found is None:
                    break
                _insert(journal.connection, found[0], restored, found[1])
                before, seq = found[0].row.chain, seq + 1
            journal.connection.execute("commit")
            if found is None:
                break
        journal.connection.execute("pragma wal_checkpoint(truncate)")
    finally:
        journal.close()
    fsync_path(target)
    restored.n_entries = seq - 1
    if seq <= last:
        first = next((n for n in range(seq + 1, last + 1) if any(s.entry(n) for s in sources)), None)
        restored.lost = (seq, last if first is None else first - 1)
        restored.beyond = None if first is None else (first, last)
    return restored


def _sound_entry(sources: Sequence[LogSource], seq: int, before: bytes) -> tuple[SealedEntry, str] | None:
    """The first copy that verifies, whole ones first, and the name of its source."""
    copies = [(entry, source.name) for source in sources if (entry := source.entry(seq)) is not None]
    whole = [(entry, name) for entry, name in copies if entry.row.data is not None]
    bare = [
        (SealedEntry(e.row._replace(data=None), e.letters), name) for e, name in copies if e.row.type in EVENT_TYPES
    ]
    for entry, name in (*whole, *bare):
        if fault_of_row(entry.row, entry.letters, before, seq) is None:
            return entry, name
    return None


def _insert(connection: apsw.Connection, entry: SealedEntry, restored: RestoredJournal, source: str) -> None:
    row = entry.row
    try:
        insert_record_row(connection, row)
    except apsw.ConstraintError:
        insert_repeated_row(connection, row)
    connection.executemany(INSERT_LETTER, [(*letter, row.time, row.time) for letter in entry.letters])
    if row.type in _STATUS and row.data is not None:
        set_letter_status(connection, json.loads(row.data)["nrs"], _STATUS[row.type], row.time)
    if row.data is None:
        restored.bodies_lost.append(row.seq)
    restored.taken_from[source] = restored.taken_from.get(source, 0) + 1


def _keep_settings(journal: Journal, old: Path | None) -> None:
    """The old journal's id and settings: the fence and the standbys know it by them.

    Not how far it was trimmed: the bodies are back.
    """
    if old is None or not old.is_file():
        return

    def settings() -> list[tuple[str, str]]:
        connection = apsw.Connection(str(old), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return list(connection.execute("select name, value from meta"))
        finally:
            connection.close()

    for name, value in try_to_read(settings)[0] or ():
        if name != TRIMMED_TO:
            journal.set_meta(name, value)
