"""The first door: files of a folder become journal records, accepted parts and dead letters.

Order of effects for one file: the raw bytes are archived, the accepted parts are written, and only then the journal's
transaction acknowledges both. A crash before it leaves files that nobody refers to, and the next attempt starts again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl

from replenish.contracts.dataset import Dataset, Feed
from replenish.contracts.dataset_reader import matches_feed
from replenish.contracts.model import Contract
from replenish.digests import file_digest, json_digest
from replenish.errors import DigestMismatch, FileFault, WriteConflict
from replenish.ingest.accepted_parts import PartIndex, clear_folder
from replenish.ingest.gate import DEAD_SCHEMA
from replenish.ingest.intake import Intake, take_in
from replenish.ingest.judged_rows import NO_SPAN, JudgedRows, feed_rules, part_name_of, rules_digest
from replenish.ingest.mapping import FeedMapping
from replenish.ingest.spool import RowSpool
from replenish.ingest.verdict import FileVerdict, IngestReport, verdict_of
from replenish.stores.archive import archive_file, archive_name
from replenish.stores.failpoints import failpoint
from replenish.stores.full_disk import refusing_when_full
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import FILE_ACCEPTED, FILE_DEAD, DeadLetter, JournalRecord
from replenish.stores.layout import RootLayout
from replenish.stores.locks import hold

MAX_ATTEMPTS = 5
"""Times a file is judged again because another writer added accepted rows meanwhile."""
MAX_SAMPLE_LETTERS = 100
"""Row letters kept beside the letter of a refused file: enough to see what is wrong; the rest is in the archive."""
INGEST_LOCK = "ingest.lock"
"""Held by whoever writes accepted parts: the file door and the settling of events."""
LOCK_WAIT_SECONDS = 30.0


def ingest_folder(
    folder: Path,
    dataset: Dataset,
    contracts: Mapping[str, Contract],
    journal: Journal,
    layout: RootLayout,
    *,
    now: datetime,
    progress: Callable[[str], None] | None = None,
) -> IngestReport:
    """Offer every file of a folder (or the one file that `folder` is) to the feeds whose globs match its name.

    Reference data come first, then events, each by feed order and file name; a file may feed several streams.

    Args:
        folder: Read, never changed. Sub-folders and hidden files are left alone.
        now: Arrival of the files, with an offset.
        progress: Told the name of each file before it is read.

    Raises:
        AlreadyRunning: Another process ingests into this root, and did not end within 30 s.
        StoreFull: The disk is full; files before this one are taken, it and those behind it may be offered again.
    """
    lock = hold(layout.locks / INGEST_LOCK, "ingest files", wait_seconds=LOCK_WAIT_SECONDS)
    with refusing_when_full("take in files", layout.root), lock:
        return _ingest_files(folder, dataset, contracts, journal, layout, now, progress)


def _ingest_files(
    folder: Path,
    dataset: Dataset,
    contracts: Mapping[str, Contract],
    journal: Journal,
    layout: RootLayout,
    now: datetime,
    progress: Callable[[str], None] | None,
) -> IngestReport:
    files = [path for path in _files_of(folder) if not path.name.startswith(".")]
    index = PartIndex(journal)
    verdicts: list[FileVerdict] = []
    unsettled: list[str] = []
    offers = list(_offers(files, dataset, contracts))
    for path, feed in offers:
        if progress is not None:
            progress(path.name)
        try:
            verdicts.append(
                ingest_file(path, feed, contracts[feed.stream], dataset, journal, layout, now=now, index=index)
            )
        except DigestMismatch:
            unsettled.append(path.name)
        except FileNotFoundError:
            # Taken away since the folder was listed: no reason to leave the files behind it unread.
            if path.exists():
                raise
            unsettled.append(path.name)
    matched = {path for path, _ in offers}
    return IngestReport(tuple(verdicts), tuple(p.name for p in files if p not in matched), tuple(unsettled))


def _files_of(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    # A drop folder that nobody has made yet holds no files.
    # By stem first: the month's file (2024-12.csv) comes before those of later days (2024-12-31.csv).
    files = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    return sorted(files, key=lambda path: (path.name.split(".")[0], path.name))


def _offers(files: list[Path], dataset: Dataset, contracts: Mapping[str, Contract]) -> Iterator[tuple[Path, Feed]]:
    for feed in sorted(dataset.feeds, key=lambda feed: not contracts[feed.stream].is_reference):
        yield from ((path, feed) for path in files if matches_feed(feed, path.name))


def ingest_file(
    path: Path,
    feed: Feed,
    contract: Contract,
    dataset: Dataset,
    journal: Journal,
    layout: RootLayout,
    *,
    now: datetime,
    index: PartIndex | None = None,
) -> FileVerdict:
    """Take one file through the gate for one feed and journal what became of it; the caller holds the ingest lock.

    Raises:
        DigestMismatch: The file changed while it was read; nothing was journalled.
        BrokenPromise: Rows got lost on the way: a mistake of ours.
        WriteConflict: Other writers added accepted rows five times in a row.
    """
    sha256 = file_digest(path)
    own_id, taken = _filed_as(sha256, feed, journal)
    # A refused file is refused under these rules; with others it gets another chance.
    dead_id, refused = _filed_as(f"{sha256}:{json_digest([feed_rules(feed), contract.version])[:16]}", feed, journal)
    if known := taken or refused:
        return replace(verdict_of(known, is_known=True), file=path.name)
    raw = archive_file(path, sha256, layout.archive)
    record = JournalRecord(feed.feed_id, own_id, FILE_ACCEPTED, path.name, now, f"{contract.stream}@{contract.version}")
    record = replace(record, data={"archive": archive_name(sha256), "sha256": sha256, "size_bytes": raw.stat().st_size})
    scratch = layout.root / "scratch" / f"{sha256[:16]}-{feed.feed_id}"
    clear_folder(scratch)
    intake = file_intake(scratch)
    mapping = FeedMapping(feed, contract, dataset, now)
    try:
        take_in(raw, mapping, intake)
        return _accept(record, intake, mapping, journal, layout, index or PartIndex(journal))
    except FileFault as fault:
        return _refuse(replace(record, id=dead_id, type=FILE_DEAD), intake, fault, journal)
    finally:
        clear_folder(scratch)


def _filed_as(file_id: str, feed: Feed, journal: Journal) -> tuple[str, JournalRecord | None]:
    """The id a file has in the log, and the record of it that is there already.

    A source of single events may bear the feed's name, and its events any id: one that is a file's gets it no further
    than to another id. There are as many turns as such events.
    """
    while (known := journal.find(feed.feed_id, file_id)) is not None and known.type not in (FILE_ACCEPTED, FILE_DEAD):
        file_id += ":file"
    return file_id, known


def file_intake(scratch: Path) -> Intake:
    """An empty intake that spills to a scratch folder."""
    return Intake(RowSpool(scratch / "sound"), RowSpool(scratch / "dead"))


def file_rows(record: JournalRecord, contract: Contract, accepted: Path, into: Path | None = None) -> JudgedRows:
    """The judge of the rows of one file, as its record names them."""
    labels = {"feed_id": record.source, "delivery_id": record.id}
    return JudgedRows(contract, labels, part_name_of(record.id[:16], record.source), accepted, into=into)


def _accept(
    record: JournalRecord, intake: Intake, mapping: FeedMapping, journal: Journal, layout: RootLayout, index: PartIndex
) -> FileVerdict:
    """Judge the sound rows against all earlier ones, write the accepted, journal the lot.

    All of it again where another writer came between.
    """
    rules = rules_digest(mapping.feed, mapping.contract, mapping.dataset)
    for _ in range(MAX_ATTEMPTS):
        index.refresh()
        rows = file_rows(record, mapping.contract, layout.accepted)
        rows.judge(intake, index)
        filled = replace(record, data=record.data | rows.as_json(intake, record.subject) | {"rules": rules})
        failpoint("file.judged")
        try:
            letters = _dead_letters(rows.letters(intake), record)
            seq = journal.append(filled, letters, expected_parts_seq=index.seen_seq)
        except WriteConflict:
            continue
        return verdict_of(replace(filled, seq=seq))
    raise WriteConflict("accepted rows are added faster than this file can be judged", file=record.subject)


def _refuse(record: JournalRecord, intake: Intake, fault: FileFault, journal: Journal) -> FileVerdict:
    """Journal a file whose every row is dead: one letter for the file, and a sample of the rows found bad so far."""
    offered = intake.offered
    counts = {"offered": offered, "accepted": 0, "dead": offered, "duplicate": 0, "corrections": 0}
    data = record.data | counts | {"reasons": {fault.reason: offered}, "parts": [], "fault": str(fault)} | NO_SPAN
    letter = DeadLetter(record.source, record.subject, None, fault.reason, None, str(fault), None)
    sample = _dead_letters(intake.dead_rows().head(MAX_SAMPLE_LETTERS), record)
    filled = replace(record, data=data)
    return verdict_of(replace(filled, seq=journal.append(filled, [letter, *sample])))


def _dead_letters(rows: pl.DataFrame, record: JournalRecord) -> Iterator[DeadLetter]:
    return (DeadLetter(record.source, record.subject, *row) for row in rows.select(*DEAD_SCHEMA).iter_rows())
