"""What a check of the stores can find, what each kind means, and what is done about it.

A finding says what is on the disk. Its kind says in plain words what that means; its remedy what may be done without
a person. Nothing here is ever deleted: what is bad is renamed into the quarantine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Remedy = Literal["set_aside", "rebuild", "replay", "rederive", "reseal", "restore", "person"]
"""set_aside: rename the file away, the rest is whole. rebuild: make the table anew from the log. replay: let the log
bring the table up to date. rederive: make accepted parts anew from the archive. reseal: write the segment anew from
the journal. restore: make the journal anew from segments, standby and what can still be read. person: no copy is left
that we know of."""

KINDS: dict[str, str] = {
    "empty_commit": "a commit of the table is an empty file: the write was cut off by a power loss or a full disk; "
    "readers would silently miss its rows",
    "torn_commit": "a commit of the table is not whole: readers refuse the entire table",
    "altered_commit": "a commit of the table is not what was written: rows may have come or gone",
    "commit_gap": "commits of the table are missing in the middle: no reader can put it together",
    "lost_commits": "commits that were on disk are gone: the table silently shows an older state",
    "bad_checkpoint": "a checkpoint (summary of old commits) is damaged: readers refuse the table without trying the "
    "commits themselves",
    "bad_pointer": "the note that names the newest checkpoint names one that is not there",
    "unreadable_table": "the table cannot be opened at all",
    "missing_file": "a data file that the table needs is gone: reading fails, writing does not notice",
    "wrong_size": "a data file has not the size it was written with",
    "altered_file": "the bytes of a data file changed since they were written: values may be wrong without any error",
    "rows_differ": "the table does not hold the rows that the log accepted",
    "journal_behind_tables": "the log lost its newest entries: the table has rows of them, and may be all that is left",
    "content_differs": "the table holds as many rows as the log accepted, but other values",
    "ledger_differs": "the silver table is not what its bronze rows give",
    "journal_missing": "the journal is gone although sealed segments or tables show that there was one",
    "journal_unreadable": "the journal is no database any more, or a truncated one",
    "journal_pages": "pages of the journal contradict each other: bytes of the file changed",
    "journal_gap": "entries are missing in the middle of the journal",
    "journal_chain": "an entry of the journal is not the one that was written: the chain of hashes breaks",
    "journal_epoch": "an older writer wrote behind a newer one",
    "journal_identities": "the journal's list of who is in it is not that of its entries: an event that is sent again "
    "could be taken twice, or a new one for a known one",
    "journal_behind": "the journal lacks entries that were acknowledged and sealed: an older copy of it was put back, "
    "and what it takes would bear their places",
    "segment_missing": "a sealed part of the log is gone",
    "segment_altered": "a sealed part of the log is not what was sealed",
    "segment_forked": "a sealed part of the log and the journal hold different entries of the same places: an older "
    "copy of the journal was put back and written to, and both were acknowledged",
    "archive_missing": "an offered file that the log names is not in the archive any more",
    "archive_altered": "an archived file is not what was offered: its content does not match its name",
    "part_missing": "a file of accepted rows that the log names is gone",
    "part_altered": "a file of accepted rows is not what was written",
}
"""Every kind of finding and what it means to a person who does not know the stores."""

IS_UNSAFE_TO_START = frozenset(kind for kind in KINDS if kind.startswith("journal_"))
"""Kinds with which nothing may be acknowledged: a door must not start."""


@dataclass(frozen=True)
class Finding:
    """One thing found. `subject`: the table (`silver/sales`) or the store; `path`: the file or folder concerned."""

    kind: str
    subject: str
    detail: str
    remedy: Remedy
    path: Path | None = None
    seqs: tuple[int, int] | None = None
    """First and last place in the log concerned, both inclusive."""

    def __post_init__(self) -> None:
        """Refuse a kind that no text explains."""
        if self.kind not in KINDS:
            raise KeyError(self.kind)

    @property
    def meaning(self) -> str:
        """What it means, in plain words."""
        return KINDS[self.kind]


@dataclass(frozen=True)
class Treatment:
    """A finding and what became of it. `advice` is empty where nobody has to do anything."""

    finding: Finding
    is_mended: bool
    done: str
    advice: str = ""

    def as_json(self) -> dict[str, object]:
        """As one JSON object."""
        found = self.finding
        return {
            "kind": found.kind,
            "subject": found.subject,
            "detail": found.detail,
            "meaning": found.meaning,
            "remedy": found.remedy,
            "path": None if found.path is None else str(found.path),
            "seqs": None if found.seqs is None else list(found.seqs),
            "mended": self.is_mended,
            "done": self.done,
            "advice": self.advice,
        }
