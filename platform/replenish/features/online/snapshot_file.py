"""Snapshots of a twin: one checked file, written beside the running twin and swapped in whole.

    <folder>/<seq>.snapshot    a line of JSON, frames of states (length, MessagePack), a frame of length 0, sha256

The twin goes on while it is written: each state says which place of the log it took in last, at times one behind `seq`.
Where the log is taken in again from `seq`, each leaves out what it has. A file counts only whole: it is forced to disk
before it gets its name, and its sum is checked before anything in it is read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from datetime import datetime, time
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from replenish.digests import BYTES_PER_READ
from replenish.errors import StoreError
from replenish.features.definitions.model import FeatureSet
from replenish.features.online.feature_twin import FeatureTwin
from replenish.features.online.twin_plan import KeptHistory
from replenish.stores.durable import fsync_path

SNAPSHOT_FORMAT = 2
"""Rises when what a state holds changes: older files are then passed over and the log is taken in from its start."""
KEPT_SNAPSHOTS = 2
KEYS_PER_FRAME = 200

_SUM_BYTES = 32
_LENGTH_BYTES = 4
_SUFFIX = ".snapshot"


class DamagedSnapshot(StoreError):
    """A snapshot is not what was written: it is cut off, or bytes changed."""


class SnapshotFile(NamedTuple):
    """What `restore_twin` found."""

    path: Path | None
    """None: there was none that fits, and the twin is new."""
    passed_over: tuple[str, ...] = ()
    """Files that do not fit or are damaged, each with the reason."""


class SnapshotWriter:
    """One snapshot in the making: `step` on the thread that feeds the twin, between two batches, then `place` on any.

    Args:
        twin: Whose states are written.
        folder: Made where it is missing. Drafts of attempts that were cut off are removed.
    """

    def __init__(self, twin: FeatureTwin, folder: Path) -> None:
        self._twin, self._folder = twin, folder
        self._keys = iter(twin.keys())
        folder.mkdir(parents=True, exist_ok=True)
        for draft in folder.glob(f".*{_SUFFIX}.draft"):
            draft.unlink()
        self.path = folder / f"{twin.seq:012}{_SUFFIX}"
        self._draft = folder / f".{self.path.name}.draft"
        self._file: BinaryIO = self._draft.open("wb")
        self._sum = hashlib.sha256()
        self.n_unforced = 0
        """Bytes written since `force`."""
        self._write(json.dumps(_head_of(twin), sort_keys=True).encode() + b"\n")

    def step(self, n_keys: int = KEYS_PER_FRAME) -> bool:
        """Write some more states; False once all of them are written."""
        keys = list(islice(self._keys, n_keys))
        states = msgspec.msgpack.encode(self._twin.capture(keys)) if keys else b""
        self._write(len(states).to_bytes(_LENGTH_BYTES, "big") + states)
        return bool(keys)

    def force(self) -> None:
        """Force what was written so far to disk; on any thread, but not beside `step`.

        Left to the end it would be one long flush, behind which every other writer of the disk waits.
        """
        self._file.flush()
        os.fdatasync(self._file.fileno())
        self.n_unforced = 0

    def place(self) -> None:
        """Force what was written to disk, give it its name and remove older ones: from now on it counts."""
        self._file.write(self._sum.digest())
        self._file.close()
        fsync_path(self._draft)
        self._draft.replace(self.path)
        fsync_path(self._folder)
        fsync_path(self._folder.parent)
        for older in _snapshots(self._folder)[KEPT_SNAPSHOTS:]:
            older.unlink()

    def _write(self, data: bytes) -> None:
        self._sum.update(data)
        self.n_unforced += len(data)
        self._file.write(data)


def write_snapshot(twin: FeatureTwin, folder: Path) -> Path:
    """Write all states at once; the file."""
    writer = SnapshotWriter(twin, folder)
    while writer.step():
        pass
    writer.place()
    return writer.path


def restore_twin(
    feature_set: FeatureSet,
    zone: str,
    cutoff: time,
    folder: Path,
    stands_at: datetime,
    limits: KeptHistory,
    *,
    at_most_seq: int | None = None,
) -> tuple[FeatureTwin, SnapshotFile]:
    """The twin of the newest sound snapshot that is of this set, these clocks and limits; a new one without any.

    Args:
        feature_set: One that `definitions.meaning` found no mistake in.
        zone: IANA zone of the deployment.
        cutoff: Cut-off of an origin, in `zone`.
        folder: Where snapshots of the set lie.
        stands_at: No question will be earlier.
        limits: What is kept of history that no window bounds.
        at_most_seq: Snapshots behind this place of the log do not count: they may be of another log.
    """
    passed_over = []
    for path in _snapshots(folder):
        if at_most_seq is not None and int(path.name.removesuffix(_SUFFIX)) > at_most_seq:
            passed_over.append(f"{path.name} lies behind place {at_most_seq}")
            continue
        twin = FeatureTwin(feature_set, zone, cutoff, stands_at, limits)
        try:
            _check_sum(path)
            with path.open("rb") as file:
                head = json.loads(file.readline())
                differs = [name for name, value in _head_of(twin).items() if name in _FIXED and head[name] != value]
                if differs:
                    passed_over.append(f"{path.name} is of another {', '.join(differs)}")
                    continue
                twin.restore(_states(file), head["seq"])
        except DamagedSnapshot as damage:
            passed_over.append(str(damage))
            continue
        twin.newest_known_us = head["newest_known_us"]
        return twin, SnapshotFile(path, tuple(passed_over))
    return FeatureTwin(feature_set, zone, cutoff, stands_at, limits), SnapshotFile(None, tuple(passed_over))


_FIXED = ("format", "feature_set_id", "zone", "cutoff", "limits")
"""Of the head of a snapshot what has to fit the twin that takes it."""


def _head_of(twin: FeatureTwin) -> dict[str, Any]:
    return {
        "format": SNAPSHOT_FORMAT,
        "feature_set": twin.feature_set.name,
        "feature_set_id": twin.feature_set_id,
        "zone": twin.clock.zone,
        "cutoff": twin.clock.cutoff.isoformat(),
        "limits": [twin.limits.days, twin.limits.versions],
        "seq": twin.seq,
        "newest_known_us": twin.newest_known_us,
        "n_keys": len(twin),
    }


def _snapshots(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted((path for path in folder.glob(f"*{_SUFFIX}") if not path.name.startswith(".")), reverse=True)


def _check_sum(path: Path) -> None:
    left = path.stat().st_size - _SUM_BYTES
    found = hashlib.sha256()
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, BYTES_PER_READ))):
            found.update(block)
            left -= len(block)
        if left or file.read() != found.digest():
            raise DamagedSnapshot(f"{path.name} is not what was written", path=path)


def _states(file: BinaryIO) -> Iterator[list[Any]]:
    """The states of all frames; the file is sound."""
    decoder = msgspec.msgpack.Decoder()
    while length := int.from_bytes(file.read(_LENGTH_BYTES), "big"):
        yield from decoder.decode(file.read(length))
