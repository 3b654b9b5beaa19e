"""Silver's ledgers of some entities as the log up to a place makes them, built again by silver's own rules."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from replenish.contracts.dataset import CancellationRule, Dataset
from replenish.contracts.model import Contract
from replenish.history.bronze import bronze_table
from replenish.history.cancelled_sales import match_cancellations
from replenish.history.ledger import build_ledger, silver_columns
from replenish.history.reposting import Concerned, read_records
from replenish.history.silver import cancellation_rule, silver_table
from replenish.stores.lake import DeltaLake

KEPT_LEDGERS = 64
"""Ledgers of single keys that are kept: the suspects of one difference ask for the same ones again and again."""


class SilverAt:
    """The `LedgerHistory` of a lake: silver as it is, and from bronze as it was.

    Args:
        lake: Bronze and silver.
        contracts: By stream.
        dataset: Says how cancellations find their sales.
    """

    def __init__(self, lake: DeltaLake, contracts: Mapping[str, Contract], dataset: Dataset) -> None:
        self._lake, self._contracts, self._dataset = lake, contracts, dataset
        self._kept: dict[tuple[object, ...], pl.DataFrame] = {}

    def silver_through(self, stream: str, keys: pl.DataFrame, seq: int | None) -> pl.DataFrame:
        """Postings of some entities, see `LedgerHistory`; none where the stream has no table."""
        contract = self._contracts[stream]
        table = bronze_table(stream) if seq is not None else silver_table(stream)
        if not self._lake.has(table):
            return pl.DataFrame(schema=silver_columns(contract))
        if seq is None:
            rows = self._lake.scan(table).join(keys.lazy(), on=keys.columns, how="semi", nulls_equal=True)
            return rows.select(list(silver_columns(contract))).collect()
        place = (stream, seq, *keys.rows())
        if place not in self._kept:
            if len(self._kept) >= KEPT_LEDGERS:
                self._kept.clear()
            self._kept[place] = self._built(contract, keys, seq)
        return self._kept[place]

    def seqs_of(self, stream: str, keys: pl.DataFrame, through: int) -> list[int]:
        """Places of the log up to one that hold records of these entities, newest first."""
        if not self._lake.has(bronze_table(stream)):
            return []
        records = self._lake.scan(bronze_table(stream)).filter(pl.col("journal_seq") <= through)
        of_keys = records.join(keys.lazy(), on=keys.columns, how="semi", nulls_equal=True)
        return of_keys.select("journal_seq").unique().collect()["journal_seq"].sort(descending=True).to_list()

    def _built(self, contract: Contract, keys: pl.DataFrame, seq: int) -> pl.DataFrame:
        """The ledger of every fact that ever was of these entities, then what of it is theirs."""
        bronze = self._lake.scan(bronze_table(contract.stream)).filter(pl.col("journal_seq") <= seq)
        fact_key = list(contract.fact_key)
        of_keys = bronze.join(keys.lazy(), on=keys.columns, how="semi", nulls_equal=True)
        facts = of_keys.select(fact_key).unique().collect()
        rule = cancellation_rule(self._dataset, contract.stream)
        groups = None if rule is None else _cancelled_groups(bronze, facts, rule, fact_key)
        concerned = Concerned(bronze.clear().collect(), facts, groups, None)
        records = read_records(bronze, contract, concerned, rule)
        ledger = build_ledger(records.facts, contract)
        if rule is not None and groups is not None:
            ledger = pl.concat([ledger, match_cancellations(records.groups, groups, contract, rule).postings])
        return ledger.join(keys, on=keys.columns, how="semi", nulls_equal=True)


def _cancelled_groups(
    bronze: pl.LazyFrame, facts: pl.DataFrame, rule: CancellationRule, fact_key: list[str]
) -> pl.DataFrame | None:
    """The groups of these facts that have a cancellation; None where none has."""
    match = list(rule.match_columns)
    of_facts = bronze.join(facts.lazy(), on=fact_key, how="semi").select(match).unique()
    cancelled = bronze.filter("is_cancellation").select(match).unique()
    groups = of_facts.join(cancelled, on=match, how="semi", nulls_equal=True).collect()
    return groups if groups.height else None
