"""The log as changes of silver's ledgers, in its order: files and settled events, by silver's own rules.

What a record changes is said by the functions that keep the silver tables: which facts and groups it concerns, their
ledger with and without it, and the difference of the two. Only where the earlier records come from is another place:
`twin_records` instead of the bronze table, which is behind the log most of the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import polars as pl

from replenish.cli.twin_records import TwinRecords, kept_columns
from replenish.contracts.dataset import CancellationRule, Dataset
from replenish.contracts.model import POLARS_TYPES, Column, Contract
from replenish.features.definitions.model import FeatureSet, FeatureSource
from replenish.features.online.postings import Posting, PostingBatch, postings_of

# The one reader of accepted parts; it deserves a public name.
from replenish.history.bronze import AcceptedFile, read_accepted
from replenish.history.cancelled_sales import match_cancellations
from replenish.history.ledger import build_ledger, first_versions
from replenish.history.reposting import Records, compare_postings, concerned_by, read_records
from replenish.history.silver import cancellation_rule
from replenish.stores.journal_entry import PART_BEARING, JournalRecord
from replenish.stores.journal_reader import JournalReader
from replenish.stores.layout import RootLayout

POSTINGS_AT_ONCE = 50_000
"""Postings made of a frame at a time: as Python objects they are many times as big."""

ROWS_TOGETHER = 4_000
"""Records of one stream that wait are taken in together up to so many rows: silver's rules cost as much for one row."""

_IS_GONE, _IS_AFTER = "_is_gone", "_is_after"
_CLOCKS_AND_POSTING = (*("event_time", "event_date", "knowledge_time", "posting_sign", "posting_kind", "version_nr"),)


class LedgerStep(NamedTuple):
    """What records of the log that follow each other change of one stream's ledger; frames have silver's columns."""

    seq: int
    """Of the last one."""
    stream: str | None
    """None: nothing that anybody reads."""
    removed: pl.DataFrame
    added: pl.DataFrame
    n_records: int = 1


class LedgerFeed:
    """Ledger changes of some streams in log order, and the memory that they need.

    Args:
        journal: The log, to read.
        layout: Where accepted parts lie.
        contracts: By stream.
        dataset: Says how cancellations find their sales.
        streams: Those that anybody reads.
        records: All that was said of each fact, up to its own place in the log.
    """

    def __init__(
        self,
        journal: JournalReader,
        layout: RootLayout,
        contracts: Mapping[str, Contract],
        dataset: Dataset,
        streams: Sequence[str],
        records: TwinRecords,
    ) -> None:
        self._journal, self._layout, self._records = journal, layout, records
        self._contracts = {stream: contracts[stream] for stream in streams}
        self._rules = {stream: cancellation_rule(dataset, stream) for stream in streams}

    def steps(self, after_seq: int, *, singly_through: int = 0) -> Iterator[LedgerStep]:
        """What the records behind a place of the log change, ascending; records without parts are left out.

        Records of one stream that follow each other and wait already make one step. Together the steps change the same
        wherever they are cut, also where the records were taken in before.

        Args:
            after_seq: A place of the log.
            singly_through: Up to here each record is a step: somebody may have it, and not the one behind it.
        """
        waiting: list[JournalRecord] = []
        for record in self._journal.records(after_seq, PART_BEARING):
            if waiting and not self._go_together(waiting, record, singly_through):
                yield self._step(waiting)
                waiting = []
            waiting.append(record)
        if waiting:
            yield self._step(waiting)

    def _go_together(self, waiting: Sequence[JournalRecord], record: JournalRecord, singly_through: int) -> bool:
        if (waiting[-1].seq or 0) <= singly_through or self._read_stream(waiting[-1]) != self._read_stream(record):
            return False
        return sum(map(_n_rows, (*waiting, record))) <= ROWS_TOGETHER

    def _read_stream(self, record: JournalRecord) -> str | None:
        """The stream of a record, where anybody reads what it brings."""
        stream = record.dataschema.partition("@")[0]
        return stream if stream in self._contracts and record.accepted_parts() else None

    def _step(self, records: Sequence[JournalRecord]) -> LedgerStep:
        seq, stream, chain = records[-1].seq or 0, self._read_stream(records[-1]), records[-1].chain or ""
        if stream is None:
            if seq > self._records.place[0]:
                self._records.add(None, None, seq, chain, ())
            return LedgerStep(seq, None, pl.DataFrame(), pl.DataFrame(), len(records))
        files = [AcceptedFile(record.seq or 0, _n_rows(record), self._paths(record)) for record in records]
        step = self.take_in(read_accepted(files, self._contracts[stream]), stream, seq, chain)
        return step._replace(n_records=len(records))

    def _paths(self, record: JournalRecord) -> tuple[Path, ...]:
        return tuple(self._layout.accepted / part["path"] for part in record.accepted_parts())

    def take_in(self, rows: pl.DataFrame, stream: str, seq: int, chain: str) -> LedgerStep:
        """What the bronze rows of some places of the log change; they are kept for what comes later.

        Args:
            rows: Bronze rows of a stream that is read, of places that follow each other.
            stream: Its name.
            seq: The last of these places.
            chain: Of the log at that place, in hex.
        """
        contract, rule = self._contracts[stream], self._rules[stream]
        new = rows.select(kept_columns(contract).keys())
        if rule is None and _are_all_new(new, contract):
            # Most records are such, and what silver's rules ask of them is asked once.
            added = first_versions(new, contract)
            removed = added.clear()
        else:
            removed, added = ledger_change_of(new, self._earlier(new, contract, rule), contract, rule)
        if seq > self._records.place[0]:
            self._records.add(new, contract, seq, chain, () if rule is None else rule.match_columns)
        return LedgerStep(seq, stream, removed, added)

    def _earlier(self, new: pl.DataFrame, contract: Contract, rule: CancellationRule | None) -> pl.DataFrame:
        """The records before the new ones that decide what these change."""
        key, before = list(contract.fact_key), new.select(pl.col("journal_seq").min()).item() - 1
        known = new.filter(pl.col("is_correction") | pl.col("is_retraction") | pl.col("is_cancellation"))
        earlier = self._records.of_facts(known.select(key).unique(), contract, before)
        if rule is None:
            return earlier
        match = list(rule.match_columns)
        groups = pl.concat([new.select(match), earlier.select(match)]).drop_nulls().unique()
        cancelling = new.filter("is_cancellation").select(match).drop_nulls().unique()
        of_groups = [
            self._records.of_groups(groups, contract, before, with_cancellation=True),
            # The first cancellation of a group looks at sales that nobody had to look at until now.
            self._records.of_groups(cancelling, contract, before, with_cancellation=False),
        ]
        return pl.concat([earlier, *of_groups]).unique()


def ledger_change_of(
    new: pl.DataFrame, earlier: pl.DataFrame, contract: Contract, rule: CancellationRule | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Postings that silver has to take out and to take in for new records: (removed, added), in silver's columns.

    Args:
        new: Bronze rows of one place of the log, or of some that follow each other.
        earlier: All records before of the facts that `new` speaks of again, and of all facts of the groups that its
            rows, or those facts, are or were in. More do no harm.
        contract: Of the stream.
        rule: How its cancellations find their sales, if it has any.
    """
    bronze = pl.concat([earlier, new])
    concerned = concerned_by(new, bronze.lazy(), contract, rule)
    fresh = first_versions(concerned.fresh, contract)
    if concerned.facts.is_empty() and concerned.groups is None:
        return fresh.clear(), fresh
    after = read_records(bronze.lazy(), contract, concerned, rule)
    is_earlier = pl.col("journal_seq") < new["journal_seq"].min()
    before = Records(after.facts.filter(is_earlier), after.groups.filter(is_earlier))
    ledgers = _both_ledgers(before.facts, after.facts, contract)
    if rule is not None and concerned.groups is not None:
        found = [match_cancellations(records.groups, concerned.groups, contract, rule) for records in (before, after)]
        ledgers = [pl.concat([ledger, matched.postings]) for ledger, matched in zip(ledgers, found, strict=True)]
    change = compare_postings(*ledgers)
    return change.removed, pl.concat([fresh, change.added])


def _are_all_new(rows: pl.DataFrame, contract: Contract) -> bool:
    """Whether each row is the first word on a fact of its own, as `concerned_by` judges it."""
    again = pl.col("is_correction") | pl.col("is_retraction") | pl.col("is_cancellation")
    return not rows.select((again | pl.struct(contract.fact_key).is_duplicated()).any()).item()


def _n_rows(record: JournalRecord) -> int:
    return sum(part["rows"] for part in record.accepted_parts())


def _both_ledgers(before: pl.DataFrame, after: pl.DataFrame, contract: Contract) -> list[pl.DataFrame]:
    """The ledgers of facts without and with the new records, in one pass: it costs much the same for any rows."""
    side = pl.Series(_IS_AFTER, [False] * before.height + [True] * after.height)
    both = build_ledger(pl.concat([before, after]).with_columns(side), _two_sided(contract))
    return [both.filter(which).drop(_IS_AFTER) for which in (~pl.col(_IS_AFTER), pl.col(_IS_AFTER))]


@cache
def _two_sided(contract: Contract) -> Contract:
    """The contract of facts that occur on two sides, each with records of its own."""
    side = Column(_IS_AFTER, "boolean", "Which side.")
    return replace(contract, columns=(*contract.columns, side), fact_key=(*contract.fact_key, _IS_AFTER))


def batch_for(feature_set: FeatureSet, step: LedgerStep) -> PostingBatch:
    """What a step changes for a set, key by key; made as it is read, so that a large file never lies there whole."""
    sources = [source for source in feature_set.sources if source.stream == step.stream]
    return PostingBatch(step.seq, _by_key(feature_set, sources, step))


def source_ledger(feature_set: FeatureSet, source: FeatureSource, silver: pl.DataFrame) -> pl.DataFrame:
    """Silver rows as a source's ledger: columns renamed and cast, nothing else."""
    columns = [pl.col(c.from_column).cast(POLARS_TYPES[c.logical_type]).alias(c.name) for c in source.columns]
    own = [name for name in (*feature_set.entity, *source.fact_key) if name not in _CLOCKS_AND_POSTING]
    return silver.select(*dict.fromkeys(own), *_CLOCKS_AND_POSTING, *columns)


def _by_key(feature_set: FeatureSet, sources: Sequence[FeatureSource], step: LedgerStep) -> Iterator[Posting]:
    entity = list(feature_set.entity)
    rows = pl.concat([step.removed, step.added]) if sources else step.removed
    if rows.is_empty():
        return
    gone = pl.Series(_IS_GONE, [True] * step.removed.height + [False] * (rows.height - step.removed.height))
    # One source at a time would bring a key twice: the rows of all sources of the stream stand together.
    marked = rows.with_columns(gone).sort([*entity, _IS_GONE], descending=[False] * len(entity) + [True])
    for some in _slices(marked, entity):
        are_gone = some[_IS_GONE].to_list()
        found = [
            postings_of(feature_set, source, source_ledger(feature_set, source, some), are_gone) for source in sources
        ]
        # The rows are in order already; of several sources the keys have to be brought together.
        yield from found[0] if len(found) == 1 else sorted(chain(*found), key=_order)


def _order(posting: Posting) -> tuple[object, ...]:
    return (*map(repr, posting.key), not posting.is_withdrawn)


def _slices(rows: pl.DataFrame, entity: list[str]) -> Iterator[pl.DataFrame]:
    """Slices of sorted rows of about `POSTINGS_AT_ONCE`, each with whole keys."""
    start = 0
    number = rows.select(pl.struct(entity).rle_id()).to_series() if rows.height > POSTINGS_AT_ONCE else None
    while start < rows.height:
        stop = min(start + POSTINGS_AT_ONCE, rows.height)
        if number is not None and stop < rows.height:
            last = number[stop - 1]
            stop = int((number <= last).sum())
        yield rows[start:stop]
        start = stop
