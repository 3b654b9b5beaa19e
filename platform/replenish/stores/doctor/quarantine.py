"""The quarantine: where damaged files go by rename, never to be deleted by us."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

from replenish.stores.doctor.reading import try_to_read
from replenish.stores.durable import fsync_path
from replenish.stores.failpoints import failpoint

MOVES_FILE = "moves.jsonl"
FINISHED_FILE = "report.json"
"""Lies in the folder of a visit of which nothing is left to do."""


class Quarantine:
    """One visit's folder below the quarantine, `<folder>/<stamp>/`; what is moved keeps its path below the root.

    `moves.jsonl` in it says what came from where and why, so that a person can put it back.
    """

    def __init__(self, root: Path, folder: Path, stamp: str) -> None:
        self.root = root
        self.folder = folder / stamp
        self.moved: list[tuple[Path, Path]] = []

    def move(self, path: Path, reason: str) -> Path | None:
        """Rename a file or folder into the quarantine (from another disk: move it).

        Returns its new place, or None where there is nothing to move.
        """
        if not path.exists():
            return None
        # By name: a lake or an archive may be a link to another disk.
        relative = path.absolute().relative_to(self.root.absolute())
        target = self.folder / relative
        number = 1
        while target.exists():
            number += 1
            target = self.folder / relative.with_name(f"{relative.name}.{number}")
        target.parent.mkdir(parents=True, exist_ok=True)
        self._note(relative.as_posix(), target.relative_to(self.folder).as_posix(), reason)
        try:
            path.rename(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.move(path, target)
        for folder in (target.parent, path.parent):
            fsync_path(folder)
        failpoint("doctor.quarantined")
        self.moved.append((path, target))
        return target

    def _note(self, came_from: str, lies_at: str, reason: str) -> None:
        # Before the rename: a note about a move that did not happen is harmless, a move without a note is a riddle.
        line = json.dumps({"from": came_from, "to": lies_at, "why": reason}, sort_keys=True, ensure_ascii=False)
        with (self.folder / MOVES_FILE).open("a", encoding="utf-8") as notes:
            notes.write(line + "\n")
            notes.flush()
            os.fsync(notes.fileno())


def unfinished_visits(folder: Path) -> list[Path]:
    """Folders of visits that moved something and left something to do: what they set aside may not be there again."""
    return sorted(notes.parent for notes in folder.glob(f"*/{MOVES_FILE}") if not _is_finished(notes.parent))


def moved_from(visit: Path) -> list[str]:
    """Paths below the root that a visit set aside, oldest first."""
    lines = (visit / MOVES_FILE).read_bytes().splitlines()
    read = (try_to_read(lambda line=line: str(json.loads(line)["from"]))[0] for line in lines)  # type: ignore[misc]
    return [name for name in read if name is not None]


def _is_finished(visit: Path) -> bool:
    return visit.name.startswith("rebuild-") or (visit / FINISHED_FILE).exists()
