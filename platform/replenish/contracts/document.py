"""Strict reading of YAML files that people write: every mistake names file, field and rule.

YAML 1.2 core scalars only: `no`, `12:30` and `2025-01-01` stay text. A key given twice or not known is an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from replenish.errors import ContractError

_FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser where PyYAML was built with it: several times faster, same constructors."""


class StrictLoader(_FastLoader):  # type: ignore[misc,valid-type]
    """SafeLoader with the scalars of the YAML 1.2 core schema and no repeated keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of a node; MarkedYAMLError where a key is repeated."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        constructed: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return constructed


class _StrictDumper(yaml.SafeDumper):
    """Quotes every text that either YAML version would take for something else."""


for _tag, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    for _yaml in (StrictLoader, _StrictDumper):
        _yaml.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)


class YamlNode:
    """One mapping of a YAML file. Reading a key marks it known; `finish` refuses what nobody asked for."""

    def __init__(self, file: Path, place: str, value: object) -> None:
        self.file = file
        self.place = place
        if not isinstance(value, dict):
            raise self.error("", f"must be a mapping, is {_kind(value)}")
        self.value: dict[str, object] = {str(k): v for k, v in value.items()}
        self._known: set[str] = set()

    def error(self, key: str, rule: str) -> ContractError:
        """The error of one field, to be raised by the caller."""
        field = ".".join(part for part in (self.place, key) if part) or "(top level)"
        return ContractError(f"{self.file}: {field}: {rule}", file=str(self.file), field=field, rule=rule)

    def has(self, key: str) -> bool:
        """Whether the key is given and not null."""
        return self.value.get(key) is not None

    def raw(self, key: str) -> object:
        """The value as YAML has it; None where absent. For free-form parts."""
        self._known.add(key)
        return self.value.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        """A text; numbers are not taken for text, so that `007` cannot lose its zeros."""
        value = self._required(key, default)
        if not isinstance(value, str):
            raise self.error(key, f"must be text, is {_kind(value)} (put it in quotes)")
        return value

    def optional_text(self, key: str) -> str | None:
        """A text or None."""
        return self.text(key) if self._given(key) else None

    def choice(self, key: str, allowed: Sequence[str], default: str | None = None) -> str:
        """A text out of `allowed`."""
        value = self.text(key, default)
        if value not in allowed:
            raise self.error(key, f"must be one of {', '.join(allowed)}; is {value!r}{_nearest(value, allowed)}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._required(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, f"must be a number, is {_kind(value)}")
        return value

    def optional_number(self, key: str) -> float | None:
        """A number or None."""
        return self.number(key) if self._given(key) else None

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number."""
        value = self._required(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"must be a whole number, is {_kind(value)}")
        return value

    def flag(self, key: str, default: bool | None = None) -> bool:
        """`true` or `false`."""
        value = self._required(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, is {_kind(value)}")
        return value

    def texts(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A list of texts; a single text stands for a list of one."""
        value = self._required(key, default)
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            raise self.error(key, "must be a list of texts")
        return tuple(str(item) for item in items)

    def optional_pattern(self, key: str) -> str | None:
        """A regular expression that Python, Polars and DuckDB all run (no look-around, no back references), or None."""
        pattern = self.optional_text(key)
        if pattern is not None:
            try:
                re.compile(pattern)
                pl.Series([""]).str.contains(pattern)
            except (re.error, pl.exceptions.ComputeError) as error:
                raise self.error(key, f"is not a regular expression: {error}") from error
        return pattern

    def child(self, key: str) -> YamlNode:
        """The mapping under a key."""
        return YamlNode(self.file, self._place_of(key), self._required(key, None))

    def children(self, key: str) -> tuple[YamlNode, ...]:
        """The list of mappings under a key; empty where absent."""
        if not self._given(key):
            return ()
        value = self.value[key]
        if not isinstance(value, list):
            raise self.error(key, f"must be a list, is {_kind(value)}")
        return tuple(YamlNode(self.file, f"{self._place_of(key)}[{i}]", item) for i, item in enumerate(value))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in file order; does not mark them known."""
        return tuple(self.value)

    def declare(self, keys: Sequence[str]) -> None:
        """Mark keys known without reading them: optional ones that were not given, named in errors all the same."""
        self._known.update(keys)

    def finish(self) -> None:
        """Refuse keys that were never read, naming the nearest known one."""
        for key in self.value:
            if key not in self._known:
                known = sorted(self._known)
                raise self.error(key, f"unknown key{_nearest(key, known)}; known here: {', '.join(known)}")

    def _given(self, key: str) -> bool:
        self._known.add(key)
        return self.has(key)

    def _required(self, key: str, default: object) -> object:
        if self._given(key):
            return self.value[key]
        if default is None:
            raise self.error(key, "is missing")
        return default

    def _place_of(self, key: str) -> str:
        return ".".join(part for part in (self.place, key) if part)


def read_yaml(path: Path) -> YamlNode:
    """The top mapping of a YAML file.

    Raises:
        ContractError: The file is missing, is not YAML, repeats a key, or is not a mapping.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            # A SafeLoader: no tag of the file can make an object.
            value = yaml.load(stream, Loader=StrictLoader)  # noqa: S506
    except FileNotFoundError as error:
        raise ContractError(f"{path}: no such file", file=str(path)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ContractError(f"{path}: not readable as YAML: {error}", file=str(path)) from error
    return YamlNode(path, "", value)


def yaml_text(value: dict[str, object]) -> str:
    """YAML that `read_yaml` reads back as the same mapping, keys in their order."""
    return yaml.dump(value, Dumper=_StrictDumper, sort_keys=False, width=118, allow_unicode=True)


def _kind(value: object) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true/false", int: "a number", float: "a number"}
    return names.get(type(value), "nothing")


def _nearest(value: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(value, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
