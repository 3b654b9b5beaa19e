"""The ledger of versions: every fact's versions and their reversals, as silver keeps them.

A version of a fact adds its columns with sign +1 at its knowledge time. When a later record of the same fact arrives, a
reversal takes exactly these columns back with sign -1 at the knowledge time of that record; a retraction brings nothing
new, so only the reversal remains. What was known at an instant is then a plain signed sum; nothing is ever updated.

Records of one fact are ordered by knowledge time, then by arrival; one that says what the record before it says brings
nothing new and is passed over. The ledger depends on that order alone: a record that arrives late, with an earlier
knowledge time, gives the same ledger as one that came in time.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from replenish.bitemporal import says_what_is_above
from replenish.contracts.model import POSTING_COLUMNS, Contract

VERSION = "version"
REVERSAL = "reversal"
ARRIVAL_ORDER = ("knowledge_time", "journal_seq", "row_nr")
EVENT_MONTH = "event_month"
"""Partition of silver event tables: year * 100 + month of `event_date`."""


def silver_columns(contract: Contract) -> dict[str, pl.DataType]:
    """Columns of a silver table as stored: those of the contract, and the partition column of event streams."""
    month: dict[str, pl.DataType] = {} if contract.is_reference else {EVENT_MONTH: pl.Int32()}
    return contract.silver_schema | month


def build_ledger(records: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Versions and reversals of facts.

    Args:
        records: Bronze rows; all known records of every fact that occurs, in any order. Cancellations are no versions,
            but end the version of a fact that was a sale before.
        contract: Names the fact key.

    Returns:
        Silver rows (`silver_columns`), in no promised order.
    """
    numbered = with_version_nr(ordered_news(records, contract), contract.fact_key).with_columns(
        _superseded=pl.col("_fact") == pl.col("_fact").shift(-1),
        _next_time=pl.col("knowledge_time").shift(-1),
        _next_date=pl.col("knowledge_date").shift(-1),
    )
    versions = numbered.filter(~(pl.col("is_retraction") | pl.col("is_cancellation")))
    reversals = versions.filter("_superseded").with_columns(knowledge_time="_next_time", knowledge_date="_next_date")
    return pl.concat([as_postings(versions, contract, VERSION, 1), as_postings(reversals, contract, REVERSAL, -1)])


def ordered_news(records: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Records of facts by key and arrival, without those that say what the one before them says."""
    ordered = records.sort([*contract.fact_key, *ARRIVAL_ORDER])
    return ordered.filter(~says_what_is_above(contract.fact_key, contract.content_columns))


def first_versions(records: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Silver rows of facts that occur once and were unknown before: one version each."""
    return as_postings(records.with_columns(version_nr=pl.lit(1, pl.Int32)), contract, VERSION, 1)


def with_version_nr(ordered: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """`ordered` (by key and arrival) with `_fact`, a number per fact, and `version_nr`, from 1 within the fact."""
    is_version = ~pl.col("is_retraction")
    return ordered.with_columns(_fact=pl.struct(key).rle_id()).with_columns(
        version_nr=is_version.cast(pl.Int32).cum_sum().over("_fact").cast(pl.Int32)
    )


def as_postings(rows: pl.DataFrame, contract: Contract, kind: str, sign: int) -> pl.DataFrame:
    """Rows with `version_nr` as silver rows of one kind and sign."""
    posted = rows.with_columns(
        posting_kind=pl.lit(kind, POSTING_COLUMNS["posting_kind"]),
        posting_sign=pl.lit(sign, POSTING_COLUMNS["posting_sign"]),
    )
    return in_silver_form(posted, contract)


def in_silver_form(postings: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Postings with exactly the columns of the silver table, the month added."""
    if not contract.is_reference:
        day = pl.col("event_date")
        month = day.dt.year() * 100 + day.dt.month().cast(pl.Int32)
        postings = postings.with_columns(month.cast(pl.Int32).alias(EVENT_MONTH))
    return postings.select(pl.col(name).cast(dtype) for name, dtype in silver_columns(contract).items())
