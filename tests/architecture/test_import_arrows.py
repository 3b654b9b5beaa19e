"""Which room may import which, and that nothing runs in a circle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source_tree import FLOORS, ROOT, STAGES, Module, modules

FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
OURS = {module.name: module for module in modules()}


def our_imports(module: Module) -> set[str]:
    """Names of our own modules that this one imports: the deepest module each dotted name reaches."""
    found = set()
    for name, _ in module.imports():
        parts = name.split(".")
        while parts and ".".join(parts) not in OURS:
            parts.pop()
        target = ".".join(parts)
        # `import a.b` inside package a names the package only as the road to b.
        if (
            target
            and target != module.name
            and not any(n.startswith(f"{target}.") and n in OURS for n, _ in module.imports())
        ):
            found.add(target)
    return found


@pytest.mark.parametrize("module", modules(), ids=lambda m: m.name)
def test_imports_point_only_to_lower_floors(module: Module) -> None:
    wrong = [
        target
        for target in our_imports(module)
        if FLOOR_OF[OURS[target].room] > FLOOR_OF[module.room]
        or (OURS[target].room in STAGES and module.room in STAGES and OURS[target].room != module.room)
    ]
    assert not wrong, f"{module.name} must not import {wrong}"


@pytest.mark.parametrize("module", [m for m in modules() if m.name.startswith("replenish")], ids=lambda m: m.name)
def test_the_domain_never_imports_dagster(module: Module) -> None:
    wrong = [(name, line) for name, line in module.imports() if name.split(".")[0].startswith("dagster")]
    assert not wrong, f"{module.name} imports {wrong}"


def test_no_import_cycle_even_for_types_only() -> None:
    edges = {name: our_imports(module) for name, module in OURS.items()}
    state: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if state.get(name) == 2:
            return
        assert state.get(name) != 1, f"cycle: {' -> '.join([*path[path.index(name) :], name])}"
        state[name] = 1
        for target in sorted(edges[name]):
            visit(target, (*path, name))
        state[name] = 2

    for name in sorted(edges):
        visit(name, ())


@pytest.mark.parametrize("folder", ["platform", "dbt"])
def test_folders_that_would_hide_a_library_have_no_init(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists(), f"{folder}/__init__.py would hide the module `{folder}`"


def test_definitions_load_without_the_heavy_libraries() -> None:
    program = (
        "import sys, assets.definitions\n"
        "print(sorted(set(sys.modules) & {'evidently', 'lightgbm', 'mlflow', 'matplotlib'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_no_junk_drawers() -> None:
    junk = {"utils", "util", "helpers", "helper", "common", "misc", "base", "lib", "shared", "tools"}
    assert not [m.name for m in modules() if m.name.rsplit(".", 1)[-1].strip("_") in junk]


def test_nothing_names_a_place_outside_the_project() -> None:
    words = ("/" + "work/", "/" + "root/", "files.pythonhosted", "--extra-" + "index")
    wrong = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        wrong += [(str(path.relative_to(ROOT)), word) for word in words if word in text]
    assert not wrong


def tracked_files() -> list[Path]:
    """Files git tracks; every file of the tree where git is absent."""
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = done.stdout.splitlines()
    return [
        ROOT / name for name in names if (ROOT / name).is_file() and name != "tests/architecture/test_import_arrows.py"
    ]
