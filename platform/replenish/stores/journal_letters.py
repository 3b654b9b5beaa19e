"""What is asked of the dead letters of a journal: some of them, the newest, or only how many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Any

from replenish.stores.journal_entry import DeadLetter

_LETTER = (
    "select feed_id, file, row_nr, reason, field, rule, raw, nr, seq, status, first_seen, last_seen, attempts"
    " from dead_letters"
)
_WANTED = (
    " where (?1 is null or feed_id = ?1) and (?2 is null or seq = ?2) and (?3 is null or reason = ?3)"
    " and (?4 is null or status = ?4) order by nr"
)
_NEWEST = _LETTER + " where (?1 is null or status = ?1) order by nr desc limit ?2"


class LetterQueries(ABC):
    """The dead letters of a log, to read; how it is asked is the reader's."""

    @abstractmethod
    def _select(self, query: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""

    def dead_letters(
        self,
        feed_id: str | None = None,
        *,
        seq: int | None = None,
        reason: str | None = None,
        status: str | None = None,
        limit: int | None = None,
    ) -> list[DeadLetter]:
        """Dead letters, oldest first: of one feed, record, reason or status where given; at most `limit`."""
        wanted = (feed_id, seq, reason, status, -1 if limit is None else limit)
        return [letter_of(row) for row in self._select(_LETTER + _WANTED + " limit ?5", wanted)]

    def newest_letters(self, n: int, *, status: str | None = None) -> list[DeadLetter]:
        """The newest `n` dead letters (of one status, where given), oldest first; no other is read."""
        return [letter_of(row) for row in self._select(_NEWEST, (status, n))][::-1]

    def dead_letter(self, nr: int) -> DeadLetter | None:
        """The letter of this number, or None."""
        return next(map(letter_of, self._select(_LETTER + " where nr = ?", (nr,))), None)

    def count_dead_letters(self, status: str | None = None) -> dict[tuple[str, str], int]:
        """(feed, reason) to the number of dead letters (of one status, where given), without reading them."""
        rows = self._select(
            "select feed_id, reason, count(*) from dead_letters where (?1 is null or status = ?1)"
            " group by feed_id, reason order by feed_id, reason",
            (status,),
        )
        return {(feed_id, reason): count for feed_id, reason, count in rows}

    def count_new_letters(self, since: datetime) -> dict[str, int]:
        """Feed to the number of its open dead letters that were first seen at or after `since`."""
        query = "select feed_id, count(*) from dead_letters where status = 'open' and first_seen >= ? group by feed_id"
        return dict(self._select(query, (since.astimezone(UTC).isoformat(),)))


def letter_of(row: tuple[Any, ...]) -> DeadLetter:
    """A row of `dead_letters` as a letter."""
    *values, first, last, attempts = row
    return DeadLetter(*(*values, datetime.fromisoformat(first), datetime.fromisoformat(last), attempts))
