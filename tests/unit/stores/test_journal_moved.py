"""A journal whose file is not what it was: set aside under a running process, or an older copy put back."""

from pathlib import Path

import pytest

from replenish.errors import DamagedLog, WriterFailed
from replenish.stores.journal import Journal
from tests.unit.stores.log_entries_for_tests import NOW, event, root


def test_a_journal_that_was_replaced_is_written_no_more(tmp_path: Path) -> None:
    layout, journal = root(tmp_path)
    journal.append_events([event("1")], now=NOW)
    layout.journal.rename(tmp_path / "set-aside.sqlite")
    other = Journal(layout.journal)
    for _ in range(2):
        with pytest.raises(WriterFailed, match="replaced"):
            journal.append_events([event("2")], now=NOW)
    assert other.append_events([event("2")], now=NOW)[0].outcome == "accepted"


def test_a_journal_that_is_replaced_between_two_tries_is_written_no_more(tmp_path: Path) -> None:
    layout, journal = root(tmp_path)
    journal.append_events([event("1")], now=NOW)
    n_begun = 0

    def look(_: object, statement: str, __: object) -> bool:
        nonlocal n_begun
        n_begun += statement == "begin immediate"
        if n_begun == 2 and layout.journal.exists():
            layout.journal.rename(tmp_path / "set-aside.sqlite")
        return True

    journal.connection.exec_trace = look
    with pytest.raises(WriterFailed, match="replaced"):
        journal.append_events([event("1"), event("2")], now=NOW)
    assert journal.connection.execute("select id from records").fetchall() == [("1",)]


def test_an_older_copy_beside_newer_segments_is_not_opened(tmp_path: Path) -> None:
    layout, journal = root(tmp_path)
    journal.append_events([event("1")], now=NOW)
    journal.close()
    (layout.segments).mkdir()
    (layout.segments / "000000000001-000000000002.manifest.json").write_text("{}")
    with pytest.raises(DamagedLog, match="sealed segments"):
        Journal(layout.journal)
