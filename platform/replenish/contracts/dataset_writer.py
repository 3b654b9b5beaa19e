"""Writes a data set back as YAML: the resolved copy that a deployment keeps, with every default and assumption spelled out.

`read_dataset(write_dataset(dataset, path)) == dataset`, wherever the copy lies.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import date, time
from pathlib import Path

from replenish.contracts.dataset import Dataset
from replenish.contracts.document import yaml_text


def write_dataset(dataset: Dataset, path: Path) -> Path:
    """Write the data set to `path` (its folder is made) and return the path; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_text(yaml_text(_plain_mapping(dataset)), encoding="utf-8")
    draft.replace(path)
    return path


def _plain_mapping(part: object) -> dict[str, object]:
    """The fields of a dataclass that say something: null and empty ones are left out."""
    values = {f.name: _plain(getattr(part, f.name)) for f in fields(part)}  # type: ignore[arg-type]
    if "cases" in values:
        values["cases"] = [{"matches": pattern, "value": text} for pattern, text in getattr(part, "cases", ())]
    return {name: value for name, value in values.items() if value is not None and value not in ([], {})}


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
