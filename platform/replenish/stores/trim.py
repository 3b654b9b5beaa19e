"""Trimming: bodies of sealed and settled events leave the journal; identity, digests and chain stay.

So the same event offered again years later is still a duplicate, and the chain can still be verified. Whoever needs a
trimmed body finds it in its segment (`log_records`).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import cast

from replenish.digests import file_digest
from replenish.errors import DamagedLog
from replenish.stores.failpoints import failpoint
from replenish.stores.journal import Journal
from replenish.stores.journal_chain import canonical_digest
from replenish.stores.journal_entry import EVENT_DEAD, EVENTS_SETTLED
from replenish.stores.journal_runs import clear_bodies
from replenish.stores.layout import RootLayout
from replenish.stores.locks import hold
from replenish.stores.segments import Segment, sealed_segments

KEEP_DAYS = 30
TRIMMED_TO = "trimmed_to"
"""Name of the setting: the last place up to which whole segments are trimmed."""
_CLEAR = "update records set data = null, canonical_digest = ? where seq = ?"


def trim(journal: Journal, layout: RootLayout, *, now: datetime, keep_days: int = KEEP_DAYS) -> int:
    """Clear the bodies of events that are sealed, settled and older than `keep_days`; how many were cleared.

    Raises:
        DamagedLog: A segment is not what was sealed: nothing of its range is cleared.
        AlreadyRunning: Another process seals or trims.
    """
    with hold(layout.locks / "seal.lock", "trim the journal"):
        before = (now - timedelta(days=keep_days)).astimezone(UTC).isoformat()
        settled = _settled_to(journal)
        done = int(journal.meta(TRIMMED_TO) or 0)
        n_cleared = 0
        for segment in sealed_segments(layout.segments):
            if segment.last_seq > done:
                n_cleared += _trim_range(journal, segment, before, settled)
        return n_cleared


def _trim_range(journal: Journal, segment: Segment, before: str, settled: dict[str, int]) -> int:
    events = [e for e in journal.event_bodies(segment.first_seq - 1, segment.last_seq) if e.body is not None]
    may_go = [
        event
        for event in events
        if event.time < before and (event.type == EVENT_DEAD or event.seq <= settled.get(event.subject, 0))
    ]
    if may_go and (not segment.path.is_file() or file_digest(segment.path) != segment.sha256):
        raise DamagedLog("a sealed segment is gone or altered: its range stays in the journal", segment=segment.path)
    if may_go and (journal.chain_at(segment.last_seq) or b"").hex() != segment.head_chain:
        raise DamagedLog(
            "a sealed segment holds other entries than the journal: nothing of it is trimmed", segment=segment.path
        )
    follows = int(journal.meta(TRIMMED_TO) or 0) == segment.first_seq - 1
    with journal.transaction(as_standby=bool(journal.meta("standby"))):
        # Those in runs are not in `records`: both ways of keeping them are gone through.
        journal.connection.executemany(
            _CLEAR, ((canonical_digest(cast(bytes, event.body)), event.seq) for event in may_go)
        )
        for first, last in _spans([event.seq for event in may_go]):
            clear_bodies(journal.connection, first, last)
        if follows and len(may_go) == len(events):
            journal.set_meta(TRIMMED_TO, str(segment.last_seq))
        failpoint("trim.before_commit")
    failpoint("trim.after_commit")
    return len(may_go)


def _spans(seqs: list[int]) -> list[tuple[int, int]]:
    """Rising places as (first, last) of those without a gap between them."""
    groups = groupby(enumerate(seqs), key=lambda pair: pair[1] - pair[0])
    return [(places[0][1], places[-1][1]) for _, group in groups if (places := list(group))]


def _settled_to(journal: Journal) -> dict[str, int]:
    """Feed to the place up to which its events were settled."""
    settled: dict[str, int] = {}
    for record in journal.records(type=EVENTS_SETTLED):
        feed, to_seq = str(record.data.get("feed")), int(str(record.data.get("to_seq", 0)))
        settled[feed] = max(settled.get(feed, 0), to_seq)
    return settled
