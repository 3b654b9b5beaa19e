"""Writes a data set back as YAML: the copy a deployment keeps, independent of the file name and with its assumptions.

`read_dataset(write_dataset(dataset, path)) == dataset`, wherever the copy lies.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import date, time
from pathlib import Path
from typing import Any

from replenish.contracts.dataset import Dataset
from replenish.contracts.document import yaml_text


def write_dataset(dataset: Dataset, path: Path) -> Path:
    """Write the data set to `path` (its folder is made) and return the path; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_text(yaml_text(_plain_mapping(dataset)), encoding="utf-8")
    draft.replace(path)
    return path


def _plain_mapping(part: Any) -> dict[str, object]:
    """The fields of a dataclass that differ from their defaults."""
    given = {f.name: getattr(part, f.name) for f in fields(part) if getattr(part, f.name) != _default(f)}
    values = {name: _plain(value) for name, value in given.items()}
    if values.get("door") == "events":
        # A feed of single events reads no files, and its reader refuses these keys.
        values = {name: value for name, value in values.items() if name not in ("files", "format")}
    if "cases" in values:
        values["cases"] = [{"matches": pattern, "value": text} for pattern, text in getattr(part, "cases", ())]
    return values


def _default(field: Field[object]) -> object:
    """The default of a field; MISSING, which equals nothing else, where it has none."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _plain(value: object) -> object:
    if is_dataclass(value):
        return _plain_mapping(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
