"""The source tree as data: modules, imports and definitions, read with `ast` (nothing is imported or run)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("ingest", "history", "features", "forecast", "drift", "decide", "outcomes")
FLOORS: tuple[tuple[str, ...], ...] = (("ground",), ("control", "stores"), STAGES, ("cli", "resources"), ("assets",))
"""Imports point from a later row to an earlier one, or stay inside one room."""


@dataclass(frozen=True)
class Module:
    """One Python file: dotted `name`, its room, and its syntax tree."""

    name: str
    path: Path
    tree: ast.Module
    n_lines: int

    @property
    def room(self) -> str:
        parts = self.name.split(".")
        if parts[0] != "replenish":
            return parts[0]
        if len(parts) == 1 or parts[1] not in {"control", "stores", "cli", *STAGES}:
            return "ground"
        return parts[1]

    def imports(self) -> Iterator[tuple[str, int]]:
        """(dotted name, line) of every import, those inside functions and under TYPE_CHECKING too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.name, node.lineno
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                yield base, node.lineno
                for alias in node.names:
                    yield f"{base}.{alias.name}", node.lineno

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        package = parts if self.path.name == "__init__.py" else parts[:-1]
        package = package[: len(package) - node.level + 1]
        return ".".join([*package, node.module] if node.module else package)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


@cache
def modules() -> tuple[Module, ...]:
    """Every module of `platform/`, `assets/` and `resources/`, in path order."""
    found = []
    for base, folder in ((ROOT / "platform", "replenish"), (ROOT, "assets"), (ROOT, "resources")):
        for path in sorted((base / folder).rglob("*.py")):
            parts = list(path.relative_to(base).with_suffix("").parts)
            if parts[-1] == "__init__":
                parts.pop()
            text = path.read_text(encoding="utf-8")
            found.append(Module(".".join(parts), path, ast.parse(text), text.count("\n")))
    return tuple(found)


def length_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Physical lines from `def` to the end, less the docstring's."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        first = function.body[0]
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def is_asset_body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a Dagster asset decorator stands above it."""
    return any("asset" in ast.unparse(d).split("(")[0] for d in function.decorator_list)
