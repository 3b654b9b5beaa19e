"""Whether the list of identities is that of the log: it alone keeps an event from being taken twice."""

from __future__ import annotations

from collections.abc import Iterator

from replenish.errors import DamagedLog
from replenish.stores.journal_identity import FIND_SEQ, Select
from replenish.stores.journal_runs import COUNTS, row_at

_PAGE = 500
_NOT_LISTED = (
    # `cross join` keeps the order of the log; of a run only its ids are read.
    "select r.seq from (select r.seq as seq, r.source as source, r.id as id from records r where r.seq > ?1) r"
    " left join sources s on s.name = r.source left join identities i on i.source_nr = s.nr and i.id = r.id"
    " where i.seq is not r.seq limit ?2",
    "select r.first_seq + e.key from event_runs r cross join json_each(cast(r.ids as text)) e"
    " left join sources s on s.name = r.source left join identities i on i.source_nr = s.nr and i.id = e.value"
    " where r.last_seq > ?1 and r.first_seq + e.key > ?1 and i.seq is not r.first_seq + e.key limit ?2",
)


def verify_identities(select: Select) -> int:
    """Look up every record by its source and id; how many there are.

    Two records of one identity are possible where the list was damaged once: it then leads to the first.

    Raises:
        DamagedLog: A record is not found, or another one is; or the list has identities of no record.
    """
    n_repeated = sum(_is_repeated(select, seq) for query in _NOT_LISTED for seq in _suspects(select, query))
    n_identities, n_records = select(COUNTS, ())[0]
    if n_identities + n_repeated != n_records:
        words = f"{n_identities} identities stand for {n_records} records, {n_repeated} of them with another's"
        raise DamagedLog(words)
    return int(n_records)


def _suspects(select: Select, query: str) -> Iterator[int]:
    after = 0
    while page := select(query, (after, _PAGE)):
        after = max(seq for (seq,) in page)
        yield from (seq for (seq,) in page)


def _is_repeated(select: Select, seq: int) -> bool:
    """Whether the record has the identity of an earlier one; False where it is found by its own after all, since SQLite
    reads some escaped ids otherwise.
    """
    row = row_at(select, seq)
    if row is None:
        raise DamagedLog(f"record {seq} is missing", seq=seq)
    places = select(FIND_SEQ, (row.source, row.id))
    if places == [(seq,)]:
        return False
    first = row_at(select, places[0][0]) if places and places[0][0] < seq else None
    if first is None or (first.source, first.id) != (row.source, row.id):
        raise DamagedLog(f"the list of identities does not lead to record {seq}", seq=seq)
    return True
