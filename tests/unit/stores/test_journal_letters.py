"""Letters of a journal: the newest of them without the others."""

from datetime import UTC, datetime
from pathlib import Path

from replenish.stores.journal import Journal
from replenish.stores.journal_entry import FILE_ACCEPTED, DeadLetter, JournalRecord

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)


def test_the_newest_letters_are_read_alone_and_come_oldest_first(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    letters = [DeadLetter("till", "x.csv", nr, "not_a_number", "units", None, "{}") for nr in range(20)]
    journal.append(JournalRecord("till", "x", FILE_ACCEPTED, "x.csv", NOW, "sales@1.0.0", {"parts": []}), letters)
    newest = journal.newest_letters(3, status="open")
    assert [letter.row_nr for letter in newest] == [17, 18, 19]
    assert newest == journal.dead_letters(status="open")[-3:]
    assert journal.newest_letters(3, status="redriven") == []
