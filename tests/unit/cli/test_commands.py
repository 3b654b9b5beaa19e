from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from replenish.cli.bench import BENCHES
from replenish.cli.main import app
from replenish.contracts.dataset_reader import read_dataset

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands() -> list[str]:
    """Every command as typed after `replenish`."""
    found = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        nested = getattr(command, "commands", None)
        found += [f"{name} {sub}" for sub in nested] if nested else [name]
    return found


@pytest.mark.parametrize("command", commands())
def test_every_command_explains_itself(command: str) -> None:
    done = CliRunner().invoke(app, [*command.split(), "--help"])
    assert done.exit_code == 0
    assert "Usage" in done.output


def test_documents_name_no_command_that_does_not_exist() -> None:
    known, wrong = commands(), []
    for path in DOCUMENTS:
        for line in re.findall(r"\breplenish ([a-z][a-z-]*(?: [a-z][a-z-]*)?)", "\n".join(code_of(path))):
            if line not in known and line.split()[0] not in known:
                wrong.append((path.relative_to(ROOT).as_posix(), line))
    assert not wrong


def code_of(path: Path) -> list[str]:
    """Code spans and code blocks of a Markdown file that call our command."""
    text = path.read_text(encoding="utf-8")
    spans = re.findall(r"`([^`\n]+)`", text) + re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [span for span in spans if re.match(r"(\.venv/bin/)?replenish ", span.strip())]


def test_an_unknown_bench_names_the_known_ones() -> None:
    done = CliRunner().invoke(app, ["bench", "nothing"])
    assert all(name in str(done.exception) for name in BENCHES)


def test_a_root_without_data_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLENISH_ROOT", str(tmp_path))
    for command in (["status"], ["decisions", "list"], ["forecast", "show"]):
        done = CliRunner().invoke(app, command)
        assert "make demo" in str(done.exception), command


def test_a_retailer_of_any_length_is_run_at_the_day_after_its_last(tmp_path: Path) -> None:
    size = ["--skus", "1", "--locations", "1", "--days", "40"]
    assert CliRunner().invoke(app, ["retailer", str(tmp_path), *size]).exit_code == 0
    assert read_dataset(tmp_path / "dataset.yaml").origin == date(2024, 2, 10)


def test_assumptions_are_read_before_anything_is_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, assume = tmp_path / "root", tmp_path / "assume.yaml"
    monkeypatch.setenv("REPLENISH_ROOT", str(root))
    assume.write_text("on_hand_unitz: 3")
    feed = ROOT / "platform" / "feeds" / "retailer.yaml"
    done = CliRunner().invoke(app, ["run", "--data", str(tmp_path), "--feed", str(feed), "--assume", str(assume)])
    assert "on_hand_units" in str(done.exception)
    assert not (root / "dataset.yaml").exists()


def test_make_without_a_target_prints_help() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert ".DEFAULT_GOAL := help" in text
    for target in ("setup", "demo", "test", "check", "dev", "backtest", "bench"):
        assert re.search(rf"^{target}:.*##", text, re.MULTILINE), target


def test_bench_json_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHES, "two", ("two figures", lambda: {"b": 2.0, "a": 1}))
    done = CliRunner().invoke(app, ["bench", "two", "--json"])
    assert json.loads(done.output) == {"a": 1, "b": 2.0}
