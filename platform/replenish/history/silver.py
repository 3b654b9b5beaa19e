"""Silver: brings a stream's ledger of versions up to date with bronze.

A run takes the rows that bronze gained since silver's own offset. First versions are simply appended. Where a fact had
other records before, or a cancellation may find another sale, the ledger of the facts concerned is built anew from all
their bronze records and compared with what silver holds: added postings are appended; only where a posting has to go,
because a record arrived out of knowledge order, are the months concerned written anew, in the same single commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from replenish.contracts.dataset import CancellationRule, Dataset
from replenish.contracts.model import Contract
from replenish.errors import ContractError
from replenish.history.bronze import bronze_table
from replenish.history.cancelled_sales import match_cancellations
from replenish.history.ledger import EVENT_MONTH, build_ledger, first_versions, silver_columns
from replenish.history.reposting import Change, compare_postings, concerned_by, read_postings, read_records
from replenish.history.stored_tables import fit_table
from replenish.stores.delta_values import Filter
from replenish.stores.lake import Audit, DeltaLake, TableCommit, accept_all
from replenish.stores.lake_maintenance import compact_when_due

SILVER_APP = "silver"
"""Delta app transaction of the silver tables; its version is the last journal seq inside."""

CANCELLATION_TABLE = "monitoring/cancellations"
"""One row per step that took cancellations: how many of its cancelled lines found their sale."""

ROWS_PER_STEP = 1_000_000
"""A commit takes whole journal records up to about this many rows, which bounds memory."""


@dataclass(frozen=True)
class SilverUpdate:
    """What one update did to a silver table; counts cover the bronze rows it took."""

    commit: TableCommit
    new_versions: int = 0
    reversals: int = 0
    retractions: int = 0
    cancellations: int = 0
    cancellations_matched: int = 0
    """Wholly matched with earlier sales."""
    cancellations_partly: int = 0
    cancellations_unmatched: int = 0
    cancellations_exact: int = 0
    """An earlier sale of the group had exactly the cancelled units, consumed before or not."""
    rewritten_months: int = 0

    def plus(self, later: SilverUpdate) -> SilverUpdate:
        """Both updates, one after the other."""
        counts = {name: getattr(self, name) + getattr(later, name) for name in _COUNTS}
        return SilverUpdate(later.commit, **counts)


_STAYS_IN_BRONZE = ("feed_id", "delivery_id", "contract_version", "unmapped")
"""Says by which door a row came; silver is the same through any door."""

_COUNTS = tuple(name for name in SilverUpdate.__dataclass_fields__ if name != "commit")


def silver_table(stream: str) -> str:
    """Name of a stream's silver table."""
    return f"silver/{stream}"


def cancellation_rule(dataset: Dataset, stream: str) -> CancellationRule | None:
    """The one way in which cancellations of a stream find their sale; None where no feed declares one.

    Raises:
        ContractError: Two feeds of the stream declare different rules, so neither could be applied to all sales.
    """
    rules = [feed.cancellation for feed in dataset.feeds_of(stream) if feed.cancellation is not None]
    shapes = {(rule.match_columns, rule.window_days) for rule in rules}
    if len(shapes) > 1:
        raise ContractError("feeds of one stream match cancellations differently", stream=stream)
    return rules[0] if rules else None


def update_silver(contract: Contract, dataset: Dataset, lake: DeltaLake, audit: Audit = accept_all) -> SilverUpdate:
    """Bring `silver/<stream>` up to date with its bronze table; a second call changes nothing.

    The table is created, empty, even where bronze has no rows. Memory follows the size of one journal record and of the
    months it corrects, not the history.

    Raises:
        AuditFailed: A step did not pass `audit`; steps before it are committed, it is not.
        IncompatibleSchema: The table was written under a contract that this one does not fit.
    """
    table = silver_table(contract.stream)
    if not lake.has(table):
        empty = pl.DataFrame(schema=silver_columns(contract))
        lake.append(table, empty, partition_by=_partition(contract), app=(SILVER_APP, 0))
    fit_table(table, contract, "silver", silver_columns(contract), lake)
    total = SilverUpdate(lake.state(table))
    if not lake.has(bronze_table(contract.stream)):
        return total
    rule = cancellation_rule(dataset, contract.stream)
    # One version of bronze for the whole update: what is appended meanwhile is the next update's.
    bronze = _Pinned(lake, bronze_table(contract.stream))
    for first, last in _steps(lake, bronze, contract):
        total = total.plus(_take_step(contract, rule, lake, bronze, audit, first, last))
        compact_when_due(lake, total.commit)
    return total


class _Pinned:
    """A table as it is now: everything read through this is of one version, whatever is committed meanwhile."""

    def __init__(self, lake: DeltaLake, table: str) -> None:
        self._lake, self._table, self._version = lake, table, lake.version(table)

    def scan(self) -> pl.LazyFrame:
        """A lazy frame over the pinned version."""
        return self._lake.scan(self._table, version=self._version)

    def read(self, *filters: Filter) -> pl.DataFrame:
        """Rows of the pinned version that pass the filters."""
        return self._lake.read(self._table, version=self._version, filters=filters)


def _partition(contract: Contract) -> list[str]:
    return [] if contract.is_reference else [EVENT_MONTH]


def _steps(lake: DeltaLake, bronze: _Pinned, contract: Contract) -> Iterator[tuple[int, int]]:
    """Spans (first, last] of journal seqs with about `ROWS_PER_STEP` rows each."""
    after = lake.app_version(silver_table(contract.stream), SILVER_APP) or 0
    sizes = (
        bronze.scan().filter(pl.col("journal_seq") > after).group_by("journal_seq").len().sort("journal_seq").collect()
    )
    first, last, n_rows = after, after, 0
    for seq, size in sizes.iter_rows():
        if n_rows and n_rows + size > ROWS_PER_STEP:
            yield first, last
            first, n_rows = last, 0
        last, n_rows = seq, n_rows + size
    if n_rows:
        yield first, last


def _take_step(
    contract: Contract,
    rule: CancellationRule | None,
    lake: DeltaLake,
    pinned_bronze: _Pinned,
    audit: Audit,
    first: int,
    last: int,
) -> SilverUpdate:
    """One commit: everything that the bronze rows of seqs (first, last] change."""
    silver = _Pinned(lake, silver_table(contract.stream))
    bronze = pinned_bronze.scan().drop(_STAYS_IN_BRONZE).filter(pl.col("journal_seq") <= last)
    new = bronze.filter(pl.col("journal_seq") > first).collect()
    concerned = concerned_by(new, bronze, contract, rule)
    records = read_records(bronze, contract, concerned, rule)
    after = build_ledger(records.facts, contract)
    fared = None
    if rule is not None and concerned.groups is not None:
        fared = match_cancellations(records.groups, concerned.groups, contract, rule)
        after = pl.concat([after, fared.postings])
    before = read_postings(silver.scan(), contract, concerned, rule)
    change = compare_postings(before, after)
    fresh = first_versions(concerned.fresh, contract)
    counts: dict[str, int] = {}
    if fared is not None:
        counts = _count_outcomes(fared.outcomes.filter(pl.col("journal_seq") > first))
        _write_counts(contract.stream, counts, lake, last)
    commit, n_months = _commit(contract, lake, silver, audit, fresh, change, (first, last))
    return SilverUpdate(
        commit,
        new_versions=new.filter(~pl.col("is_retraction") & ~pl.col("is_cancellation")).height,
        reversals=change.added.filter(pl.col("posting_kind") == "reversal").height,
        retractions=new.filter("is_retraction").height,
        rewritten_months=n_months,
        **counts,
    )


def _commit(
    contract: Contract,
    lake: DeltaLake,
    silver: _Pinned,
    audit: Audit,
    fresh: pl.DataFrame,
    change: Change,
    span: tuple[int, int],
) -> tuple[TableCommit, int]:
    """Append, or replace the months in which postings have to go; also the number of months written anew."""
    first, last = span
    table, app = silver_table(contract.stream), (SILVER_APP, last)
    added = pl.concat([fresh, change.added])
    if change.removed.is_empty():
        audit(added)
        return lake.append(table, added, partition_by=_partition(contract), app=app, app_from=first), 0
    if contract.is_reference:
        rows = pl.concat([change.without_removed(silver.read()), added])
        audit(rows)
        return lake.overwrite(table, rows, app=app, app_from=first), 1
    months = sorted({*added[EVENT_MONTH].unique(), *change.removed[EVENT_MONTH].unique()})
    kept = change.without_removed(silver.read((EVENT_MONTH, "in", months)))
    rows = pl.concat([kept, added])
    audit(rows)
    commit = lake.replace_partitions(table, rows, column=EVENT_MONTH, values=months, app=app, app_from=first)
    return commit, len(months)


def _write_counts(stream: str, counts: dict[str, int], lake: DeltaLake, last: int) -> None:
    """Keep how cancellations fared. Before the ledger's commit: a step that is done again finds its counts written."""
    row = pl.DataFrame([{"stream": stream, "journal_seq": last, **counts}])
    lake.append(CANCELLATION_TABLE, row, app=(f"{SILVER_APP}/{stream}", last))


def _count_outcomes(outcomes: pl.DataFrame) -> dict[str, int]:
    units, matched = pl.col("units"), pl.col("matched_units")
    return outcomes.select(
        cancellations=pl.len(),
        cancellations_matched=(matched == units).sum(),
        cancellations_partly=((matched > 0) & (matched < units)).sum(),
        cancellations_unmatched=((matched == 0) & (units > 0)).sum(),
        cancellations_exact=pl.col("has_exact_sale").sum(),
    ).row(0, named=True)
