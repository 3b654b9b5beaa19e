"""Small rooms: sizes, docstrings, names."""

from __future__ import annotations

import ast
import re
from collections import defaultdict

import pytest

from tests.architecture.source_tree import ROOT, Module, is_asset_body, length_without_docstring, modules

MODULE_LINES = {"replenish": 300, "assets": 200, "resources": 200}
FUNCTION_LINES = 60
ASSET_LINES = 30


@pytest.mark.parametrize("module", modules(), ids=lambda m: m.name)
def test_a_module_holds_one_idea(module: Module) -> None:
    limit = MODULE_LINES[module.name.split(".")[0]]
    assert module.n_lines <= limit, f"{module.name} has {module.n_lines} lines, limit {limit}: split it by idea"


@pytest.mark.parametrize("module", modules(), ids=lambda m: m.name)
def test_a_function_fits_one_screen(module: Module) -> None:
    wrong = [
        (function.name, length_without_docstring(function))
        for function in module.functions()
        if length_without_docstring(function) > (ASSET_LINES if is_asset_body(function) else FUNCTION_LINES)
    ]
    assert not wrong, f"{module.name}: {wrong}"


@pytest.mark.parametrize("module", modules(), ids=lambda m: m.name)
def test_public_names_have_docstrings(module: Module) -> None:
    missing = [] if ast.get_docstring(module.tree) else ["the module"]
    for node in module.tree.body:
        is_public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if is_public and not ast.get_docstring(node):
            missing.append(node.name)
    assert not missing, f"{module.name}: {missing}"


def test_public_names_are_unique_in_the_tree() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for module in modules():
        for node in module.tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(module.name)
    twice = {name: where for name, where in homes.items() if len(where) > 1}
    assert not twice, f"defined twice: {twice}"


@pytest.mark.parametrize("module", modules(), ids=lambda m: m.name)
def test_nothing_asks_the_clock_or_chance_or_the_environment(module: Module) -> None:
    if module.room in {"stores", "cli", "resources", "assets"}:
        return
    forbidden = re.compile(
        r"^(datetime\.now|datetime\.utcnow|date\.today|datetime\.datetime\.now|time\.time|os\.environ|os\.getenv|"
        r"random\.\w+|np\.random\.(rand|randn|seed|randint|choice)|pickle\.\w+|(eval|exec)$)"
    )
    wrong = [
        (ast.unparse(node.func), node.lineno)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and forbidden.match(ast.unparse(node.func))
    ]
    assert not wrong, f"{module.name}: {wrong}"


def test_packages_do_not_re_export() -> None:
    wrong = []
    for module in modules():
        if module.path.name == "__init__.py" and any(
            isinstance(node, ast.Import | ast.ImportFrom) for node in module.tree.body
        ):
            wrong.append(module.name)
    assert not wrong


def test_every_runbook_named_in_a_contract_or_policy_exists() -> None:
    named = set()
    for path in [*(ROOT / "platform").rglob("*.yaml")]:
        named |= set(re.findall(r"docs/runbooks/[\w-]+\.md", path.read_text(encoding="utf-8")))
    assert named, "contracts and policies name their runbooks"
    assert not [name for name in sorted(named) if not (ROOT / name).is_file()]
