"""What became of offered files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, cast

from replenish.stores.journal_entry import EVENTS_SETTLED, PART_BEARING, JournalRecord

FileStatus = Literal["accepted", "dead", "known"]


@dataclass(frozen=True)
class FileVerdict:
    """One file (or batch of single events) through one feed: `offered = accepted + dead + duplicate`, in rows."""

    feed_id: str
    file: str
    status: FileStatus
    """`known`: the same bytes were taken (or refused under the same rules) before; the counts are those of then."""
    offered: int
    accepted: int
    dead: int
    duplicate: int
    reasons: dict[str, int] = field(default_factory=dict)
    """Reason code to number of dead rows."""
    corrections: int = 0
    retractions: int = 0
    cancellations: int = 0
    seq: int | None = None
    """Place in the journal."""
    fault: str | None = None
    """Why the whole file was refused, in words."""


@dataclass(frozen=True)
class IngestReport:
    """One look at a folder: verdicts in the order of ingestion, and the names of files that were left alone."""

    files: tuple[FileVerdict, ...]
    unmatched: tuple[str, ...] = ()
    """Names that no feed's globs match."""
    unsettled: tuple[str, ...] = ()
    """Names that changed or went away while they were read; the next look takes what is there."""

    def total(self, count: str) -> int:
        """Sum of one count (`offered`, `accepted`, ...) over the files that were new."""
        return sum(int(getattr(verdict, count)) for verdict in self.files if verdict.status != "known")


def verdict_of(record: JournalRecord, *, is_known: bool = False) -> FileVerdict:
    """The verdict a journal record of a file, or of a settled batch of events, holds."""
    data = cast(dict[str, Any], record.data)
    status: FileStatus = "accepted" if record.type in PART_BEARING else "dead"
    is_settled = record.type == EVENTS_SETTLED
    return FileVerdict(
        feed_id=record.subject if is_settled else record.source,
        file=f"events {data['from_seq']}-{data['to_seq']}" if is_settled else record.subject,
        status="known" if is_known else status,
        seq=record.seq,
        fault=data.get("fault"),
        **{name: data[name] for name in ("offered", "accepted", "dead", "duplicate", "reasons")},
        **{name: data.get(name, 0) for name in ("corrections", "retractions", "cancellations")},
    )
