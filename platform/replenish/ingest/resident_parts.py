"""Accepted parts for a process that stays: what is known of a few facts, without reading all parts again each time.

Of every row in reach the hash of its fact lies in memory with its place, 16 bytes a row, in sorted runs that are merged
as they grow. Only rows whose hash is asked for are fetched: a hash that two facts share costs a comparison, never a
mistake (`known_facts` compares keys).
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from replenish.contracts.model import Contract
from replenish.ingest.accepted_parts import AcceptedPart, PartIndex, rows_of
from replenish.ingest.known_facts import known_columns
from replenish.stores.journal_reader import JournalReader

MOST_HASHES = 20_000_000
"""Facts of the buckets that were asked for last are kept, up to so many; one bucket may have more."""
MOST_ROWS = 500_000
"""Rows of parts that lie in memory as they are: those that were read last, and as many that were written."""
LONGEST_MERGE = 1_000_000
"""Runs beyond so many hashes are not merged again: that would hold up who waits."""

_Hashes = NDArray[np.uint64]
_Places = NDArray[np.int32]


@dataclass(frozen=True)
class _Run:
    """Hashes of facts in order, each with its part (by number in the bucket) and its row there."""

    days: int
    hashes: _Hashes
    parts: _Places
    rows: _Places

    def places(self, asked: _Hashes) -> list[tuple[int, int]]:
        """(part, row) of every row with one of these hashes."""
        begins, ends = (np.searchsorted(self.hashes, asked, side=side) for side in ("left", "right"))  # type: ignore[call-overload]
        found: list[tuple[int, int]] = []
        for nr in np.flatnonzero(ends > begins).tolist():
            span = slice(int(begins[nr]), int(ends[nr]))
            found += zip(self.parts[span].tolist(), self.rows[span].tolist(), strict=True)
        return found


@dataclass
class _Bucket:
    """The facts of one bucket that were looked for so far."""

    runs: list[_Run] = field(default_factory=list)
    parts: list[AcceptedPart] = field(default_factory=list)
    """Those in the runs, by number."""
    waiting: list[AcceptedPart] = field(default_factory=list)
    """Those nobody needed yet: no day of theirs was asked for."""
    n_listed: int = 0

    @property
    def n_hashes(self) -> int:
        """How many rows it holds the hashes of."""
        return sum(run.hashes.size for run in self.runs)

    def add(self, part: AcceptedPart, hashes: _Hashes) -> None:
        """Take in the rows of a part."""
        self.parts.append(part)
        numbers = np.full(hashes.size, len(self.parts) - 1, np.int32)
        self.runs.append(_sorted_run(part.days, hashes, numbers, np.arange(hashes.size, dtype=np.int32)))
        while len(self.runs) > 1 and _are_alike(*self.runs[-2:]):
            later, earlier = self.runs.pop(), self.runs.pop()
            columns = [
                np.concatenate([getattr(run, name) for run in (earlier, later)]) for name in ("hashes", "parts", "rows")
            ]
            self.runs.append(_sorted_run(earlier.days | later.days, *columns))


class ResidentParts(PartIndex):
    """As `PartIndex`, for many small looks: answers with rows of the facts that are asked for.

    Args:
        journal: Where parts are listed.
        most_hashes: Bounds memory, 16 bytes each.
        most_rows: Bounds the rows that are kept as they are.
    """

    def __init__(self, journal: JournalReader, *, most_hashes: int = MOST_HASHES, most_rows: int = MOST_ROWS) -> None:
        super().__init__(journal)
        self._limits = (most_hashes, most_rows)
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()
        self._frames: OrderedDict[str, pl.DataFrame] = OrderedDict()
        self._n_rows = 0
        self._written: OrderedDict[str, tuple[AcceptedPart, pl.DataFrame]] = OrderedDict()
        self._n_written = 0

    def earlier_rows(
        self, contract: Contract, bucket: str, days: int, accepted: Path, new: pl.DataFrame
    ) -> pl.DataFrame:
        """`known_columns` of the rows accepted before of facts in `new`; a few others may be among them."""
        known = self._bucket(contract, bucket, days, accepted)
        asked = np.unique(_hashes_of(new, contract))
        wanted: defaultdict[int, list[int]] = defaultdict(list)
        for run in known.runs:
            if run.days & days:
                for part, row in run.places(asked):
                    # A run holds parts of many days; what is known is what the parts of these days say.
                    if known.parts[part].days & days:
                        wanted[part].append(row)
        if not wanted:
            return rows_of([], contract, accepted)
        frames = [self._frame(known.parts[nr], contract, accepted)[sorted(rows)] for nr, rows in sorted(wanted.items())]
        return pl.concat(frames)

    def remember(self, part: AcceptedPart, rows: pl.DataFrame, contract: Contract) -> None:
        """Keep the rows of a part of ours until a record lists it and somebody asks for its days."""
        if part.path in self._written:
            self._n_written -= self._written.pop(part.path)[1].height
        names = [name for name in known_columns(contract) if name != "journal_seq"]
        self._written[part.path] = (part, rows.select(names))
        self._n_written += rows.height
        while self._n_written > self._limits[1]:
            self._n_written -= self._written.popitem(last=False)[1][1].height

    def warm_up(self, contract: Contract, accepted: Path) -> None:
        """Take in what there is of a stream, newest buckets first, as far as there is room."""
        buckets = sorted((bucket for stream, bucket in self._parts if stream == contract.stream), reverse=True)
        for bucket in buckets:
            n_rows = sum(part.rows for part in self._parts[contract.stream, bucket])
            if sum(known.n_hashes for known in self._buckets.values()) + n_rows > self._limits[0]:
                return
            self._bucket(contract, bucket, -1, accepted)

    def _bucket(self, contract: Contract, name: str, days: int, accepted: Path) -> _Bucket:
        """The bucket, with all parts that have one of these days."""
        key = contract.stream, name
        known = self._buckets.setdefault(key, _Bucket())
        self._buckets.move_to_end(key)
        listed = self._parts[key]
        known.waiting += listed[known.n_listed :]
        known.n_listed = len(listed)
        needed = [part for part in known.waiting if part.days & days]
        if needed:
            known.waiting = [part for part in known.waiting if not part.days & days]
            try:
                for part in needed:
                    known.add(part, _hashes_of(self._frame(part, contract, accepted), contract))
            except BaseException:
                # What could not be read must not be missed later on.
                del self._buckets[key]
                raise
            self._make_room()
        return known

    def _frame(self, part: AcceptedPart, contract: Contract, accepted: Path) -> pl.DataFrame:
        """`known_columns` of a part, from memory where it was read of late."""
        frame = self._frames.get(part.path)
        if frame is None:
            frame = self._frames[part.path] = self._read(part, contract, accepted)
            self._n_rows += frame.height
            while self._n_rows > self._limits[1] and len(self._frames) > 1:
                self._n_rows -= self._frames.popitem(last=False)[1].height
        self._frames.move_to_end(part.path)
        return frame

    def _read(self, part: AcceptedPart, contract: Contract, accepted: Path) -> pl.DataFrame:
        own, rows = self._written.pop(part.path, (None, None))
        self._n_written -= 0 if rows is None else rows.height
        # What we wrote and could not journal, somebody else may have written again with other rows.
        if own is None or rows is None or own.sha256 != part.sha256:
            return rows_of([part], contract, accepted)
        return rows.with_columns(pl.lit(part.seq, pl.Int64()).alias("journal_seq")).select(known_columns(contract))

    def _make_room(self) -> None:
        while len(self._buckets) > 1 and sum(known.n_hashes for known in self._buckets.values()) > self._limits[0]:
            self._buckets.popitem(last=False)


def _hashes_of(rows: pl.DataFrame, contract: Contract) -> _Hashes:
    hashes: Any = rows.select(contract.fact_key).hash_rows().to_numpy()
    return hashes


def _sorted_run(days: int, hashes: _Hashes, parts: _Places, rows: _Places) -> _Run:
    order = np.argsort(hashes, kind="stable")
    return _Run(days, hashes[order], parts[order], rows[order])


def _are_alike(earlier: _Run, later: _Run) -> bool:
    return earlier.hashes.size <= 2 * later.hashes.size and earlier.hashes.size + later.hashes.size <= LONGEST_MERGE
