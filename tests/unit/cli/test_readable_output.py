"""What a command says is what was meant, whatever brackets stand in names, ids and dead rows."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from rich.console import Console
from rich.table import Table

from replenish.cli import main
from replenish.cli.deployment import prepare_deployment
from replenish.cli.tables import file_table, frame_table
from replenish.errors import ContractError
from replenish.ingest.verdict import FileVerdict

BRACKETS = "[bold] a [/b] [link=x]"


def printed(table: Table) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_an_error_shows_the_ids_it_carries(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise ContractError("field is missing", policy="a.yaml:auto", field="[/x]")

    monkeypatch.setattr(main, "app", fail)
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 2
    assert "field is missing [policy=a.yaml:auto, field=[/x]]" in capsys.readouterr().err


def test_text_from_outside_is_never_markup() -> None:
    assert BRACKETS in printed(frame_table("t", pl.DataFrame({"raw": [BRACKETS]})))
    assert "x[1].csv" in printed(file_table([FileVerdict("f", "x[1].csv", "accepted", 1, 1, 0, 0)]))
    assert "a[/b].csv" in printed(file_table([FileVerdict("f", "a[/b].csv", "accepted", 1, 1, 0, 0)]))


def test_a_file_that_changed_at_equal_size_is_offered_again(tmp_path: Path) -> None:
    data, root = tmp_path / "data", tmp_path / "root"
    data.mkdir()
    (data / "dataset.yaml").write_text(
        "dataset_id: t\nstream: sales\nfiles: s.csv\n"
        "columns: {location_id: l, sold_at: t, sale_id: i, sku_id: s, units: u}\n"
    )
    for content in ("units 5", "units 6"):
        (data / "new").write_text(content)
        # Another file takes the name, as an export does that writes anew.
        (data / "new").replace(data / "s.csv")
        layout = prepare_deployment(root, data, feed=None, assume=None)
        assert (layout.drop / "s.csv").read_text() == content
        prepare_deployment(root, data, feed=None, assume=None)
        assert (layout.drop / "s.csv").read_text() == content
