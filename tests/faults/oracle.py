"""The client's side of a trial: what was offered and what was acknowledged, safe on disk before it counts.

The file lies outside the system under test (outside its image in a power cut) and is never read by it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Oracle:
    """An append-only list of JSON lines. A line counts once `note` has returned: it is fsynced by then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)

    def note(self, kind: str, **what: object) -> None:
        """Append one line: `offer` before something is sent, `ack` after its answer came."""
        self.note_all([{"kind": kind, **what}])

    def note_all(self, lines: list[dict[str, Any]]) -> None:
        """Append several lines with one fsync."""
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()
        if os.write(self._descriptor, text) != len(text):
            raise OSError("the oracle's own disk is full: this trial says nothing")
        os.fsync(self._descriptor)


@dataclass(frozen=True)
class Ack:
    """One acknowledgement: the door said that (source, id) has this outcome and stands at `seq`."""

    door: str
    source: str
    id: str
    outcome: str
    seq: int
    counts: dict[str, int] | None = None
    """Rows offered, accepted, dead, duplicate, where the door answers for a whole file."""
    nr: int | None = None
    """The delivery of the world that was answered."""


def read_acks(path: Path) -> list[Ack]:
    """Every acknowledgement that counts; a last line cut short by a kill does not."""
    return [
        Ack(line["door"], line["source"], line["id"], line["outcome"], line["seq"], line.get("counts"), line.get("nr"))
        for line in _lines(path)
        if line["kind"] == "ack"
    ]


def read_notes(path: Path, kind: str) -> list[dict[str, Any]]:
    """Other lines of the client's, by kind."""
    return [line for line in _lines(path) if line["kind"] == kind]


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines if line]
