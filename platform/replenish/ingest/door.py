"""The first door: files of a folder become journal records, accepted parts and dead letters.

Order of effects for one file: the raw bytes are archived, the accepted parts are written, and only then the journal's
transaction acknowledges both. A crash before it leaves files that nobody refers to, and the next attempt starts again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import polars as pl

from replenish.contracts.dataset import Dataset, Feed
from replenish.contracts.dataset_reader import matches_feed
from replenish.contracts.model import Contract
from replenish.digests import file_digest, json_digest
from replenish.errors import BrokenPromise, DigestMismatch, FileFault, WriteConflict
from replenish.ingest.accepted_parts import AcceptedPart, PartIndex, clear_folder, days_mask, write_part
from replenish.ingest.gate import DEAD_SCHEMA
from replenish.ingest.intake import Intake, sound_rows, take_in
from replenish.ingest.known_facts import RETRACTION_OF_UNKNOWN, judge_facts
from replenish.ingest.mapping import FeedMapping, json_of
from replenish.ingest.spool import RowSpool
from replenish.ingest.verdict import FileVerdict, IngestReport, verdict_of
from replenish.stores.archive import archive_file, archive_name
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import FILE_ACCEPTED, FILE_DEAD, DeadLetter, JournalRecord
from replenish.stores.layout import RootLayout

MAX_ATTEMPTS = 5
"""Times a file is judged again because another writer appended to the journal meanwhile."""
MAX_SAMPLE_LETTERS = 100
"""Row letters kept beside the letter of a refused file: enough to see what is wrong; the rest is in the archive."""
ALL_DAYS = -1


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
    """
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
    """Take one file through the gate for one feed and journal what became of it.

    Raises:
        DigestMismatch: The file changed while it was read; nothing was journalled.
        BrokenPromise: Rows got lost on the way: a mistake of ours.
        WriteConflict: Other writers took the journal's next place five times in a row.
    """
    sha256 = file_digest(path)
    # A refused file is refused under these rules; with others it gets another chance.
    dead_id = f"{sha256}:{json_digest([_rules(feed), contract.version])[:16]}"
    known = journal.find(feed.feed_id, sha256) or journal.find(feed.feed_id, dead_id)
    if known is not None:
        return replace(verdict_of(known, is_known=True), file=path.name)
    raw = archive_file(path, sha256, layout.archive)
    scratch = layout.root / "scratch" / f"{sha256[:16]}-{feed.feed_id}"
    clear_folder(scratch)
    mapping = FeedMapping(feed, contract, dataset, now)
    intake = Intake(RowSpool(scratch / "sound"), RowSpool(scratch / "dead"))
    record = JournalRecord(feed.feed_id, sha256, FILE_ACCEPTED, path.name, now, f"{contract.stream}@{contract.version}")
    record = replace(record, data={"archive": archive_name(sha256), "sha256": sha256, "size_bytes": raw.stat().st_size})
    try:
        take_in(raw, mapping, intake)
        return _accept(record, intake, mapping, journal, layout, index or PartIndex(journal))
    except FileFault as fault:
        return _refuse(replace(record, id=dead_id, type=FILE_DEAD), intake, fault, journal)
    finally:
        clear_folder(scratch)


def _accept(
    record: JournalRecord, intake: Intake, mapping: FeedMapping, journal: Journal, layout: RootLayout, index: PartIndex
) -> FileVerdict:
    """Judge the sound rows against all earlier ones, write the accepted, journal the lot.

    All of it again where another writer came between.
    """
    for _ in range(MAX_ATTEMPTS):
        parts_seq = journal.last_parts_seq()
        index.refresh()
        seq = journal.next_seq()
        outcome = _Outcome(record, seq)
        for bucket in intake.sound.buckets():
            outcome.add(bucket, sound_rows(intake, bucket), mapping, layout, index)
        filled = replace(record, data=record.data | outcome.as_json(intake))
        letters = pl.concat([intake.dead_rows(), *outcome.late_dead]).sort("row_nr")
        try:
            seq = journal.append(filled, _dead_letters(letters, record), expected_parts_seq=parts_seq)
        except WriteConflict:
            continue
        return verdict_of(replace(filled, seq=seq))
    raise WriteConflict("the journal is written faster than this file can be judged", file=record.subject)


class _Outcome:
    """Sums over the buckets of one file while they are judged and written, one in memory at a time."""

    def __init__(self, record: JournalRecord, seq: int) -> None:
        self._record = record
        self._seq = seq
        self._counts = dict.fromkeys(("accepted", "duplicate", "corrections", "retractions", "cancellations"), 0)
        self._spans: list[pl.DataFrame] = []
        self.parts: list[AcceptedPart] = []
        self.late_dead: list[pl.DataFrame] = []

    def add(self, bucket: str, rows: pl.DataFrame, mapping: FeedMapping, layout: RootLayout, index: PartIndex) -> None:
        contract = mapping.contract
        days = days_mask(rows) if contract.is_keyed_by_date else ALL_DAYS
        earlier = index.earlier_rows(contract, bucket, days, layout.accepted)
        facts = judge_facts(rows, earlier, contract)
        accepted = facts.accepted.with_columns(
            pl.lit(self._seq, pl.Int64()).alias("journal_seq"),
            pl.lit(self._record.source).alias("feed_id"),
            pl.lit(self._record.id).alias("delivery_id"),
            pl.lit(contract.version).alias("contract_version"),
        )
        self._counts["accepted"] += accepted.height
        self._counts["duplicate"] += facts.n_duplicates
        for flag in ("correction", "retraction", "cancellation"):
            self._counts[f"{flag}s"] += int(accepted[f"is_{flag}"].sum())
        if facts.unknown_retractions.height:
            self.late_dead.append(_retraction_letters(facts.unknown_retractions, contract))
        if accepted.height:
            name = f"{self._seq}-{self._record.id[:12]}-{len(self.parts)}"
            self.parts.append(write_part(accepted, contract, bucket, name, layout.accepted))
            self._spans.append(accepted.select(_SPAN))

    def as_json(self, intake: Intake) -> dict[str, object]:
        """The counts, parts and spans of the record; asserts that no row was lost."""
        reasons = intake.reasons.copy()
        reasons.update({RETRACTION_OF_UNKNOWN: n} if (n := sum(f.height for f in self.late_dead)) else {})
        dead = sum(reasons.values())
        self._counts["duplicate"] += intake.repeats.height
        if intake.offered != self._counts["accepted"] + dead + self._counts["duplicate"]:
            raise BrokenPromise("offered is not accepted + dead + duplicate", file=self._record.subject, **self._counts)
        span = pl.concat(self._spans).select(_SPAN_OF_SPANS).row(0, named=True) if self._spans else _NO_SPAN
        return {
            "offered": intake.offered,
            "dead": dead,
            **self._counts,
            "reasons": dict(sorted(reasons.items())),
            "parts": [part.as_json() for part in self.parts],
            **{name: None if value is None else value.isoformat() for name, value in span.items()},
        }


_SPANNED = ("event_date", "knowledge_time")
_SPAN = [e for c in _SPANNED for e in (pl.col(c).min().alias(f"{c}_min"), pl.col(c).max().alias(f"{c}_max"))]
_SPAN_OF_SPANS = [e for c in _SPANNED for e in (pl.col(f"{c}_min").min(), pl.col(f"{c}_max").max())]
_NO_SPAN: dict[str, datetime | None] = {f"{c}_{end}": None for c in _SPANNED for end in ("min", "max")}


def _refuse(record: JournalRecord, intake: Intake, fault: FileFault, journal: Journal) -> FileVerdict:
    """Journal a file whose every row is dead: one letter for the file, and a sample of the rows found bad so far."""
    offered = intake.offered
    counts = {"offered": offered, "accepted": 0, "dead": offered, "duplicate": 0, "corrections": 0}
    data = record.data | counts | {"reasons": {fault.reason: offered}, "parts": [], "fault": str(fault)} | _NO_SPAN
    letter = DeadLetter(record.source, record.subject, None, fault.reason, None, str(fault), None)
    sample = _dead_letters(intake.dead_rows().head(MAX_SAMPLE_LETTERS), record)
    filled = replace(record, data=data)
    return verdict_of(replace(filled, seq=journal.append(filled, [letter, *sample])))


def _retraction_letters(rows: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    rule = "a retraction names a fact that was known before it"
    texts = {"reason": RETRACTION_OF_UNKNOWN, "field": None, "rule": rule}
    columns = [pl.lit(text, pl.String()).alias(name) for name, text in texts.items()]
    letters = rows.select("row_nr", *columns, json_of(rows.select(contract.names)).alias("raw"))
    return letters.select(*DEAD_SCHEMA)


def _dead_letters(rows: pl.DataFrame, record: JournalRecord) -> Iterator[DeadLetter]:
    return (DeadLetter(record.source, record.subject, *row) for row in rows.select(*DEAD_SCHEMA).iter_rows())


def _rules(feed: Feed) -> dict[str, object]:
    """The feed as JSON values, for its digest."""
    return {name: repr(value) for name, value in asdict(feed).items()}
