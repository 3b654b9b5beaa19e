"""The list of reasons is closed: no code of the platform writes one that is not in it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import replenish
from replenish.contracts.reader import read_contracts
from replenish.contracts.validate import compile_row_checks
from replenish.ingest.reasons import REASONS

PACKAGE = Path(replenish.__path__[0])
BEARERS = {"FileFault": 0, "EventFault": 0, "BrokenRow": 1, "DeadLetter": 3, "RowFault": 1}
"""Classes and functions that are given a reason, and at which place."""


def _reasons_written() -> Iterator[tuple[str, str]]:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            place = BEARERS.get(name)
            given = [node.args[place]] if place is not None and len(node.args) > place else []
            given += [k.value for k in node.keywords if k.arg == "reason" and place is not None]
            # `dead(source, id, feed, raw, reason, ...)` of the event door.
            given += [node.args[4]] if name == "dead" and len(node.args) > 4 else []
            for value in given:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value, f"{path.name}:{node.lineno}"


def test_every_reason_in_the_code_is_listed() -> None:
    written = list(_reasons_written())
    assert len({reason for reason, _ in written}) > 20
    assert not [(reason, place) for reason, place in written if reason not in REASONS]


def test_every_reason_of_the_row_checks_is_listed() -> None:
    used = {fault.reason for contract in read_contracts().values() for fault in compile_row_checks(contract).faults}
    assert used <= set(REASONS)


def test_reasons_are_codes_with_a_meaning() -> None:
    assert all(
        code.replace("_", "").isalnum() and code == code.lower() and meaning for code, meaning in REASONS.items()
    )
