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

KEPT_RECORDS = 8
"""Sets of entities whose records are kept: the suspects of one difference ask for the same ones again and again."""


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
        """Records by stream and entities."""

    def silver_through(self, stream: str, keys: pl.DataFrame, seq: int | None) -> pl.DataFrame:
        """Postings of some entities, see `LedgerHistory`; none where the stream has no table."""
        contract = self._contracts[stream]
        table = bronze_table(stream) if seq is not None else silver_table(stream)
        if not self._lake.has(table):
            return pl.DataFrame(schema=silver_columns(contract))
        if seq is None:
            rows = self._lake.scan(table).join(keys.lazy(), on=keys.columns, how="semi", nulls_equal=True)
            return rows.select(list(silver_columns(contract))).collect()
        return self._built(contract, keys, seq)

    def seqs_of(self, stream: str, keys: pl.DataFrame, through: int) -> list[int]:
        """Places of the log up to one that hold records of these entities, newest first."""
        if not self._lake.has(bronze_table(stream)):
            return []
        of_keys = self._records(self._contracts[stream], keys).join(keys, on=keys.columns, how="semi", nulls_equal=True)
        return of_keys.filter(pl.col("journal_seq") <= through)["journal_seq"].unique().sort(descending=True).to_list()

    def _built(self, contract: Contract, keys: pl.DataFrame, seq: int) -> pl.DataFrame:
        """The ledger of every fact that ever was of these entities, then what of it is theirs."""
        bronze = self._records(contract, keys).filter(pl.col("journal_seq") <= seq).lazy()
        rule = cancellation_rule(self._dataset, contract.stream)
        concerned = _concerned(bronze, contract, keys, rule)
        records = read_records(bronze, contract, concerned, rule)
        ledger = build_ledger(records.facts, contract)
        if rule is not None and concerned.groups is not None:
            postings = match_cancellations(records.groups, concerned.groups, contract, rule).postings
            ledger = pl.concat([ledger, postings])
        return ledger.join(keys, on=keys.columns, how="semi", nulls_equal=True)

    def _records(self, contract: Contract, keys: pl.DataFrame) -> pl.DataFrame:
        """Every record of the whole log that a ledger of these entities may rest on, at whatever place."""
        place = (contract.stream, *keys.rows())
        if place not in self._kept:
            if len(self._kept) >= KEPT_RECORDS:
                self._kept.clear()
            bronze = self._lake.scan(bronze_table(contract.stream))
            rule = cancellation_rule(self._dataset, contract.stream)
            records = read_records(bronze, contract, _concerned(bronze, contract, keys, rule), rule)
            self._kept[place] = pl.concat([records.facts, records.groups]).unique(["journal_seq", "row_nr"])
        return self._kept[place]


def _concerned(
    bronze: pl.LazyFrame, contract: Contract, keys: pl.DataFrame, rule: CancellationRule | None
) -> Concerned:
    """The facts that ever were of some entities, and the groups in which cancellations look for them."""
    fact_key = list(contract.fact_key)
    of_keys = bronze.join(keys.lazy(), on=keys.columns, how="semi", nulls_equal=True)
    facts = of_keys.select(fact_key).unique().collect()
    groups = None if rule is None else _cancelled_groups(bronze, facts, rule, fact_key)
    return Concerned(bronze.clear().collect(), facts, groups, None)


def _cancelled_groups(
    bronze: pl.LazyFrame, facts: pl.DataFrame, rule: CancellationRule, fact_key: list[str]
) -> pl.DataFrame | None:
    """The groups of these facts that have a cancellation; None where none has."""
    match = list(rule.match_columns)
    of_facts = bronze.join(facts.lazy(), on=fact_key, how="semi").select(match).unique()
    cancelled = bronze.filter("is_cancellation").select(match).unique()
    groups = of_facts.join(cancelled, on=match, how="semi", nulls_equal=True).collect()
    return groups if groups.height else None
