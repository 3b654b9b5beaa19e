"""Which sale a cancellation takes back: the newest earlier one of its group that still has units left.

A *group* holds the sales and cancellations that agree in the feed's match columns; a null never matches. Records of a
group are played in knowledge order. The matched part of a cancellation becomes a `cancellation` posting on the sale's
own event date at the cancellation's knowledge time, the rest a `return` posting, which is never demand. When a sale is
corrected or retracted later, its cancelled parts are taken back (sign +1) and, as far as the new version has units,
posted again; so the cancelled units of a sale never exceed its units at any instant.

The outcome depends on the records alone, not on when they arrived: ties in knowledge time are settled by event time and
fact key.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

Key = tuple[object, ...]
RETURN = "return"
CANCELLATION = "cancellation"


@dataclass(frozen=True)
class PlayedRecord:
    """One record of a fact as the matcher sees it; `index` leads back to its row."""

    index: int
    key: Key
    is_sale: bool
    """A version of a sale of this group; False: a cancellation or a retraction (also: moved to another group)."""
    is_cancellation: bool
    is_of_cancellation: bool
    """The fact is a cancellation at some time: its records follow the sales that became known at the same instant."""
    event_time: datetime | None
    knowledge_time: datetime
    amounts: tuple[int | None, ...]
    """Additive columns; the first is the units, the others follow in proportion."""
    arrival: tuple[int, int]


@dataclass(frozen=True)
class PlayedPosting:
    """One posting: the columns of row `index` with `amounts`, known since the record `known_by`."""

    index: int
    known_by: int
    kind: str
    sign: int
    amounts: tuple[int | None, ...]


@dataclass(frozen=True)
class CancellationOutcome:
    """How one cancellation fared when it became known, in units."""

    index: int
    units: int
    matched_units: int
    has_exact_sale: bool
    """A sale of the group with the same units had happened by then and was known, consumed or not."""


@dataclass
class _OpenSale:
    record: PlayedRecord
    parts: list[tuple[Key, tuple[int | None, ...]]] = field(default_factory=list)
    """Cancelled so far: the cancellation's key and the amounts taken back."""

    def left(self) -> int:
        return (self.record.amounts[0] or 0) - sum(amounts[0] or 0 for _, amounts in self.parts)

    def take(self, by: Key, units: int) -> tuple[int | None, ...]:
        """Consume `units`; other amounts in proportion of what is left, so that a whole sale is taken back exactly."""
        left = self.left()
        taken: list[int | None] = [units]
        for nr, amount in enumerate(self.record.amounts[1:], start=1):
            if amount is None:
                taken.append(None)
                continue
            rest = amount - sum(amounts[nr] or 0 for _, amounts in self.parts)
            taken.append(rest * units // left)
        self.parts.append((by, tuple(taken)))
        return tuple(taken)


class _Group:
    """The state of one group while its records are played."""

    def __init__(self, window: timedelta) -> None:
        self.window = window
        self.sales: dict[Key, _OpenSale] = {}
        self.open: list[tuple[datetime, Key]] = []
        self.returns: dict[Key, PlayedPosting] = {}
        self.earliest: dict[int, datetime] = {}
        self.postings: list[PlayedPosting] = []
        self.outcomes: list[CancellationOutcome] = []

    def play(self, record: PlayedRecord) -> None:
        if record.is_sale:
            if record.is_of_cancellation:
                self._undo(record)
            self._supersede(record)
        elif record.is_cancellation:
            self._undo(record)
            # The fact may have been a sale until now.
            self._withdraw(record)
            self._cancel(record)
        else:
            self._undo(record)
            self._withdraw(record)

    def _supersede(self, record: PlayedRecord) -> None:
        """A sale's new version; what was cancelled of the old one is cancelled of the new one, as far as it goes."""
        parts = self._withdraw(record)
        sale = self.sales[record.key] = _OpenSale(record)
        for by, amounts in parts:
            units = min(amounts[0] or 0, sale.left())
            if units > 0:
                self._post(record.index, record, CANCELLATION, -1, sale.take(by, units))
        if record.event_time is not None:
            units = record.amounts[0] or 0
            self.earliest[units] = min(self.earliest.get(units, record.event_time), record.event_time)
            bisect.insort(self.open, (record.event_time, record.key))

    def _withdraw(self, record: PlayedRecord) -> list[tuple[Key, tuple[int | None, ...]]]:
        """Drop the live version of this sale, if any; its cancelled parts are taken back and returned."""
        sale = self.sales.pop(record.key, None)
        if sale is None:
            return []
        for _, amounts in sale.parts:
            self._post(sale.record.index, record, CANCELLATION, 1, amounts)
        if sale.record.event_time is not None and (sale.record.event_time, record.key) in self.open:
            self.open.remove((sale.record.event_time, record.key))
        return sale.parts

    def _undo(self, record: PlayedRecord) -> None:
        """A cancellation was itself corrected or retracted: its postings are taken back, its sales are open again."""
        returned = self.returns.pop(record.key, None)
        if returned is not None:
            self._post(returned.index, record, RETURN, 1, returned.amounts)
        for key, sale in self.sales.items():
            mine = [amounts for by, amounts in sale.parts if by == record.key]
            if not mine:
                continue
            for amounts in mine:
                self._post(sale.record.index, record, CANCELLATION, 1, amounts)
            sale.parts = [part for part in sale.parts if part[0] != record.key]
            if sale.record.event_time is not None and (sale.record.event_time, key) not in self.open:
                bisect.insort(self.open, (sale.record.event_time, key))

    def _cancel(self, record: PlayedRecord) -> None:
        wanted = rest = record.amounts[0] or 0
        at = record.event_time
        if at is None:
            return
        has_exact = wanted in self.earliest and self.earliest[wanted] <= at
        place = bisect.bisect_right(self.open, at, key=lambda entry: entry[0])
        while rest > 0 and place > 0:
            place -= 1
            sold_at, key = self.open[place]
            if sold_at < at - self.window:
                break
            sale = self.sales[key]
            units = min(rest, sale.left())
            if units > 0:
                self._post(sale.record.index, record, CANCELLATION, -1, sale.take(record.key, units))
                rest -= units
            if sale.left() <= 0:
                # Used up: out of the way of the next search.
                del self.open[place]
        self.outcomes.append(CancellationOutcome(record.index, wanted, wanted - rest, has_exact))
        if rest > 0:
            amounts = (rest, *(None if a is None else a * rest // wanted for a in record.amounts[1:]))
            self._post(record.index, record, RETURN, -1, amounts)
            self.returns[record.key] = self.postings[-1]

    def _post(self, index: int, by: PlayedRecord, kind: str, sign: int, amounts: tuple[int | None, ...]) -> None:
        self.postings.append(PlayedPosting(index, by.index, kind, sign, amounts))


def play_group(
    records: Iterable[PlayedRecord], window: timedelta
) -> tuple[list[PlayedPosting], list[CancellationOutcome]]:
    """Postings and outcomes of one group.

    Args:
        records: Every known record of every fact that belongs, or once belonged, to the group; in any order.
        window: A sale older than this before the cancellation is not looked at.
    """
    group = _Group(window)
    for record in sorted(records, key=_knowledge_order):
        group.play(record)
    return group.postings, group.outcomes


def _knowledge_order(record: PlayedRecord) -> tuple[object, ...]:
    """Sales before cancellations of the same instant; a fact's own records in arrival order."""
    if record.is_of_cancellation:
        return (record.knowledge_time, 1, record.event_time, record.key, record.arrival)
    return (record.knowledge_time, 0, record.arrival)
