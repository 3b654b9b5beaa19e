"""Writers in several processes: the WAL stays short, whoever reads or writes meanwhile."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import apsw
import pytest

from replenish.stores import journal_turns
from replenish.stores.journal import Journal
from tests.unit.stores.log_entries_for_tests import NOW, event

PAGE_BYTES = 4096


def fill(journal: Journal, name: str, n: int) -> None:
    for nr in range(n):
        body = {"x": hashlib.shake_128(b"%d" % nr).hexdigest(2_000)}
        journal.append_events([event(f"{name}/{nr}/{k}", body) for k in range(20)], now=NOW)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(journal_turns, "CHECKPOINT_PAGES", 100)
    monkeypatch.setattr(journal_turns, "MOST_WAL_PAGES", 200)
    return tmp_path / "journal.sqlite"


def test_the_wal_stays_short_while_two_write_all_the_time(path: Path) -> None:
    journals = [Journal(path), Journal(path)]
    threads = [threading.Thread(target=fill, args=(each, f"{nr}", 60)) for nr, each in enumerate(journals)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # 120 commits of some 25 pages each.
    assert path.with_name(f"{path.name}-wal").stat().st_size < 1_000 * PAGE_BYTES
    assert journals[0].verify_chain() == 2_400
    for each in journals:
        each.close()


def test_a_long_reader_holds_the_wal_and_not_the_writers(path: Path) -> None:
    journal = Journal(path)
    fill(journal, "a", 1)
    reader = apsw.Connection(str(path))
    reader.execute("begin; select count(*) from records").fetchall()
    started = time.monotonic()
    fill(journal, "b", 40)
    assert time.monotonic() - started < 10
    reader.execute("commit")
    fill(journal, "c", 40)
    assert path.with_name(f"{path.name}-wal").stat().st_size < 2_500 * PAGE_BYTES
    assert journal.verify_chain() == 81 * 20
    journal.close()
