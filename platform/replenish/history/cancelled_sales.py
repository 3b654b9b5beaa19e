"""Cancellation postings of whole frames: records are split into groups, played, and turned into silver rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

import polars as pl

from replenish.contracts.dataset import CancellationRule
from replenish.contracts.model import POSTING_COLUMNS, Contract
from replenish.errors import ContractError
from replenish.history.cancellations import CancellationOutcome, PlayedPosting, PlayedRecord, play_group
from replenish.history.ledger import ARRIVAL_ORDER, in_silver_form, ordered_news, silver_columns, with_version_nr

QUANTITY = "units"
"""The additive column that a cancellation takes back; the other additive ones follow in proportion."""


@dataclass(frozen=True)
class CancelledSales:
    """Silver rows of kind `cancellation` and `return`, and how each cancellation fared.

    `outcomes` has one row per cancellation record: `journal_seq`, `row_nr`, `units`, `matched_units`, `has_exact_sale`.
    """

    postings: pl.DataFrame
    outcomes: pl.DataFrame


def groups_of(records: pl.DataFrame, match_columns: Sequence[str]) -> pl.DataFrame:
    """The distinct groups that occur; rows with a null in a match column belong to none."""
    return records.select(match_columns).drop_nulls().unique()


def match_cancellations(
    records: pl.DataFrame, groups: pl.DataFrame, contract: Contract, rule: CancellationRule
) -> CancelledSales:
    """Match the cancellations of some groups with their sales.

    Args:
        records: Bronze rows: every known record of every fact that has one in `groups`.
        groups: Values of the match columns; with a null in one, cancellations that can match nothing.
        contract: The stream's contract, with a column `units`.
        rule: Match columns and window of the feed.

    Raises:
        ContractError: The stream has no additive column `units`, or lacks a match column.
    """
    amounts = _amount_columns(contract, rule)
    ordered = with_version_nr(ordered_news(records, contract), contract.fact_key)
    ordered = ordered.with_row_index("_index").with_columns(
        pl.col("_index").cast(pl.Int64), _of_cancellation=pl.col("is_cancellation").any().over("_fact")
    )
    postings: list[PlayedPosting] = []
    outcomes: list[CancellationOutcome] = []
    window = timedelta(days=rule.window_days)
    for group in _groups_to_play(ordered, groups, contract, rule, amounts):
        posted, fared = play_group(group, window)
        postings += posted
        outcomes += fared
    return CancelledSales(_silver_rows(ordered, postings, contract, amounts), _outcome_rows(ordered, outcomes))


def _amount_columns(contract: Contract, rule: CancellationRule) -> tuple[str, ...]:
    if QUANTITY not in contract.additive_columns:
        raise ContractError("cancellations need an additive column", stream=contract.stream, column=QUANTITY)
    for name in rule.match_columns:
        if name not in contract.names:
            raise ContractError("cancellations match on an unknown column", stream=contract.stream, column=name)
    return (QUANTITY, *(name for name in contract.additive_columns if name != QUANTITY))


def _groups_to_play(
    ordered: pl.DataFrame,
    groups: pl.DataFrame,
    contract: Contract,
    rule: CancellationRule,
    amounts: tuple[str, ...],
) -> list[list[PlayedRecord]]:
    """Records of each of the groups that has a cancellation; one that can match nothing is a group of its own.

    A fact that moved from one group to another brings records of groups not asked for; those are not played.
    """
    match = list(rule.match_columns)
    grouped = ordered.with_columns(_group=pl.struct(match).rank("dense").cast(pl.Int64)).with_columns(
        _group=pl.when(pl.any_horizontal(pl.col(match).is_null())).then(None).otherwise("_group")
    )
    # Negative numbers: groups of one cancellation whose match columns are not all known.
    loner = pl.col("is_cancellation") & pl.col("_group").is_null()
    grouped = grouped.with_columns(_group=pl.when(loner).then(-1 - pl.col("_fact").cast(pl.Int64)).otherwise("_group"))
    cancelling = grouped.filter("is_cancellation").join(groups, on=match, how="semi", nulls_equal=True)
    with_cancellation = cancelling.select("_group").unique()
    members = (
        grouped.filter(~pl.col("is_retraction"))
        .join(with_cancellation, on="_group", how="semi")
        .select("_fact", _played="_group")
        .unique()
    )
    columns = ["_played", "_group", "_index", "_fact", *contract.fact_key, *ARRIVAL_ORDER, "event_time", *amounts]
    plays = (
        grouped.join(members, on="_fact", how="inner")
        .select(*dict.fromkeys(columns), "is_cancellation", "is_retraction", "_of_cancellation")
        .sort("_played", "_index")
    )
    rows = plays.iter_rows(named=True)
    return [
        [_played_record(row, contract.fact_key, amounts) for row in group]
        for _, group in groupby(rows, key=lambda row: row["_played"])
    ]


def _played_record(row: dict[str, object], key: Sequence[str], amounts: tuple[str, ...]) -> PlayedRecord:
    is_here = row["_group"] == row["_played"] and not row["is_retraction"]
    is_cancellation = bool(row["is_cancellation"]) and is_here
    return PlayedRecord(
        index=row["_index"],  # type: ignore[arg-type]
        key=tuple(row[name] for name in key),
        is_sale=is_here and not is_cancellation,
        is_cancellation=is_cancellation,
        is_of_cancellation=bool(row["_of_cancellation"]),
        event_time=row["event_time"],  # type: ignore[arg-type]
        knowledge_time=row["knowledge_time"],  # type: ignore[arg-type]
        amounts=tuple(row[name] for name in amounts),  # type: ignore[misc]
        arrival=(row["journal_seq"], row["row_nr"]),  # type: ignore[arg-type]
    )


def _silver_rows(
    ordered: pl.DataFrame, postings: list[PlayedPosting], contract: Contract, amounts: tuple[str, ...]
) -> pl.DataFrame:
    if not postings:
        return pl.DataFrame(schema=silver_columns(contract))
    posted = pl.DataFrame(
        {
            "_index": [p.index for p in postings],
            "_known_by": [p.known_by for p in postings],
            "posting_kind": [p.kind for p in postings],
            "posting_sign": [p.sign for p in postings],
        }
        | {name: [p.amounts[nr] for p in postings] for nr, name in enumerate(amounts)},
        schema_overrides={"posting_sign": POSTING_COLUMNS["posting_sign"]} | dict.fromkeys(amounts, pl.Int64),
    )
    known = ordered.select("knowledge_time", "knowledge_date", _known_by="_index")
    facts = ordered.drop("knowledge_time", "knowledge_date", *amounts)
    rows = posted.join(facts, on="_index", how="left").join(known, on="_known_by", how="left")
    # A cancellation names no version of its own: its return posting is its first and only one.
    rows = rows.with_columns(pl.col("version_nr").clip(lower_bound=1))
    return in_silver_form(rows, contract)


def _outcome_rows(ordered: pl.DataFrame, outcomes: list[CancellationOutcome]) -> pl.DataFrame:
    fared = pl.DataFrame(
        [(o.index, o.units, o.matched_units, o.has_exact_sale) for o in outcomes],
        schema={"_index": pl.Int64, "units": pl.Int64, "matched_units": pl.Int64, "has_exact_sale": pl.Boolean},
        orient="row",
    )
    return fared.join(ordered.select("_index", "journal_seq", "row_nr"), on="_index", how="left").drop("_index")
