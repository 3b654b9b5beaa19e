"""`replenish standby` and `replenish seal`: what they print, and when they are an alarm."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from replenish.cli.main import app
from replenish.stores.journal import Journal
from tests.unit.stores.log_entries_for_tests import NOW, event, root


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setenv("REPLENISH_ROOT", str(tmp_path / "here"))
    journal = root(tmp_path / "here")[1]
    journal.append_events([event("a"), event("b")], now=NOW)
    return journal


def run(*command: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(command))
    return done.exit_code, " ".join(done.output.split())


def test_ship_status_promote(journal: Journal, tmp_path: Path) -> None:
    to = ("--to", str(tmp_path / "there"))
    assert run("standby", "ship", *to) == (0, "shipped records 1 to 2, 0 files")
    code, text = run("standby", "status", *to)
    assert (code, "behind by 0 records, 0 s" in text) == (0, True)
    # It was journalled long ago and is not there: an alarm.
    journal.append_events([event("c")], now=NOW)
    code, text = run("standby", "status", *to)
    assert (code, "behind by 1 records" in text, "alarm" in text) == (1, True, True)
    code, text = run("standby", "promote", *to)
    assert (code, "promoted: epoch 2 from record 4 1 records were still taken" in text) == (0, True)
    code, text = run("standby", "promote", *to)
    assert (code, "was promoted before" in text) == (0, True)
    assert "promoted: a primary, epoch 2, last record 4" in run("standby", "status", *to)[1]


def test_seal_says_what_it_sealed_and_trimmed(journal: Journal) -> None:
    code, text = run("seal")
    assert (code, "2 records are not sealed yet; a segment takes at least 10,000" in text) == (0, True)
    code, text = run("seal", "--min-records", "1")
    assert (code, "sealed records 1 to 2 0 records are not sealed yet" in text) == (0, True)
    assert "trimmed 0 event bodies older than 30 days" in text
