"""The replication slot: our position in the source's log, kept by the source; how far behind it is; how it moves on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from replenish.errors import SourceFault
from replenish.ingest.cdc.pgoutput import Begin, PgoutputDecoder, lsn_text

SESSION_OPTIONS = (
    "-c datestyle=ISO -c intervalstyle=postgres -c timezone=UTC -c bytea_output=hex -c extra_float_digits=1 "
    "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0"
)
"""Values arrive as text: in every session, snapshot and stream alike, the same text for the same value."""
ADVANCE_ATTEMPTS = 40
ADVANCE_PAUSE_SECONDS = 0.25
"""Another session may look at the slot for a moment, and PostgreSQL lets only one hold it: ten seconds in all."""
_SLOT = """
select slot_name, plugin, database, active_pid, wal_status, confirmed_flush_lsn::text,
       pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint,
       pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint
from pg_replication_slots where slot_name = %s and not temporary
"""


@dataclass(frozen=True)
class ReplicationSlot:
    """What the source says about the slot."""

    plugin: str
    database: str
    active_pid: int | None
    wal_status: str | None
    """`reserved`, `extended`, `unreserved`, or `lost`: the source threw away what we had not read."""
    confirmed_lsn: str | None
    unread_bytes: int | None
    kept_bytes: int | None

    @property
    def is_lost(self) -> bool:
        """Whether changes were thrown away before they were read."""
        return self.wal_status == "lost" or self.confirmed_lsn is None


@dataclass(frozen=True)
class SlotLag:
    """How far behind the source's log a slot is."""

    slot: str
    exists: bool
    lag_bytes: int
    """Written by the source and not yet acknowledged by us; changes of other tables count."""
    kept_bytes: int
    """Log files that the source keeps on its disk for this slot."""
    lag_seconds: float
    """Since the oldest unread change of a followed table; 0 where there is none."""
    wal_status: str | None

    @property
    def is_lost(self) -> bool:
        """Whether the source threw away changes that were not read."""
        return self.wal_status == "lost"

    def alarm(self, max_lag_bytes: int) -> str | None:
        """What is wrong, in words; None where nothing is."""
        if not self.exists:
            return f"the source has no replication slot {self.slot}: start `replenish follow postgres`, which makes it"
        if self.is_lost:
            return (
                f"the source threw away changes that slot {self.slot} had not read: drop the slot and follow again; "
                "a new snapshot then finds what changed meanwhile"
            )
        if self.lag_bytes > max_lag_bytes:
            return (
                f"slot {self.slot} is {self.lag_bytes:,} bytes behind (limit {max_lag_bytes:,}), and the source keeps "
                f"{self.kept_bytes:,} bytes of its log for it: is `replenish follow postgres` running?"
            )
        return None


def connect(dsn: str, *, is_replication: bool = False) -> psycopg.Connection:
    """A session of the source whose values read the same as in every other; each statement is its own transaction.

    Raises:
        SourceFault: The source cannot be reached.
    """
    options: dict[str, str] = {"options": SESSION_OPTIONS, "client_encoding": "UTF8", "application_name": "replenish"}
    if is_replication:
        options |= {"replication": "database"}
    try:
        return psycopg.connect(dsn, autocommit=True, connect_timeout=10, **options)  # type: ignore[arg-type]
    except psycopg.OperationalError as error:
        # Never the DSN: it holds a password.
        raise SourceFault(f"the source database cannot be reached: {_said(error)}", may_pass=True) from error


@contextmanager
def source_faults(slot: str) -> Iterator[None]:
    """Errors of the source inside the block as SourceFault: what may pass, and what a person has to mend."""
    try:
        yield
    except psycopg.errors.ObjectInUse as error:
        raise SourceFault("another session reads this slot", slot=slot, may_pass=True) from error
    except psycopg.OperationalError as error:
        raise SourceFault(f"the source database went away: {_said(error)}", may_pass=True) from error
    except psycopg.Error as error:
        raise SourceFault(f"the source database refuses: {_said(error)}", slot=slot) from error


def _said(error: psycopg.Error) -> str:
    return " ".join(str(error).split())[:300]


def slot_state(connection: psycopg.Connection, slot: str) -> ReplicationSlot | None:
    """The slot as the source sees it; None where there is none."""
    row = connection.execute(_SLOT, (slot,)).fetchone()
    if row is None:
        return None
    _, plugin, database, pid, status, confirmed, unread, kept = row
    return ReplicationSlot(str(plugin), str(database), pid, status, confirmed, unread, kept)


def slot_lag(dsn: str, slot: str, publication: str | None = None, *, now: datetime | None = None) -> SlotLag:
    """How far behind the slot is; with a publication and `now` also since when, read from the oldest unread commit.

    Raises:
        SourceFault: The source cannot be reached.
    """
    with connect(dsn) as connection:
        return lag_seen_by(connection, slot, publication, now=now)


def lag_seen_by(
    connection: psycopg.Connection, slot: str, publication: str | None = None, *, now: datetime | None = None
) -> SlotLag:
    """`slot_lag` through a session that is there already."""
    state = slot_state(connection, slot)
    if state is None:
        return SlotLag(slot, False, 0, 0, 0.0, None)
    seconds = 0.0
    if publication is not None and now is not None and not state.is_lost and state.active_pid is None:
        seconds = _oldest_unread_seconds(connection, slot, publication, now)
    status = "lost" if state.is_lost else state.wal_status
    return SlotLag(slot, True, state.unread_bytes or 0, state.kept_bytes or 0, seconds, status)


def _oldest_unread_seconds(connection: psycopg.Connection, slot: str, publication: str, now: datetime) -> float:
    decoder = PgoutputDecoder()
    with connection.cursor(binary=True) as cursor:
        try:
            cursor.execute(PEEK, (slot, 1, sql.Identifier(publication).as_string(connection)))
        except (psycopg.errors.ObjectInUse, psycopg.errors.ObjectNotInPrerequisiteState):
            # The follower is reading just now, so it is not stuck.
            return 0.0
        for (data,) in cursor:
            message = decoder.decode(data)
            if isinstance(message, Begin):
                return max(0.0, (now - message.commit_time).total_seconds())
    return 0.0


MAX_NAME = 63
_SUFFIX_ROOM = 20
PEEK = (
    "select data from pg_logical_slot_peek_binary_changes(%s, null, %s, 'proto_version', '1', 'publication_names', %s)"
)
"""Reads without moving on; whole transactions, and stops behind the one that reaches the number of changes."""
READ = PEEK.replace("peek", "get")
"""Likewise, and moves on."""


def temporary_name(slot: str, purpose: str, pid: int) -> str:
    """Name of a slot beside `slot` that lives as long as session `pid`."""
    return f"{slot[: MAX_NAME - _SUFFIX_ROOM]}_{purpose}_{pid}"


def make_reading_slot(connection: psycopg.Connection, slot: str) -> str:
    """A copy of the slot for this session, gone with it: to read on before what was read is durable.

    Raises:
        SourceFault: The source makes no more slots.
    """
    name = temporary_name(slot, "read", connection.info.backend_pid)
    try:
        connection.execute("select pg_copy_logical_replication_slot(%s, %s, true)", (slot, name))
    except (psycopg.errors.ConfigurationLimitExceeded, psycopg.errors.InsufficientPrivilege) as error:
        said = f"the source makes no second, temporary slot to read with: {_said(error)}"
        raise SourceFault(said, slot=slot, may_pass=True) from error
    return name


def advance(connection: psycopg.Connection, slot: str, lsn: int, pause: Callable[[float], object]) -> None:
    """Move the slot to `lsn`: what lies before is never read again.

    Raises:
        SourceFault: Another session held the slot for longer than we wait.
    """
    for _ in range(ADVANCE_ATTEMPTS):
        try:
            connection.execute("select pg_replication_slot_advance(%s, %s::pg_lsn)", (slot, lsn_text(lsn)))
        except psycopg.errors.ObjectInUse:
            pause(ADVANCE_PAUSE_SECONDS)
        else:
            return
    raise SourceFault(
        "another session holds the replication slot: is a second follower running?", slot=slot, may_pass=True
    )
