"""Histories of the oracle as a twin gets them: what a delivery changes of the ledger, batch by batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl

from replenish.features.definitions.model import FeatureSet
from replenish.features.online.postings import Posting, PostingBatch, postings_of
from tests.oracle.compare import Batch
from tests.oracle.evaluators import SOURCE
from tests.oracle.frames import ledger_frame, ledger_rows
from tests.oracle.histories import History, Seeded, ledger_of, pick
from tests.oracle.known_at import Known, known_values


def deliveries(histories: Sequence[History], chooser: Seeded, n_cuts: int) -> Iterator[list[History]]:
    """The histories as far as they are told after each of some deliveries: any order of arrival, the last has all."""
    arrives = [[chooser.whole(1, n_cuts) for _ in history.statements] for history in histories]
    for cut in range(1, n_cuts + 1):
        yield [
            replace(
                history,
                statements=tuple(s for s, at in zip(history.statements, ats, strict=True) if at <= cut),
                # A cancellation stands on a version, so it comes when all of them are told.
                cancellations=history.cancellations if cut == n_cuts else (),
            )
            for history, ats in zip(histories, arrives, strict=True)
        ]


def ledger_change(before: Counter[Posting], after: Counter[Posting], seq: int) -> PostingBatch:
    """Key by key, withdrawn postings first, then new ones."""
    gone = [posting._replace(is_withdrawn=True) for posting in (before - after).elements()]
    return PostingBatch(seq, sorted([*gone, *(after - before).elements()], key=lambda posting: posting.key))


def postings_told(batch: Batch, histories: Sequence[History], feature_set: FeatureSet) -> Counter[Posting]:
    """The whole ledger of some histories as postings of a twin."""
    rows = [row for history in histories for row in ledger_rows(history, batch.setting)]
    ledger = ledger_frame(rows) if rows else pl.DataFrame(schema=ledger_frame([]).schema)
    return Counter(postings_of(feature_set, feature_set.source(SOURCE), ledger))


def expected_values(batch: Batch, history: History, key: tuple[Any, ...], as_of: datetime) -> dict[str, Known]:
    """The oracle's answer on what a history tells."""
    setting = batch.setting
    return known_values(batch.features, ledger_of(history), key, as_of, setting.zone, setting.cutoff, setting.kinds)


def questions(batch: Batch, chooser: Seeded, n_cuts: int) -> list[list[tuple[int, tuple[str, ...], datetime]]]:
    """(history, key, as_of) to ask after each delivery; `as_of` ascends, as a twin needs it."""
    rows = [
        (nr, key[: batch.setting.n_entity], as_of)
        for nr, history in enumerate(batch.histories)
        for key, as_of in history.spine
    ]
    rows.sort(key=lambda row: row[2])
    cuts = sorted(chooser.whole(0, len(rows)) for _ in range(n_cuts - 1))
    ends = [*cuts, len(rows)]
    return [rows[start:end] for start, end in zip([0, *cuts], ends, strict=True)]


def some_limit(chooser: Seeded) -> int | None:
    """A limit on what is kept, tight ones more often."""
    return pick(chooser, (1, 1, 2, 3, None))
