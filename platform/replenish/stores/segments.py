"""Sealed segments: ranges of the log as compressed JSON lines, checked, on disk, and independent of the journal's file.

    segments/<first>-<last>.jsonl.gz         one record a line, with its dead letters, digests and chain
    segments/<first>-<last>.manifest.json    first_seq last_seq prev_chain head_chain epoch n sha256

A segment counts once its manifest is there, and that is written after the segment was forced to disk and read again.
Log = segments + journal + archived files: what is sealed may be trimmed from the journal.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from replenish.digests import file_digest
from replenish.errors import DamagedLog
from replenish.stores.durable import fsync_path
from replenish.stores.failpoints import failpoint
from replenish.stores.full_disk import refusing_when_full
from replenish.stores.journal_chain import LetterRow, LogRow, fault_of_row
from replenish.stores.journal_entry import JournalRecord
from replenish.stores.journal_reader import JournalReader, record_of
from replenish.stores.layout import RootLayout
from replenish.stores.locks import hold

MIN_RECORDS = 10_000
MAX_RECORDS = 50_000
"""Records of one segment: some tens of MB before compression, read in a second or two."""
_LEVEL = 6


class SealedEntry(NamedTuple):
    """A record with its dead letters, as they lie in the journal."""

    row: LogRow
    letters: tuple[LetterRow, ...]


class Segment(NamedTuple):
    """What a manifest says of its segment; chains in hex."""

    path: Path
    first_seq: int
    last_seq: int
    prev_chain: str
    head_chain: str
    epoch: int
    n: int
    sha256: str


def sealed_segments(folder: Path) -> list[Segment]:
    """Every segment with a manifest, in log order, without looking into them.

    Raises:
        DamagedLog: A manifest cannot be read, or a range between two of them is missing.
    """
    segments = sorted((_segment_of(path) for path in folder.glob("*.manifest.json")), key=lambda s: s.first_seq)
    last, chain = 0, bytes(32).hex()
    for segment in segments:
        if (segment.first_seq, segment.prev_chain) != (last + 1, chain):
            raise DamagedLog("a sealed segment is missing, or is of another log", seq=last + 1, segment=segment.path)
        last, chain = segment.last_seq, segment.head_chain
    return segments


def seal(
    journal: JournalReader, layout: RootLayout, *, min_records: int = MIN_RECORDS, max_records: int = MAX_RECORDS
) -> list[Segment]:
    """Seal what was journalled since the last segment, in segments of at most `max_records`; the new ones.

    Fewer than `min_records` stay for the next time.

    Raises:
        DamagedLog: The journal does not continue the last segment, or does not verify; nothing is sealed.
        AlreadyRunning: Another process seals.
        StoreFull: The disk is full; segments before this one are sealed, the rest is in the journal.
    """
    lock = hold(layout.locks / "seal.lock", "seal the log")
    with refusing_when_full("seal the log", layout.segments), lock:
        layout.segments.mkdir(parents=True, exist_ok=True)
        sealed = sealed_segments(layout.segments)
        _clear_drafts(layout.segments)
        last = sealed[-1] if sealed else None
        if last is not None and (journal.chain_at(last.last_seq) or b"").hex() != last.head_chain:
            raise DamagedLog("the journal does not continue its sealed segments", seq=last.last_seq)
        after, head, new = last.last_seq if last else 0, journal.last_seq(), []
        while head - after >= max(1, min_records):
            to = min(head, after + max_records)
            new.append(_seal_range(journal, layout.segments, after, to))
            after = to
        return new


def reseal(journal: JournalReader, layout: RootLayout, first_seq: int, last_seq: int) -> Segment:
    """Seal a range again whose segment was lost or set aside, as it was; the same bytes where the journal is whole.

    Raises:
        DamagedLog: The journal no longer has every body of the range, or does not verify.
        AlreadyRunning: Another process seals.
        StoreFull: The disk is full; nothing was sealed.
    """
    lock = hold(layout.locks / "seal.lock", "seal a range again")
    with refusing_when_full("seal a range again", layout.segments), lock:
        layout.segments.mkdir(parents=True, exist_ok=True)
        return _seal_range(journal, layout.segments, first_seq - 1, last_seq)


def read_segment(segment: Segment) -> Iterator[SealedEntry]:
    """The entries of a segment in log order, each verified as it is read.

    Raises:
        DamagedLog: The file is gone, or is not what its manifest says.
    """
    if not segment.path.is_file() or file_digest(segment.path) != segment.sha256:
        raise DamagedLog("a sealed segment is gone or is not what was sealed", segment=segment.path)
    return _verified(segment)


def log_entries(
    journal: JournalReader, layout: RootLayout, after_seq: int = 0, up_to_seq: int | None = None
) -> Iterator[SealedEntry]:
    """The log (after_seq, up_to_seq] as one sequence; bodies that were trimmed come from their segments."""
    bodies = _SealedBodies(layout.segments)
    for row, letters in journal.rows_with_letters(after_seq, up_to_seq):
        whole = row if row.data is not None else row._replace(data=bodies.body(row))
        yield SealedEntry(whole, letters)


def log_records(
    journal: JournalReader, layout: RootLayout, after_seq: int = 0, up_to_seq: int | None = None
) -> Iterator[JournalRecord]:
    """As `log_entries`, as records."""
    return (record_of(entry.row) for entry in log_entries(journal, layout, after_seq, up_to_seq))


class _SealedBodies:
    """Bodies by place, read from segments in rising order."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._segments: list[Segment] = []
        self._open: Segment | None = None
        self._entries: Iterator[SealedEntry] = iter(())

    def body(self, row: LogRow) -> bytes | None:
        segment = self._segment(row.seq)
        if segment is None:
            # Sealed and trimmed since we looked.
            self._segments = sealed_segments(self._folder)
            segment = self._segment(row.seq)
        if segment is None:
            raise DamagedLog("the body of a record was trimmed and its segment is gone", seq=row.seq)
        if segment != self._open:
            self._open, self._entries = segment, read_segment(segment)
        found = next(entry.row for entry in self._entries if entry.row.seq == row.seq)
        if found.chain != row.chain:
            raise DamagedLog("a segment holds another record than the journal", seq=row.seq, segment=segment.path)
        return found.data

    def _segment(self, seq: int) -> Segment | None:
        return next((s for s in self._segments if s.first_seq <= seq <= s.last_seq), None)


def _seal_range(journal: JournalReader, folder: Path, after: int, to: int) -> Segment:
    before = journal.chain_at(after)
    target = folder / f"{after + 1:012}-{to:012}.jsonl.gz"
    draft = target.with_name(f".{target.name}.draft")
    with draft.open("wb") as file, gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed:
        last = None
        for last in _sound_entries(journal, after, to, before or b""):
            packed.write(_line_of(last))
    if last is None or last.row.seq != to:
        raise DamagedLog("records are missing from the journal", seq=after + 1 if last is None else last.row.seq + 1)
    failpoint("segment.written")
    fsync_path(draft)
    draft.replace(target)
    fsync_path(folder)
    fsync_path(folder.parent)
    failpoint("segment.synced")
    sha256, chain, epoch = file_digest(target), last.row.chain.hex(), last.row.epoch
    segment = Segment(target, after + 1, to, (before or b"").hex(), chain, epoch, to - after, sha256)
    # Read as a restore would read it; only then it counts.
    if sum(1 for _ in _verified(segment)) != segment.n:
        raise DamagedLog("a segment does not read back as it was written", segment=target)
    _write_manifest(segment)
    failpoint("segment.sealed")
    return segment


def _sound_entries(journal: JournalReader, after: int, to: int, before: bytes) -> Iterator[SealedEntry]:
    seq = after + 1
    for row, letters in journal.rows_with_letters(after, to):
        entry = SealedEntry(row, letters)
        fault = fault_of_row(row, entry.letters, before, seq)
        if fault is not None or row.data is None:
            raise DamagedLog(fault or f"the body of record {seq} is gone and it was never sealed", seq=seq)
        yield entry
        before, seq = row.chain, seq + 1


def _verified(segment: Segment) -> Iterator[SealedEntry]:
    before, seq = bytes.fromhex(segment.prev_chain), segment.first_seq
    try:
        with gzip.open(segment.path, "rb") as lines:
            for line in lines:
                entry = _entry_of(line)
                fault = fault_of_row(entry.row, entry.letters, before, seq)
                if fault is not None:
                    raise DamagedLog(fault, seq=seq, segment=segment.path)
                yield entry
                before, seq = entry.row.chain, seq + 1
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DamagedLog(f"a segment cannot be read ({error})", seq=seq, segment=segment.path) from error
    if (seq - 1, before.hex()) != (segment.last_seq, segment.head_chain):
        raise DamagedLog("a segment ends elsewhere than its manifest says", seq=seq, segment=segment.path)


def _line_of(entry: SealedEntry) -> bytes:
    row = entry.row
    fields: dict[str, Any] = row._asdict() | {"body_digest": row.body_digest.hex(), "chain": row.chain.hex()}
    # A body as text where it is UTF-8, which is nearly always: a person can then read a segment with zcat.
    body = row.data or b""
    try:
        fields["data"] = body.decode()
    except UnicodeDecodeError:
        fields["data"] = {"hex": body.hex()}
    fields["letters"] = [list(letter) for letter in entry.letters]
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _entry_of(line: bytes) -> SealedEntry:
    fields = json.loads(line)
    letters = tuple(LetterRow(*letter) for letter in fields.pop("letters"))
    data = fields["data"]
    fields["data"] = data.encode() if isinstance(data, str) else bytes.fromhex(data["hex"])
    fields["body_digest"], fields["chain"] = bytes.fromhex(fields["body_digest"]), bytes.fromhex(fields["chain"])
    row = LogRow(**fields)
    if hashlib.sha256(row.data or b"").digest() != row.body_digest:
        raise ValueError(f"body of record {row.seq}")
    return SealedEntry(row, letters)


def _write_manifest(segment: Segment) -> None:
    target = segment.path.with_name(segment.path.name.removesuffix(".jsonl.gz") + ".manifest.json")
    draft = target.with_name(f".{target.name}.draft")
    content = segment._asdict()
    del content["path"]
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    fsync_path(draft)
    draft.replace(target)
    fsync_path(target.parent)


def _segment_of(manifest: Path) -> Segment:
    path = manifest.with_name(manifest.name.removesuffix(".manifest.json") + ".jsonl.gz")
    try:
        return Segment(path, **json.loads(manifest.read_bytes()))
    except (ValueError, TypeError) as error:
        raise DamagedLog(f"a segment's manifest cannot be read ({error})", manifest=manifest) from error


def _clear_drafts(folder: Path) -> None:
    """Drop drafts of an interrupted attempt. A segment without its manifest stays: it may be all that holds a body."""
    for path in folder.glob(".*.draft"):
        path.unlink()
