"""One file through the gate into buckets: reading, mapping, judging. Nothing here is written to the log."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from replenish.contracts.dataset import Feed
from replenish.contracts.validate import compile_row_checks
from replenish.errors import FileFault
from replenish.ingest.content_ids import number_occurrences
from replenish.ingest.gate import DEAD_SCHEMA, GatedChunk, gate_chunk
from replenish.ingest.mapping import BATCH_SUFFIX, FeedMapping
from replenish.ingest.readers import SourceChunk, read_chunks
from replenish.ingest.repeated_exclusions import repeats_of_excluded
from replenish.ingest.spool import WHOLE_STREAM, RowSpool, split_by_month

DEAD = "dead"
MISSING_COLUMN = "missing_column"
GATES = 2
"""Chunks judged at a time, beside the one that is parsed and the one that is sorted in: a file keeps two cores busy."""


@dataclass
class Intake:
    """The rows of one file on their way: sound ones by bucket, dead ones with reasons, and their counts."""

    sound: RowSpool
    dead: RowSpool
    offered: int = 0
    n_faulty: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    repeats: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=DEAD_SCHEMA))
    """Rows that were left out once already, in an earlier batch of this file: duplicates, not dead."""

    @property
    def n_dead(self) -> int:
        """Dead rows so far: faults and rows left out on purpose."""
        return sum(self.reasons.values())

    def bury(self, letters: pl.DataFrame) -> None:
        """Add dead rows (`gate.DEAD_SCHEMA`)."""
        self.dead.add(DEAD, letters)
        for reason, count in letters["reason"].value_counts().iter_rows():
            self.reasons[reason] += count

    def dead_rows(self) -> pl.DataFrame:
        """All dead rows (`gate.DEAD_SCHEMA`)."""
        if not self.dead.buckets():
            return pl.DataFrame(schema=DEAD_SCHEMA)
        rows = self.dead.rows(DEAD)
        return rows.join(self.repeats.select("row_nr"), on="row_nr", how="anti", maintain_order="left")

    def count_repeats(self, feed: Feed) -> None:
        """Take rows that were left out before in this file for the duplicates they are."""
        self.repeats = repeats_of_excluded(self.dead_rows().sort("row_nr"), feed)
        self.reasons -= Counter(dict(self.repeats["reason"].value_counts().iter_rows()))


def take_in(path: Path, mapping: FeedMapping, intake: Intake) -> None:
    """Read and judge every row of the file into `intake`, which keeps what was counted when a fault ends the file.

    Raises:
        FileFault: The file as a whole is refused: it cannot be read, lacks a column, contradicts its zone, or more
            than the contract's `max_dead_share` of its rows are faulty (rows left out on purpose do not count).
    """
    feed, contract = mapping.feed, mapping.contract
    for gated in _gated_chunks(path, mapping, intake):
        intake.n_faulty += gated.n_faulty
        intake.bury(gated.dead)
        for bucket, rows in split_by_month(gated.sound) if contract.is_keyed_by_date else [(WHOLE_STREAM, gated.sound)]:
            intake.sound.add(bucket, rows)
    n_judged = intake.offered - (intake.n_dead - intake.n_faulty)
    if intake.n_faulty > contract.max_dead_share * n_judged:
        worst = ", ".join(f"{reason} {count}" for reason, count in intake.reasons.most_common(3))
        raise FileFault("dead_share", f"{intake.n_faulty} of {n_judged} rows are faulty: {worst}", feed=feed.feed_id)
    intake.count_repeats(feed)


def _gated_chunks(path: Path, mapping: FeedMapping, intake: Intake) -> Iterator[GatedChunk]:
    """The chunks of a file in order, the next ones judged in threads meanwhile; a fault comes in its turn."""
    checks, waiting = compile_row_checks(mapping.contract), deque[tuple[int, Future[GatedChunk]]]()

    def next_gated() -> GatedChunk:
        offered, gated = waiting.popleft()
        intake.offered += offered
        return gated.result()

    with ThreadPoolExecutor(GATES) as gates:
        try:
            for chunk in read_chunks(path, mapping.feed.format):
                if mapping.feed.format.type == "jsonl":
                    chunk = _with_absent_columns(chunk, mapping)
                if missing := mapping.missing_columns(chunk.frame.columns):
                    text = f"no column {', '.join(map(repr, missing))}"
                    raise FileFault(MISSING_COLUMN, text, feed=mapping.feed.feed_id)
                if chunk.offered:
                    waiting.append((chunk.offered, gates.submit(gate_chunk, chunk, mapping, checks)))
                if len(waiting) > GATES:
                    yield next_gated()
        except FileFault as fault:
            while waiting:
                yield next_gated()
            if fault.reason == MISSING_COLUMN:
                _count_rest(path, mapping, intake)
            raise
        while waiting:
            yield next_gated()


def _with_absent_columns(chunk: SourceChunk, mapping: FeedMapping) -> SourceChunk:
    """A JSON object may leave out what it does not know: columns that no object of a chunk has are null."""
    absent = [name for name in mapping.source_columns() if name not in chunk.frame.columns]
    nulls = [pl.repeat(None, chunk.row_nrs.len(), dtype=pl.String(), eager=True).alias(name) for name in absent]
    return chunk.with_frame(chunk.frame.with_columns(nulls) if chunk.frame.width else pl.DataFrame(nulls))


def _count_rest(path: Path, mapping: FeedMapping, intake: Intake) -> None:
    """Count what a refused file offered, as far as it can be read."""
    with suppress(FileFault):
        intake.offered = 0
        for chunk in read_chunks(path, mapping.feed.format):
            intake.offered += chunk.offered


def sound_rows(intake: Intake, bucket: str) -> pl.DataFrame:
    """The sound rows of a bucket in file order, ids of content numbered."""
    rows = intake.sound.rows(bucket)
    for name in [n for n in rows.columns if n.endswith(BATCH_SUFFIX)]:
        rows = number_occurrences(rows, name.removesuffix(BATCH_SUFFIX), name)
    return rows
