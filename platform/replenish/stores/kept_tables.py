"""Opened Delta tables, kept while they are the newest: opening one lists its log and replays what it finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from deltalake import DeltaTable

from replenish.stores.lake_log import entry_path

_Mark = tuple[int, int, int]
"""Inode, time of change [ns] and size of a log entry: a table that was put in another's place has others."""


class _Kept(NamedTuple):
    table: DeltaTable
    version: int
    mark: _Mark


class KeptTables:
    """The newest version of tables, by folder; a kept one is given only while two looks at its log say it is newest."""

    def __init__(self) -> None:
        self._kept: dict[Path, _Kept] = {}

    def table(self, folder: Path, reopen: Callable[[], DeltaTable]) -> DeltaTable:
        """The newest version of the table in `folder`, reopened where it changed."""
        kept = self._kept.get(folder)
        if kept is not None and kept.table.version() == kept.version and _is_newest(folder, kept):
            return kept.table
        opened = reopen()
        self.keep(folder, opened)
        return opened

    def keep(self, folder: Path, table: DeltaTable) -> None:
        """Keep a table that was just opened or written."""
        version = int(table.version())
        mark = _mark_of(folder, version)
        if mark is None:
            self.drop(folder)
        else:
            self._kept[folder] = _Kept(table, version, mark)

    def drop(self, folder: Path) -> None:
        """Keep this one no longer."""
        self._kept.pop(folder, None)


def _is_newest(folder: Path, kept: _Kept) -> bool:
    return _mark_of(folder, kept.version) == kept.mark and not entry_path(folder, kept.version + 1).exists()


def _mark_of(folder: Path, version: int) -> _Mark | None:
    try:
        state = entry_path(folder, version).stat()
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size
