"""A journal is there whole or not at all, whenever the process that begins it dies."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from replenish.errors import StoreFull
from replenish.stores import journal_schema
from replenish.stores.doctor.journal_file import check_journal_file
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import JournalRecord

DIES = """
import os, signal, sys
from pathlib import Path
from replenish.errors import StoreFull
from replenish.stores import journal_schema, journal_tables
from replenish.stores.journal import Journal

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

place, path = sys.argv[1:]
if place == "tables":
    journal_schema.bring_up_tables = die
elif place == "in the tables":
    journal_tables._FILL_IDENTITIES = "select die();"
    whole = journal_tables.bring_up_tables
    def bring_up(connection):
        connection.create_scalar_function("die", die)
        whole(connection)
    journal_schema.bring_up_tables = bring_up
elif place == "named":
    journal_schema.os.link = die
Journal(Path(path))
"""


NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def _record(id: str) -> JournalRecord:
    return JournalRecord("files", id, "replenish.file.accepted", "s", NOW, "", {})


@pytest.mark.parametrize("place", ["tables", "in the tables", "named"])
def test_whoever_comes_after_a_death_begins_anew(tmp_path: Path, place: str) -> None:
    path = tmp_path / "journal.sqlite"
    ended = subprocess.run([sys.executable, "-c", DIES, place, str(path)], capture_output=True, text=True, check=False)
    assert ended.returncode == -9, ended.stderr
    assert not check_journal_file(path, is_expected=False, is_thorough=False)
    journal = Journal(path)
    journal.append(_record("a"))
    journal.close()
    assert not check_journal_file(path, is_expected=True, is_thorough=True)


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal_schema, "bring_up_tables", no_space)
    with pytest.raises(StoreFull):
        Journal(tmp_path / "journal.sqlite")
    assert not list(tmp_path.iterdir())


def test_many_begin_at_once_and_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"

    def append(nr: int) -> None:
        journal = Journal(path)
        journal.append(_record(f"r{nr}"))
        journal.close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(append, range(8)))
    assert {record.id for record in Journal(path).records()} == {f"r{nr}" for nr in range(8)}
    assert not list(tmp_path.glob(".*"))
