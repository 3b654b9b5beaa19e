"""Events of declared feeds at the door: mapped and judged as rows of a file are, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from replenish.contracts.dataset import Dataset, Feed
from replenish.contracts.event_struct import MAX_CLOCK_SKEW, PLANNED_TIMES
from replenish.contracts.model import Contract
from replenish.contracts.validate import compile_row_checks
from replenish.errors import EventFault, FileFault
from replenish.ingest.events.event_frame import SourceEvent, source_frame
from replenish.ingest.gate import gate_chunk
from replenish.ingest.mapping import FeedMapping
from replenish.ingest.readers import SourceChunk
from replenish.ingest.reasons import CLOCK_SKEW


class DeclaredFeedJudge:
    """The rules of one declared feed, compiled."""

    def __init__(self, feed: Feed, contract: Contract, dataset: Dataset) -> None:
        self._feed, self._contract, self._dataset = feed, contract, dataset
        self._checks = compile_row_checks(contract)
        may_lie_ahead = contract.is_reference or contract.event_time in PLANNED_TIMES
        self._present = ("knowledge_time",) if may_lie_ahead else ("knowledge_time", "event_time")

    def faults(self, events: Sequence[tuple[bytes, bool]], now: datetime) -> dict[int, EventFault]:
        """By place in the batch what is wrong with an event; sound ones are left out.

        Args:
            events: Body (a JSON object, strictly read before) and whether it is a delete.
            now: Arrival.
        """
        try:
            return self._faults_of([SourceEvent(nr, *event, now) for nr, event in enumerate(events)], now)
        except FileFault as fault:
            if len(events) == 1:
                return {0: EventFault(fault.reason, str(fault))}
        # A fault that ends a file ends here one event, and which one is found by asking each alone.
        alone = [self.faults([event], now) for event in events]
        return {nr: faults[0] for nr, faults in enumerate(alone) if faults}

    def _faults_of(self, events: Sequence[SourceEvent], now: datetime) -> dict[int, EventFault]:
        mapping = FeedMapping(self._feed, self._contract, self._dataset, now)
        source = source_frame(events, mapping, is_identity=False)
        return self.faults_of_frame(source.frame, source.row_nrs, now)

    def faults_of_frame(self, frame: pl.DataFrame, row_nrs: pl.Series, now: datetime) -> dict[int, EventFault]:
        """As `faults`, for a door that has the source's columns as text already; by `row_nrs`.

        Raises:
            FileFault: One of the rows has a fault that would end a file.
        """
        mapping = FeedMapping(self._feed, self._contract, self._dataset, now)
        gated = gate_chunk(SourceChunk(frame, row_nrs), mapping, self._checks)
        letters = gated.dead.select("row_nr", "reason", "field", "rule").iter_rows()
        faults = {nr: EventFault(reason, rule or reason, field=field) for nr, reason, field, rule in letters}
        for name in self._present:
            ahead = gated.sound.filter(pl.col(name) > now + MAX_CLOCK_SKEW)["row_nr"]
            rule = f"{name} lies at most 5 minutes ahead"
            faults |= {nr: EventFault(CLOCK_SKEW, rule, field=name) for nr in ahead if nr not in faults}
        return faults
