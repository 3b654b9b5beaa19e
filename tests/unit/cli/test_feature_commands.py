"""`replenish features`: the table, the check, the records and the catalogue, on a folder of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from replenish.cli.main import app
from replenish.errors import ContractError
from replenish.features.definitions.reader import FEATURE_FOLDER


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The platform's definitions and records, and a page beside them, to be changed."""
    kept = Path(shutil.copytree(FEATURE_FOLDER, tmp_path / "features"))
    assert run("catalogue", kept).exit_code == 0
    return kept


def run(command: str, folder: Path, *words: str) -> Result:
    page = [] if command in ("list", "record") else ["--page", str(folder.parent / "page.md")]
    return CliRunner().invoke(app, ["features", command, *words, "--folder", str(folder), *page])


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "stock_now.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_list_shows_every_feature_of_the_named_sets(folder: Path) -> None:
    done = run("list", folder, "stock_now")
    assert done.exit_code == 0
    for word in ("stock_now 1.0.0: 5 features, clock instant", "fresh_on_hand_units", "internal", "store_data"):
        assert word in done.output
    assert "demand_daily" not in done.output
    assert "demand_daily" in run("list", folder).output


def test_an_unknown_set_names_the_known_ones(folder: Path) -> None:
    done = run("list", folder, "nothing")
    assert isinstance(done.exception, ContractError)
    assert "no feature set 'nothing'; known: demand_daily, stock_now" in str(done.exception)


def test_check_passes_as_committed(folder: Path) -> None:
    done = run("check", folder)
    assert done.exit_code == 0
    assert done.output.splitlines() == ["ok demand_daily@1.1.0", "ok stock_now@1.0.0", "ok page.md is current"]


def test_check_refuses_a_changed_meaning_until_it_has_a_new_recorded_version(folder: Path) -> None:
    edit(folder, "time_to_live_days: 3", "time_to_live_days: 4")
    done = run("check", folder)
    assert done.exit_code == 1
    assert "refused stock_now@1.0.0 differs from the recorded version of its number" in done.output
    assert "features.fresh_on_hand_units.time_to_live_days" in done.output
    assert "refused page.md is stale: `replenish features catalogue`" in done.output
    edit(folder, "version: 1.0.0", "version: 1.1.0")
    assert "refused stock_now@1.1.0 is not recorded: `replenish features record`" in run("check", folder).output
    assert "stock_now: recorded as stock_now@1.1.0.json" in run("record", folder).output
    assert run("catalogue", folder).exit_code == 0
    assert run("check", folder).exit_code == 0


def test_record_says_what_is_recorded_already(folder: Path) -> None:
    assert run("record", folder, "stock_now").output == "stock_now: is recorded\n"


def test_a_changed_word_makes_only_the_page_stale(folder: Path) -> None:
    edit(folder, "Price that holds now.", "The price in force.")
    done = run("check", folder)
    assert done.exit_code == 1
    assert "ok stock_now@1.0.0" in done.output
    assert "page.md is stale" in done.output
