"""Failpoints: each is called where its name says, and a process that dies at one of the journal's loses nothing."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from replenish.stores.failpoints import FAILPOINTS
from replenish.stores.journal import Journal
from tests.architecture.source_tree import modules

APPEND = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EVENT_UPSERT, EventEntry
journal = Journal(Path(sys.argv[1]))
group = GroupCommit(journal, lambda: datetime(2025, 2, 4, tzinfo=UTC))
for name in "abc":
    entry = EventEntry("till", name, EVENT_UPSERT, "events.sales", "sales@1.0.0", b'{"a":1}')
    try:
        group.submit([entry]).result()
    except Exception as error:
        print("failed", name, type(error).__name__, flush=True)
    else:
        print("acked", name, flush=True)
group.close()
"""
JOURNAL_POINTS = [name for name in FAILPOINTS if name.startswith(("journal.", "group."))]


def run(path: Path, failpoint: str | None = None) -> tuple[int, dict[str, str]]:
    """Exit code, and event to what its submitter was told."""
    environment = {**os.environ, "REPLENISH_FAILPOINT_LOG": str(path.with_name("fired"))}
    environment |= {} if failpoint is None else {"REPLENISH_FAILPOINT": failpoint}
    done = subprocess.run(
        [sys.executable, "-c", APPEND, str(path)], env=environment, capture_output=True, text=True, timeout=60
    )
    told = [line.split() for line in done.stdout.splitlines()]
    return done.returncode, {words[1]: words[-1] if words[0] == "failed" else "acked" for words in told}


@pytest.mark.parametrize("name", JOURNAL_POINTS)
def test_a_kill_in_the_middle_of_an_append_loses_and_doubles_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / "journal.sqlite"
    code, told = run(path, f"{name}:kill:2")
    assert (code, told) == (-signal.SIGKILL, {"a": "acked"})
    assert (tmp_path / "fired").read_text().startswith(f"{name}:kill:2 ")
    journal = Journal(path)
    kept = [record.id for record in journal.records()]
    # Committed and unanswered may be there or not; acknowledged must.
    assert kept == (["a", "b"] if name in ("journal.after_commit", "group.before_ack") else ["a"])
    assert run(path) == (0, dict.fromkeys("abc", "acked"))
    assert [record.id for record in journal.records()] == ["a", "b", "c"]
    assert journal.check() == []


@pytest.mark.parametrize(
    ("action", "told"),
    [
        ("enospc", {"a": "acked", "b": "StoreFull", "c": "acked"}),
        ("eio", {"a": "acked", "b": "WriterFailed", "c": "WriterFailed"}),
        ("raise", {"a": "acked", "b": "InjectedFault", "c": "acked"}),
        ("delay", {"a": "acked", "b": "acked", "c": "acked"}),
    ],
)
def test_an_error_before_the_commit_takes_nothing(tmp_path: Path, action: str, told: dict[str, str]) -> None:
    path = tmp_path / "journal.sqlite"
    assert run(path, f"journal.before_commit:{action}:2")[1] == told
    journal = Journal(path)
    assert [record.id for record in journal.records()] == [name for name, word in told.items() if word == "acked"]
    assert journal.check() == []


@pytest.mark.parametrize("value", ["journal.before_bgin:kill:1", "journal.before_begin:explode:1", "x", "a:kill:one"])
def test_a_misspelt_failpoint_is_an_error_and_not_a_test_without_a_fault(tmp_path: Path, value: str) -> None:
    assert run(tmp_path / "journal.sqlite", value)[0] == 1


def calls() -> list[str]:
    found = []
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint":
                assert isinstance(node.args[0], ast.Constant), f"{module.name}: a failpoint's name is a literal"
                found.append(str(node.args[0].value))
    return found


def test_every_registered_failpoint_is_passed_somewhere_and_no_other() -> None:
    assert sorted(set(calls())) == sorted(FAILPOINTS)
    assert not [name for name, point in FAILPOINTS.items() if not point.doors or not point.what or point.name != name]
