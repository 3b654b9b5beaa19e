"""Many events that share all but id and body, kept as one: what doors offer in bulk, and how offers are taken apart."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from hashlib import sha256
from itertools import accumulate, groupby
from typing import NamedTuple, overload

import msgspec

from replenish.errors import DamagedLog
from replenish.stores.journal_entry import EventEntry
from replenish.stores.packed_bodies import pack_bodies, unpack_bodies

SHORTEST_RUN = 8
"""Fewer events in a row with the same attributes are journalled one row each."""
LONGEST_RUN = 2_000
LARGEST_RUN_BYTES = 8 << 20
DIGEST_BYTES = 32


class PackedRun(NamedTuple):
    """What of a run does not depend on its place in the log, as it is written."""

    ids: bytes
    """A JSON array."""
    ends: bytes
    """Where each body ends, 32 bits each, little-endian."""
    digests: bytes
    """SHA-256 of each body, behind one another."""
    bodies: bytes


class EventRun(Sequence[EventEntry]):
    """Accepted events with the same source, type, feed, contract and trace; reads as the entries it stands for.

    Args:
        like: Any entry of the run; its id and body do not matter.
        ids: One per event.
        bodies: One per event, in the same order; views of a request that lies in memory anyway will do.
        packing: What `pack_bodies` gives for them, where that was begun before.
    """

    __slots__ = ("_bodies", "_packed", "_packing", "ids", "like", "n_bytes")

    def __init__(
        self,
        like: EventEntry,
        ids: list[str],
        bodies: Sequence[bytes | memoryview],
        packing: Future[bytes] | None = None,
    ) -> None:
        self.like, self.ids = like, ids
        self._bodies: Sequence[bytes | memoryview] | None = bodies
        self._packing = packing
        self.n_bytes = sum(map(len, bodies))
        self._packed: PackedRun | None = None

    @classmethod
    def of_packed(cls, like: EventEntry, packed: PackedRun) -> EventRun:
        """The run that somebody else has packed; its bodies are unpacked only where they are asked for.

        Raises:
            DamagedLog: Its parts do not fit together.
        """
        ids = msgspec.json.decode(packed.ids, type=list[str])
        n, is_plain = len(ids), packed.ids[:2] == b'["' and packed.ids[-2:] == b'"]'
        if not is_plain or len(packed.ends) != 4 * n or len(packed.digests) != DIGEST_BYTES * n:
            raise DamagedLog("a packed run does not fit together")
        run = cls(like, ids, ())
        run._bodies, run._packed = None, packed
        (run.n_bytes,) = struct.unpack_from("<I", packed.ends, 4 * (n - 1))
        return run

    @property
    def bodies(self) -> Sequence[bytes | memoryview]:
        """One per event."""
        if self._bodies is None:
            packed = self.packed()
            ends = struct.unpack(f"<{len(self.ids)}I", packed.ends)
            plain = unpack_bodies(packed.bodies, self.n_bytes, seq=0)
            self._bodies = [plain[start:end] for start, end in zip((0, *ends), ends, strict=False)]
        return self._bodies

    def packed(self) -> PackedRun:
        """The run as it is written; made once, best before others have to wait for it."""
        if self._packed is None:
            digests = b"".join([sha256(body).digest() for body in self.bodies])
            ids, ends = msgspec.json.encode(self.ids), packed_ends(self.bodies)
            bodies = pack_bodies(self.bodies) if self._packing is None else self._packing.result()
            self._packed, self._packing = PackedRun(ids, ends, digests, bodies), None
        return self._packed

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[EventEntry]:
        source, _, kind, subject, dataschema, _, traceparent, _ = self.like
        for id_, body in zip(self.ids, self.bodies, strict=True):
            yield EventEntry(source, id_, kind, subject, dataschema, bytes(body), traceparent)

    @overload
    def __getitem__(self, place: int) -> EventEntry: ...
    @overload
    def __getitem__(self, place: slice) -> EventRun: ...
    def __getitem__(self, place: int | slice) -> EventEntry | EventRun:
        if isinstance(place, slice):
            return EventRun(self.like, self.ids[place], self.bodies[place])
        return self.like._replace(id=self.ids[place], body=bytes(self.bodies[place]))


class JoinedEntries(Sequence[EventEntry]):
    """Several offers as one, in their order, without taking runs apart."""

    def __init__(self, parts: Sequence[Sequence[EventEntry]]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[EventEntry]:
        for part in self.parts:
            yield from part

    @overload
    def __getitem__(self, place: int) -> EventEntry: ...
    @overload
    def __getitem__(self, place: slice) -> list[EventEntry]: ...
    def __getitem__(self, place: int | slice) -> EventEntry | list[EventEntry]:
        return list(self)[place]


def packed_ends(bodies: Iterable[bytes | memoryview]) -> bytes:
    """Where each of the bodies ends once they are behind one another."""
    ends = list(accumulate(map(len, bodies)))
    return struct.pack(f"<{len(ends)}I", *ends)


def pack_runs(entries: Sequence[EventEntry]) -> None:
    """Pack the runs among the entries that will be written as they are, before the journal is locked for them."""
    for part in entries.parts if isinstance(entries, JoinedEntries) else (entries,):
        if isinstance(part, EventRun) and len(part) <= LONGEST_RUN and _may_be_a_run(part):
            part.packed()


def in_runs(entries: Sequence[EventEntry]) -> Iterator[EventRun | list[EventEntry]]:
    """The entries in their order: runs where many in a row are alike, lists of single ones between them."""
    for part in entries.parts if isinstance(entries, JoinedEntries) else (entries,):
        if isinstance(part, EventRun):
            for start in range(0, len(part), LONGEST_RUN):
                run = part if len(part) <= LONGEST_RUN else part[start : start + LONGEST_RUN]
                yield run if _may_be_a_run(run) else list(run)
        elif len(part) < SHORTEST_RUN:
            yield list(part)
        else:
            yield from _alike(part)


def _alike(entries: Sequence[EventEntry]) -> Iterator[EventRun | list[EventEntry]]:
    for (*_, letter), group in groupby(entries, key=_shared_of):
        alike = list(group)
        for start in range(0, len(alike), LONGEST_RUN):
            piece = alike[start : start + LONGEST_RUN]
            run = EventRun(piece[0], [entry.id for entry in piece], [entry.body for entry in piece])
            yield run if letter is None and _may_be_a_run(run) else piece


def _shared_of(entry: EventEntry) -> tuple[object, ...]:
    source, _, kind, subject, dataschema, _, traceparent, letter = entry
    return source, kind, subject, dataschema, traceparent, letter


def _may_be_a_run(run: EventRun) -> bool:
    return len(run) >= SHORTEST_RUN and run.n_bytes <= LARGEST_RUN_BYTES
