"""The journal's file: is it there, is it a whole database, are its entries complete and in order.

A missing `-wal` or `-shm` beside it is normal: the last one to close the journal cleanly removes both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

from replenish.errors import DamagedLog, StoreError
from replenish.stores.doctor.findings import Finding
from replenish.stores.doctor.reading import try_to_read
from replenish.stores.journal_reader import JournalReader
from replenish.stores.journal_tables import SCHEMA_VERSION, show_as_current

SUBJECT = "journal"
NEWEST_ENTRIES = 1_000
"""Entries whose chain is verified by the quick look."""
FIRST_WITH_CHAIN = 2
_MAGIC = b"SQLite format 3\0"
_SPANS = """
create temp view spans as select seq as first, seq as last, epoch from main.records
    union all select first_seq, last_seq, epoch from event_runs
"""
_SUMMARY = "select coalesce(min(first), 1), coalesce(max(last), 0), coalesce(sum(last - first + 1), 0) from spans"
_GAPS = """
select last, next from (select last, lead(first) over (order by first) as next from spans) where next <> last + 1
limit 3
"""
_TRIMMED = """
select seq, seq from records where data is null
union all select first_seq, last_seq from event_runs where bodies is null order by 1
"""
_EPOCHS = """
select first from (select first, epoch, lag(epoch) over (order by first) as before from spans) where epoch < before
limit 1
"""


def check_journal_file(path: Path, *, is_expected: bool, is_thorough: bool) -> list[Finding]:
    """Everything wrong with the journal at `path`; the first kind of fault hides those that need a readable file.

    Args:
        path: The SQLite file.
        is_expected: Whether anything else (segments, tables) shows that there was a journal.
        is_thorough: Read every page, every entry, compute the whole chain of hashes and look up every identity; else
            only the newest end of the chain.

    Raises:
        StoreError: It was written by a newer release, which alone can judge it.
    """
    if not path.is_file():
        return [_finding("journal_missing", path, "there is no journal.sqlite")] if is_expected else []
    if fault := _header_fault(path):
        return [_finding("journal_unreadable", path, fault)]
    release = _release_of(path)
    check = "pragma quick_check" if is_thorough else "select 'ok' from sqlite_schema where name = 'records'"
    checked, fault = try_to_read(lambda: _query(path, check))
    if checked is None:
        return [_finding("journal_pages", path, fault)]
    if checked != [("ok",)]:
        return [_finding("journal_pages", path, "; ".join(str(row[0])[:200] for row in checked[:3]) or "no records")]
    if release < FIRST_WITH_CHAIN:
        # Whole pages are all there is to look at; the first writer that opens it makes the chain.
        return []
    findings, fault = try_to_read(lambda: _order_faults(path) if is_thorough else [])
    if findings is None:
        return [_finding("journal_pages", path, fault)]
    findings = findings or _chain_faults(path, is_whole=is_thorough)
    if is_thorough and not findings:
        findings = _identity_faults(path)
    return findings or _behind_its_segments(path)


def _release_of(path: Path) -> int:
    """Version of its tables; the newest known where it cannot be read, which the checks that follow find out."""
    found, _ = try_to_read(lambda: int(_query(path, "pragma user_version")[0][0]))
    if found is not None and found > SCHEMA_VERSION:
        raise StoreError("the journal was written by a newer release; use that one", schema=found, path=path)
    return SCHEMA_VERSION if found is None else found


def _header_fault(path: Path) -> str:
    """What is wrong with the first page's account of the file; empty where nothing is."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(_MAGIC):
        return f"{size} bytes without the header of a database"
    page = int.from_bytes(header[16:18], "big")
    page_bytes = 65_536 if page == 1 else page
    n_pages = int.from_bytes(header[28:32], "big")
    # While entries move from the `-wal` into the file, and after a death in the middle of that, the header is ahead of
    # the size, and the pages that are not here yet are there: SQLite's own look, which knows both, has to judge.
    wal = path.with_name(f"{path.name}-wal")
    if wal.is_file() and wal.stat().st_size:
        return ""
    if size % page_bytes or size < n_pages * page_bytes:
        return f"{size} bytes, its header says {n_pages} pages of {page_bytes}: the file was cut off"
    return ""


def _order_faults(path: Path) -> list[Finding]:
    findings = []
    summary = _query(path, _SUMMARY)[0]
    first, last, count = (int(value) for value in summary)
    if first != 1 or count != last:
        gaps = [(int(a) + 1, int(b) - 1) for a, b in _query(path, _GAPS)]
        gaps = [(1, first - 1), *gaps] if first != 1 else gaps
        spans = ", ".join(f"{a}-{b}" for a, b in gaps)
        findings.append(_finding("journal_gap", path, f"no entries {spans}", (gaps[0][0], gaps[-1][1])))
    for (seq,) in _query(path, _EPOCHS):
        detail = f"entry {seq} is of an older epoch than the one before it"
        findings.append(_finding("journal_epoch", path, detail, (int(seq), last)))
    return findings


def _chain_faults(path: Path, *, is_whole: bool) -> list[Finding]:
    reader = JournalReader(path)
    try:
        first = 1 if is_whole else max(1, reader.last_seq() - NEWEST_ENTRIES)
        reader.verify_chain(first)
    except DamagedLog as fault:
        span = _span_of(fault)
        return [_finding("journal_chain" if span else "journal_pages", path, str(fault), span)]
    finally:
        reader.close()
    return []


def _identity_faults(path: Path) -> list[Finding]:
    reader = JournalReader(path)
    try:
        reader.verify_identities()
    except DamagedLog as fault:
        return [_finding("journal_identities", path, str(fault), _span_of(fault))]
    finally:
        reader.close()
    return []


def _span_of(fault: DamagedLog) -> tuple[int, int] | None:
    seq = fault.ids.get("seq")
    return None if seq is None else (int(str(seq)), int(str(seq)))


def _behind_its_segments(path: Path) -> list[Finding]:
    """A journal that ends before what was sealed out of it is an older copy: what it takes would be a second log."""
    names = [manifest.name.partition(".")[0] for manifest in (path.parent / "segments").glob("*.manifest.json")]
    sealed_to = max((int(last) for _, _, last in (name.partition("-") for name in names) if last.isdigit()), default=0)
    reader = JournalReader(path)
    last = reader.last_seq()
    reader.close()
    if last >= sealed_to:
        return []
    detail = f"it ends at entry {last}, its sealed segments at {sealed_to}"
    return [_finding("journal_behind", path, detail, (last + 1, sealed_to))]


def check_behind(path: Path, others: Sequence[Path]) -> list[Finding]:
    """Whether another copy of this very log goes further; one that was promoted is a log of its own by now."""
    findings = []
    for other in others:
        if path.is_file() and other.is_file():
            own, theirs = JournalReader(path), JournalReader(other)
            head, further = own.head(), theirs.head()
            chain = theirs.chain_at(head.seq)
            if further.seq > head.seq and further.epoch == head.epoch and chain == bytes.fromhex(head.chain):
                detail = f"it ends at entry {head.seq}, the copy at {other.parent} at {further.seq}"
                findings.append(_finding("journal_behind", path, detail, (head.seq + 1, further.seq)))
            own.close()
            theirs.close()
    return findings


def trimmed_spans(path: Path, *, is_thorough: bool) -> list[tuple[int, int]]:
    """Places first .. last whose bodies only segments hold; without a thorough look those of whole trimmed segments."""
    if not is_thorough:
        noted = _query(path, "select value from meta where name = 'trimmed_to'")
        return [(1, int(value)) for (value,) in noted]
    spans: list[tuple[int, int]] = []
    for first, last in _query(path, _TRIMMED):
        if spans and first == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], last)
        else:
            spans.append((first, last))
    return spans


def _query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(30_000)
        show_as_current(connection)
        connection.execute(_SPANS)
        return list(connection.execute(sql))
    finally:
        connection.close()


def _finding(kind: str, path: Path, detail: str, seqs: tuple[int, int] | None = None) -> Finding:
    return Finding(kind, SUBJECT, detail, "restore", path, seqs)
