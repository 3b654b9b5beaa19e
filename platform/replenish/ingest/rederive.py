"""Accepted parts made again from the log: from an archived file or from the bodies of events, exactly as they were.

A record's rows were judged against the parts of the records before it and nothing else, so the same can be done again
at any time, record by record in log order. Whether the same came out is told by the digests of the parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from replenish.contracts.dataset import Dataset, Feed
from replenish.contracts.model import Contract
from replenish.contracts.version_rules import OlderVersion, older_versions
from replenish.digests import file_digest
from replenish.errors import ContractError, DigestMismatch
from replenish.ingest.accepted_parts import AcceptedPart, PartIndex, clear_folder, parts_of
from replenish.ingest.door import file_intake, file_rows
from replenish.ingest.event_batch import EventBatch
from replenish.ingest.events.event_feeds import event_feeds, with_all_feeds_open
from replenish.ingest.intake import take_in
from replenish.ingest.judged_rows import rules_digest
from replenish.ingest.mapping import FeedMapping
from replenish.ingest.settle import SETTLED_TYPES
from replenish.stores.journal_entry import EVENTS_SETTLED, FILE_ACCEPTED, JournalRecord
from replenish.stores.journal_reader import EventBody, JournalReader
from replenish.stores.layout import RootLayout


def rederive_parts(
    record: JournalRecord,
    dataset: Dataset,
    contracts: Mapping[str, Contract],
    journal: JournalReader,
    layout: RootLayout,
    *,
    into: Path | None = None,
    index: PartIndex | None = None,
    bodies: Iterable[EventBody] | None = None,
    versions: Mapping[str, Mapping[str, Contract]] | None = None,
) -> list[AcceptedPart]:
    """Write the parts of one record anew and return them, in the record's order; nothing is journalled.

    Args:
        record: A FILE_ACCEPTED or EVENTS_SETTLED record, as it stands in the journal.
        journal: Lists the earlier parts.
        layout: The earlier parts are read from `layout.accepted`; all of them have to be there.
        into: Folder to write to, in place of `layout.accepted`.
        index: Index of exactly the parts before the record, where the caller keeps one going.
        bodies: The events of a settled batch, where the journal no longer has their bodies.
        versions: By stream the live versions of its contract, as for `settle_events`.

    Raises:
        DigestMismatch: The archived file is gone or is not what was archived.
        ContractError: The data set no longer has the record's feed.
        FileFault: Under today's rules the file would be refused as a whole.
    """
    feed, contract = _rules_of(record, dataset, contracts)
    mapping = FeedMapping(feed, contract, dataset, record.time)
    if index is None:
        index = PartIndex(journal, before_seq=record.seq)
        index.refresh()
    scratch = layout.root / "scratch" / f"rederive-{record.seq}"
    clear_folder(scratch)
    intake = file_intake(scratch)
    try:
        if record.type == FILE_ACCEPTED:
            take_in(archived_file(record, layout), mapping, intake)
            rows = file_rows(record, contract, layout.accepted, into)
            rows.judge(intake, index)
        else:
            batch = EventBatch(mapping, intake, _older(contract, versions))
            batch.take_in(list(_bodies(record, journal) if bodies is None else bodies))
            rows = batch.judged(record, index, layout.accepted, into)
        rows.as_json(intake, record.id)
    finally:
        clear_folder(scratch)
    return rows.parts


def archived_file(record: JournalRecord, layout: RootLayout) -> Path:
    """The raw file of a FILE_ACCEPTED record; DigestMismatch where it is gone or damaged."""
    path = layout.archive / str(record.data["archive"])
    if not path.is_file():
        raise DigestMismatch("an archived file is gone: restore it from a standby or a backup", file=path)
    if file_digest(path) != record.data["sha256"]:
        raise DigestMismatch("an archived file is damaged: restore it from a standby or a backup", file=path)
    return path


def have_rules_changed(
    record: JournalRecord,
    dataset: Dataset,
    contracts: Mapping[str, Contract],
    versions: Mapping[str, Mapping[str, Contract]] | None = None,
) -> bool:
    """Whether rows are judged by other rules now; False where an old record does not say by which it was."""
    feed, contract = _rules_of(record, dataset, contracts)
    older = _older(contract, versions) if record.type == EVENTS_SETTLED else {}
    today = rules_digest(feed, contract, dataset, older)
    return bool(record.data.get("rules", today) != today)


def is_as_recorded(record: JournalRecord, parts: list[AcceptedPart]) -> bool:
    """Whether parts made again hold what the record says, by digest; by row counts where it has none."""
    told = [(part.bucket, part.rows, part.digest) for part in parts_of(record)]
    made = [(part.bucket, part.rows, part.digest) for part in parts]
    return len(told) == len(made) and all(
        t[:2] == m[:2] and t[2] in (None, m[2]) for t, m in zip(told, made, strict=True)
    )


def _rules_of(record: JournalRecord, dataset: Dataset, contracts: Mapping[str, Contract]) -> tuple[Feed, Contract]:
    if record.type == EVENTS_SETTLED:
        feed = event_feeds(with_all_feeds_open(dataset), contracts).get(record.subject)
    else:
        feed = next((feed for feed in dataset.feeds if feed.feed_id == record.source), None)
    if feed is None or feed.stream not in contracts:
        feed_id = record.subject if record.type == EVENTS_SETTLED else record.source
        raise ContractError("the data set no longer has the feed that this record came through", feed=feed_id)
    return feed, contracts[feed.stream]


def _older(contract: Contract, versions: Mapping[str, Mapping[str, Contract]] | None) -> dict[str, OlderVersion]:
    return older_versions(contract, (versions or {}).get(contract.stream, {}))


def _bodies(record: JournalRecord, journal: JournalReader) -> Iterable[EventBody]:
    first, last = int(str(record.data["from_seq"])), int(str(record.data["to_seq"]))
    return journal.event_bodies(first - 1, last, record.subject, types=SETTLED_TYPES)
