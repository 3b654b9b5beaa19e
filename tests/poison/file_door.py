"""Poisoned files through the real file door, in small roots, each checked against what was offered."""

from __future__ import annotations

import ctypes
import gc
from dataclasses import replace
from pathlib import Path
from random import Random

import pyarrow as pa

from replenish.ingest.door import ingest_file
from replenish.ingest.reasons import REASONS
from replenish.stores.journal import Journal
from replenish.stores.layout import RootLayout
from tests.poison.broken_files import broken_file
from tests.poison.facts import Fact, sound_fact
from tests.poison.file_poison import csv_file, jsonl_file
from tests.poison.judge import Tally, judge_reasons, resident_mb
from tests.poison.root import CONTRACT, DATASET, NOW, judge_settled

FILES_PER_ROOT = 100
ROWS_PER_FILE, BAD_PER_FILE = 40, 6


def poison_file_door(folder: Path, n_inputs: int, seed: int) -> Tally:
    """Offer files until `n_inputs` poisoned rows or files were offered."""
    rng, tally = Random(seed), Tally("file")
    next_fact = 0
    warm_mb = 0.0
    n_roots = 0
    while tally.inputs < n_inputs:
        layout = RootLayout(folder / f"root-{n_roots}")
        next_fact = _one_root(layout, rng, tally, next_fact, n_inputs)
        n_roots += 1
        _give_back()
        # The first root loads libraries and fills the allocator's pools.
        warm_mb = resident_mb() if n_roots == 1 else warm_mb
    tally.grown_mb = resident_mb() - warm_mb
    return tally


def _give_back() -> None:
    """Return what allocators keep for later: it is bounded by the greatest files, and no growth."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def _one_root(layout: RootLayout, rng: Random, tally: Tally, next_fact: int, n_inputs: int) -> int:
    layout.drop.mkdir(parents=True)
    journal = Journal(layout.journal)
    by_type = {feed.format.type: feed for feed in DATASET.feeds}
    acceptable: dict[str, Fact] = {}
    for nr in range(FILES_PER_ROOT):
        if tally.inputs >= n_inputs:
            break
        facts = [sound_fact(next_fact + i, rng) for i in range(ROWS_PER_FILE)]
        next_fact += ROWS_PER_FILE
        draw, kind, n_rows = rng.random(), "rows", None
        if draw < 0.25:
            kind, file_type, content, judged = broken_file(rng, facts)
            tally.inputs += 1
        elif draw < 0.7:
            file_type, (content, judged, n_rows) = "csv", csv_file(rng, facts, n_bad=BAD_PER_FILE)
            tally.inputs += BAD_PER_FILE
        else:
            file_type, (content, judged, n_rows) = "jsonl", jsonl_file(rng, facts, n_bad=BAD_PER_FILE)
            tally.inputs += BAD_PER_FILE
        path = layout.drop / f"f{nr}"
        path.write_bytes(content)
        # Damage inside a sound Parquet page may read as another number: only that nothing crashes is judged there.
        target = layout if judged is not None else replace(layout, root=layout.root / f"damaged-{nr}")
        log = journal if judged is not None else Journal(target.journal)
        try:
            verdict = ingest_file(path, by_type[file_type], CONTRACT, DATASET, log, target, now=NOW)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            # BaseException: a panic of the frame library is no Exception.
            tally.blame(f"{kind} ({file_type}): {error!r:.300}")
            continue
        finally:
            if log is not journal:
                log.close()
        path.unlink()
        if n_rows is not None and verdict.accepted and verdict.offered != n_rows:
            tally.blame(f"{kind} ({file_type}, file {nr}): {n_rows} rows, {verdict.offered} counted as offered")
        what = f"{kind} ({file_type}, file {nr})"
        tally.count(verdict.accepted, verdict.dead, verdict.duplicate, verdict.offered, what)
        judge_reasons(verdict.reasons, REASONS, tally)
        acceptable |= judged or {}
    journal.close()
    judge_settled(layout, acceptable, tally)
    return next_fact
