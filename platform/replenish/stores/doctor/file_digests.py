"""Digests of the files of a Delta table, kept beside the lake, since Delta itself keeps none.

One append-only file of JSON lines per table: `lake/.digests/<table>.jsonl`. It is never the truth about data, only
about damage: it may be deleted, and the next check takes what it finds readable as the new base. Every line carries a
check of its own, so that a damaged line is skipped and never accuses a sound file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from replenish.digests import file_digest, json_digest
from replenish.stores.durable import fsync_path

FOLDER = ".digests"


@dataclass
class RecordedFiles:
    """What was recorded of one table: digests by path relative to the table, and the newest version on disk."""

    digests: dict[str, str] = field(default_factory=dict)
    newest_version: int | None = None


def digests_file(lake: Path, table: str) -> Path:
    """Where the digests of a table are kept."""
    return lake / FOLDER / f"{table}.jsonl"


def record_commits(lake: Path, table: str, versions: Iterable[int]) -> None:
    """Record the commits `versions` of a table, the data files they added and their checkpoints, as they are now.

    Called behind the durability barrier, while the writer's lock is held. Neither forced to disk nor allowed to fail: a
    line that a power cut or a full disk takes is made up for by the next check; a commit shall not wait for it.
    """
    with suppress(OSError):
        _append(digests_file(lake, table), _entries_of(lake / table, versions), is_durable=False)


def _entries_of(folder: Path, versions: Iterable[int]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for version in versions:
        commit = folder / "_delta_log" / f"{version:020}.json"
        paths = [commit, *(folder / path for path in added_paths(commit))]
        paths += sorted(commit.parent.glob(f"{version:020}.checkpoint*.parquet"))
        entries.append({"version": version, "files": {_name(p, folder): file_digest(p) for p in paths if p.exists()}})
    return entries


def record_as_found(lake: Path, table: str, paths: Iterable[Path], version: int | None) -> None:
    """Take files that nothing was recorded about as they are: the base for later checks."""
    folder = lake / table
    files = {_name(path, folder): file_digest(path) for path in paths}
    if files or version is not None:
        _append(digests_file(lake, table), [{"version": version, "files": files}])


def forget_commits(lake: Path, table: str, first: int) -> None:
    """Commits from version `first` on were set aside: others will take their numbers."""
    _append(digests_file(lake, table), [{"forget_from": first}])


def recorded_files(lake: Path, table: str) -> RecordedFiles:
    """What was recorded of a table, later lines over earlier ones; empty where nothing was."""
    found = RecordedFiles()
    path = digests_file(lake, table)
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        entry = _sound(line)
        if entry is None:
            continue
        if "forget_from" in entry:
            _forget(found, int(entry["forget_from"]))
            continue
        found.digests.update(entry["files"])
        if entry["version"] is not None:
            found.newest_version = max(found.newest_version or 0, int(entry["version"]))
    return found


def added_paths(commit: Path) -> list[str]:
    """Data files that a sound commit added, relative to the table's folder."""
    actions = (json.loads(line) for line in commit.read_bytes().splitlines() if line.strip())
    return [unquote(action["add"]["path"]) for action in actions if "add" in action]


def _forget(found: RecordedFiles, first: int) -> None:
    log = "_delta_log/"
    for name in [n for n in found.digests if n.startswith(log)]:
        stem = name.removeprefix(log).partition(".")[0]
        if stem.isdigit() and int(stem) >= first:
            del found.digests[name]
    found.newest_version = None if first == 0 else min(found.newest_version or 0, first - 1)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _append(path: Path, entries: Iterable[dict[str, Any]], *, is_durable: bool = True) -> None:
    lines = [json.dumps({**entry, "check": json_digest(entry)[:16]}, sort_keys=True) for entry in entries]
    if not lines:
        return
    is_new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        # A leading newline ends a line that a crash left torn.
        file.write("\n" + "\n".join(lines) + "\n")
        file.flush()
        if is_durable:
            os.fsync(file.fileno())
    if is_new and is_durable:
        fsync_path(path.parent)


def _sound(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict):
        return None
    check = entry.pop("check", None)
    return entry if check == json_digest(entry)[:16] else None
