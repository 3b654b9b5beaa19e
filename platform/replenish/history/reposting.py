"""Which facts an update concerns beyond its new first versions, and how their postings change."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from replenish.contracts.dataset import CancellationRule
from replenish.contracts.model import Contract
from replenish.history.cancelled_sales import groups_of
from replenish.history.ledger import EVENT_MONTH

BASE_KINDS = ("version", "reversal")


@dataclass(frozen=True)
class Concerned:
    """What new rows touch: `fresh` rows stand alone; `facts` (keys) and `groups` have to be posted anew."""

    fresh: pl.DataFrame
    facts: pl.DataFrame
    groups: pl.DataFrame | None
    """Values of the match columns, null where one is unknown; None: no cancellation is concerned."""
    months: list[int] | None
    """Months that hold all postings of `facts`; None: any."""


@dataclass(frozen=True)
class Records:
    """Bronze rows: all records of the facts concerned, and all records of the groups concerned."""

    facts: pl.DataFrame
    groups: pl.DataFrame


@dataclass(frozen=True)
class Change:
    """The difference of two sets of postings, as multisets: equal rows count as often as they occur."""

    added: pl.DataFrame
    removed: pl.DataFrame

    def without_removed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """`rows` less the removed ones; of equal rows as many stay as were not removed."""
        names = rows.columns
        occurrence = pl.int_range(pl.len(), dtype=pl.Int64).over(names)
        gone = self.removed.select(names).with_columns(_nr=occurrence)
        return (
            rows.with_columns(_nr=occurrence).join(gone, on=[*names, "_nr"], how="anti", nulls_equal=True).drop("_nr")
        )


def concerned_by(
    new: pl.DataFrame, bronze: pl.LazyFrame, contract: Contract, rule: CancellationRule | None
) -> Concerned:
    """Split new bronze rows into first versions that stand alone and facts and groups to be posted anew."""
    key = list(contract.fact_key)
    # Equal hashes of different keys only make a few facts take the slower way.
    occurs_twice = pl.struct(key).hash().is_duplicated()
    is_plain = ~(pl.col("is_correction") | pl.col("is_retraction") | pl.col("is_cancellation") | occurs_twice)
    marked = new.with_columns(_is_plain=is_plain)
    fresh = marked.filter("_is_plain").drop("_is_plain")
    others = marked.filter(~pl.col("_is_plain"))
    facts = others.select(key).unique()
    months = _months(others) if contract.is_keyed_by_date else None
    groups = None
    if rule is not None:
        groups = _concerned_groups(new, facts, bronze, contract, rule)
    return Concerned(fresh, facts, groups, months)


def _months(rows: pl.DataFrame) -> list[int]:
    day = rows["event_date"]
    return sorted((day.dt.year() * 100 + day.dt.month().cast(pl.Int32)).unique().to_list())


def _concerned_groups(
    new: pl.DataFrame, facts: pl.DataFrame, bronze: pl.LazyFrame, contract: Contract, rule: CancellationRule
) -> pl.DataFrame | None:
    """Groups in which a match may change; only groups that have a cancellation can."""
    match, key = list(rule.match_columns), list(contract.fact_key)
    cancelled = bronze.filter("is_cancellation").select(*key, *match, "knowledge_time").collect()
    if cancelled.is_empty():
        return None
    cancelling = cancelled.join(new.select(key).unique(), on=key, how="semi").select(match).unique()
    moved = bronze.join(facts.lazy(), on=key, how="semi").select(match).unique().collect() if facts.height else facts
    latest = cancelled.group_by(match).agg(_latest=pl.col("knowledge_time").max())
    late = new.join(latest, on=match, how="inner").filter(pl.col("knowledge_time") <= pl.col("_latest")).select(match)
    candidates = [cancelling, late, *([moved] if facts.height else [])]
    groups = pl.concat(candidates).unique().join(cancelled, on=match, how="semi", nulls_equal=True)
    return groups if groups.height else None


def read_records(
    bronze: pl.LazyFrame, contract: Contract, concerned: Concerned, rule: CancellationRule | None
) -> Records:
    """All bronze records of the facts and groups concerned."""
    key = list(contract.fact_key)
    facts = concerned.fresh.clear()
    if concerned.facts.height:
        rows = bronze
        if contract.is_keyed_by_date:
            # The key holds the event time: all records of a fact share it, and files of other times are skipped.
            first, last = concerned.facts[contract.event_time].min(), concerned.facts[contract.event_time].max()
            rows = rows.filter(pl.col(contract.event_time).is_between(first, last))
        facts = rows.join(concerned.facts.lazy(), on=key, how="semi").collect()
    groups = facts.clear()
    if rule is not None and concerned.groups is not None:
        match = list(rule.match_columns)
        known = concerned.groups.lazy()
        is_loner = pl.any_horizontal(pl.col(match).is_null()) & pl.col("is_cancellation")
        in_groups = bronze.join(groups_of(concerned.groups, match).lazy(), on=match, how="semi").select(key)
        alone = bronze.filter(is_loner).join(known, on=match, how="semi", nulls_equal=True).select(key)
        members = pl.concat([in_groups, alone]).unique()
        groups = bronze.join(members, on=key, how="semi").collect()
    return Records(facts, groups)


def read_postings(
    silver: pl.LazyFrame, contract: Contract, concerned: Concerned, rule: CancellationRule | None
) -> pl.DataFrame:
    """What silver holds now of the facts and groups concerned."""
    frames = [silver.clear().collect()]
    if concerned.facts.height:
        rows = silver.filter(pl.col("posting_kind").is_in(BASE_KINDS))
        if concerned.months is not None:
            rows = rows.filter(pl.col(EVENT_MONTH).is_in(concerned.months))
        frames.append(rows.join(concerned.facts.lazy(), on=list(contract.fact_key), how="semi").collect())
    if rule is not None and concerned.groups is not None:
        rows = silver.filter(~pl.col("posting_kind").is_in(BASE_KINDS))
        match = list(rule.match_columns)
        frames.append(rows.join(concerned.groups.lazy(), on=match, how="semi", nulls_equal=True).collect())
    return pl.concat(frames)


def compare_postings(before: pl.DataFrame, after: pl.DataFrame) -> Change:
    """What to add to `before`, and what to remove from it, to get `after`; row order plays no part."""
    names = after.columns
    weighted = pl.concat(
        [
            after.with_columns(_weight=pl.lit(1, pl.Int64)),
            before.select(names).with_columns(_weight=pl.lit(-1, pl.Int64)),
        ]
    )
    net = weighted.group_by(names).agg(pl.col("_weight").sum())
    return Change(_repeated(net, names, 1), _repeated(net, names, -1))


def _repeated(net: pl.DataFrame, names: list[str], sign: int) -> pl.DataFrame:
    surplus = net.filter(pl.col("_weight") * sign > 0)
    if surplus.is_empty():
        return surplus.select(names)
    return surplus.select(pl.all().repeat_by(pl.col("_weight").abs()).explode()).select(names)
