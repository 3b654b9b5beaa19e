"""A second region, small: the log of one root is shipped to another, which can be promoted and then stands alone.

The standby is a root like any other whose journal takes nothing but shipped ranges. Ranges follow one another without
a gap, every record and every file is verified on arrival, and what is there already is never written again. Promotion
raises the fence first: from then on the old primary's writers stop.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from replenish.errors import DamagedLog, Fenced, StoreError
from replenish.stores.failpoints import failpoint
from replenish.stores.fence import Fence, fence_of
from replenish.stores.journal import STATUS_BY_TYPE, Journal, set_letter_status
from replenish.stores.journal_chain import fault_of_row
from replenish.stores.journal_entry import EPOCH_STARTED, JournalRecord
from replenish.stores.journal_events import INSERT_LETTER
from replenish.stores.journal_identity import insert_record_row
from replenish.stores.journal_reader import JournalReader
from replenish.stores.layout import RootLayout
from replenish.stores.locks import hold
from replenish.stores.segments import SealedEntry, log_entries
from replenish.stores.shipped_files import ship_files, ship_settings

RANGE_RECORDS = 5_000
MAX_LAG_SECONDS = 300.0
"""A standby further behind than this is an alarm."""
_STANDBY, _PROMOTED = "standby", "promoted_epoch"


class ShippedRange(NamedTuple):
    """What one call shipped: records first .. last (last < first where there was nothing new) and their files."""

    first_seq: int
    last_seq: int
    n_files: int


class StandbyState(NamedTuple):
    """How far a standby is. Lags are None where the primary cannot be reached."""

    last_seq: int
    epoch: int
    is_standby: bool
    """False once promoted."""
    shipped_at: datetime | None
    last_range: str | None
    lag_events: int | None
    lag_seconds: float | None
    """Age of the oldest record that was not shipped; 0 when all are."""


class StandbyPromotion(NamedTuple):
    """The epoch a standby started, where its log stood, and how many records it still took from the old primary."""

    epoch: int
    last_seq: int
    n_caught_up: int
    is_new: bool


def ship(primary: RootLayout, standby: RootLayout, *, now: datetime, max_records: int = RANGE_RECORDS) -> ShippedRange:
    """Bring the standby up to the primary's log, range by range; a second call ships nothing.

    Args:
        primary: Read only.
        standby: Made where there is none.
        max_records: Records of one range and transaction.

    Raises:
        DamagedLog: A gap, an altered record or file, or the two roots hold different logs; the range is not taken.
        Fenced: The target was promoted, or has seen a later epoch than the primary's.
        StoreError: Both are one root, or the primary has no log.
        AlreadyRunning: Another process ships there.
    """
    if primary.root.resolve() == standby.root.resolve():
        raise StoreError("a root cannot be its own standby: name another folder", root=primary.root)
    _require_log(primary)
    with hold(standby.locks / "ship.lock", "ship the log to this standby"):
        reader, journal = JournalReader(primary.journal), open_standby(standby)
        try:
            ship_settings(primary, standby)
            return _ship_all(reader, primary, journal, standby, now, max_records)
        finally:
            reader.close()
            journal.close()


def _require_log(layout: RootLayout) -> None:
    # Opening a journal makes one: a mistyped folder would become a root.
    if not layout.journal.is_file():
        raise StoreError("there is no log here", root=layout.root)


def open_standby(standby: RootLayout) -> Journal:
    """The standby's journal, ready to take ranges; an empty root becomes a standby.

    Raises:
        Fenced: The root holds a log of its own, or was promoted.
    """
    journal = Journal(standby.journal)
    if journal.meta(_STANDBY) is None:
        if journal.last_seq() or journal.meta(_PROMOTED):
            journal.close()
            raise Fenced("this root is no standby: it writes a log of its own", root=standby.root)
        journal.set_meta(_STANDBY, "yes")
    return journal


def receive(journal: Journal, entries: Sequence[SealedEntry], now: datetime) -> int:
    """Append a range to a standby's journal in one transaction; how many of its records were new.

    Raises:
        DamagedLog: The range leaves a gap, does not verify, or contradicts what is there; nothing is appended.
        Fenced: The range is of an older epoch than what is there.
    """
    n_new = 0
    with journal.transaction(as_standby=True) as tail:
        seq, chain, _ = tail
        epoch = journal.head().epoch
        for row, letters in entries:
            if row.seq <= tail.seq:
                if journal.chain_at(row.seq) != row.chain:
                    raise DamagedLog("the shipped range is of another log than this standby's", seq=row.seq)
                continue
            fault = fault_of_row(row, letters, chain, seq + 1)
            if fault is None and row.data is None:
                fault = f"record {row.seq} came without its body"
            if fault is not None:
                raise DamagedLog(f"the shipped range is refused: {fault}", seq=seq + 1)
            if row.epoch < epoch:
                raise Fenced("the shipped range is of an older epoch", epoch=row.epoch, own_epoch=epoch)
            insert_record_row(journal.connection, row)
            journal.connection.executemany(INSERT_LETTER, [(*letter, row.time, row.time) for letter in letters])
            if row.type in STATUS_BY_TYPE:
                nrs = json.loads(row.data or b"")["nrs"]
                set_letter_status(journal.connection, nrs, STATUS_BY_TYPE[row.type], row.time)
            seq, chain, epoch, n_new = row.seq, row.chain, row.epoch, n_new + 1
        if n_new:
            journal.set_meta("last_range", f"{tail.seq + 1}-{seq}")
        journal.set_meta("shipped_at", now.isoformat())
    return n_new


def read_standby(standby: RootLayout, primary: RootLayout | None, *, now: datetime) -> StandbyState:
    """How far the standby is behind; without a primary only what it knows itself.

    Raises:
        StoreError: There is no log at the standby's root.
    """
    there = JournalReader(standby.journal)
    head, shipped_at = there.head(), there.meta("shipped_at")
    lag_events, lag_seconds = None, None
    if primary is not None and primary.journal.is_file():
        here = JournalReader(primary.journal)
        lag_events = max(0, here.last_seq() - head.seq)
        oldest = next(here.records(head.seq, up_to_seq=head.seq + 1), None)
        lag_seconds = 0.0 if oldest is None else max(0.0, (now - oldest.time).total_seconds())
        here.close()
    is_standby, last_range = there.meta(_STANDBY) is not None, there.meta("last_range")
    there.close()
    instant = None if shipped_at is None else datetime.fromisoformat(shipped_at)
    return StandbyState(head.seq, head.epoch, is_standby, instant, last_range, lag_events, lag_seconds)


def promote(
    standby: RootLayout, primary: RootLayout | None, *, now: datetime, is_forced: bool = False
) -> StandbyPromotion:
    """Make the standby the primary: fence the old one off, take what it still has, start a new epoch.

    Doing it again changes nothing; an interrupted promotion is finished by the next call.

    Args:
        primary: The old primary's root where it can be reached: its own fence is raised and its last records are
            taken. Else the shared fence (`REPLENISH_FENCE`) is all that stops it.
        is_forced: Promote although another root was promoted in a later epoch than this standby has seen, or the old
            primary's log is damaged; what those two took meanwhile is not here.

    Raises:
        Fenced: Another root was promoted first.
        DamagedLog: The old primary's log cannot be read to its end; it is fenced, this one is a standby still.
        StoreError: The root is no standby.
    """
    _require_log(standby)
    with hold(standby.locks / "ship.lock", "promote this standby"):
        journal = Journal(standby.journal)
        try:
            return _promote(journal, standby, primary, now, is_forced=is_forced)
        finally:
            journal.close()


def _promote(
    journal: Journal, standby: RootLayout, primary: RootLayout | None, now: datetime, *, is_forced: bool
) -> StandbyPromotion:
    done = journal.meta(_PROMOTED)
    if journal.meta(_STANDBY) is None:
        if done is None:
            raise StoreError("this root is no standby: nothing was ever shipped to it", root=standby.root)
        return StandbyPromotion(int(done), journal.last_seq(), 0, is_new=False)
    is_reachable = primary is not None and primary.journal.is_file()
    theirs = (primary.fence,) if primary is not None and is_reachable else ()
    own = fence_of(standby.root)
    fence = Fence(*theirs, *reversed(own.paths), must_exist=own.must_exist)
    token, before = fence.token, journal.head().epoch
    is_ours = token.owner == journal.journal_id
    if token.epoch > before and not is_ours and not is_forced:
        raise Fenced("another root was promoted first: ship from it, or force", epoch=token.epoch, own_epoch=before)
    epoch = token.epoch if is_ours else max(token.epoch, before) + 1
    fence.raise_to(epoch, journal.journal_id)
    failpoint("promote.fenced")
    n_caught_up = 0
    if primary is not None and is_reachable:
        try:
            n_caught_up = _catch_up(journal, standby, primary, now)
        except DamagedLog as damage:
            if not is_forced:
                words = f"what the old primary still has cannot be taken ({damage}); force to promote without it"
                raise DamagedLog(words, primary=primary.root) from damage
    data: dict[str, object] = {"epoch": epoch, "before": before}
    started = JournalRecord("replenish", f"epoch-{epoch}", EPOCH_STARTED, "log", now, "epoch@1", data)
    with journal.transaction(as_standby=True) as tail:
        seq = journal.insert_record(started, (), tail._replace(epoch=epoch))
        journal.connection.execute("delete from meta where name = ?", (_STANDBY,))
        journal.set_meta(_PROMOTED, str(epoch))
    failpoint("promote.started")
    return StandbyPromotion(epoch, seq, n_caught_up, is_new=True)


def _catch_up(journal: Journal, standby: RootLayout, primary: RootLayout, now: datetime) -> int:
    """Ship what the fenced primary committed last; how many records that were."""
    old = Journal(primary.journal)
    # A writer that passed the fence before it was raised holds the write lock until it has committed.
    old.connection.execute("begin immediate")
    old.connection.execute("rollback")
    shipped = _ship_all(old, primary, journal, standby, now, RANGE_RECORDS)
    old.close()
    return shipped.last_seq - shipped.first_seq + 1


def _ship_all(
    reader: JournalReader, primary: RootLayout, journal: Journal, standby: RootLayout, now: datetime, max_records: int
) -> ShippedRange:
    head = journal.head()
    chain = reader.chain_at(head.seq)
    if chain is None or chain.hex() != head.chain:
        raise DamagedLog("the standby's log is not the beginning of the primary's", seq=head.seq, standby=standby.root)
    token = fence_of(standby.root).token
    if token.epoch > reader.head().epoch and token.owner != journal.journal_id:
        raise Fenced("another root was promoted: ship from that one", epoch=token.epoch)
    after, n_files = head.seq, 0
    entries = log_entries(reader, primary, after, reader.last_seq())
    while batch := list(islice(entries, max_records)):
        n_files += ship_files([entry.row for entry in batch], primary, standby)
        failpoint("ship.sent")
        receive(journal, batch, now)
        failpoint("ship.appended")
        after = batch[-1].row.seq
    return ShippedRange(head.seq + 1, after, n_files)
