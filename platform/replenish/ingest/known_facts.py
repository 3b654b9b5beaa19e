"""Duplicate, correction, retraction or new: rows of one bucket beside everything that the log knew before.

What silver holds is a function of the rows of the log and not of how they were cut into deliveries, nor (but for
contradictions) of their order. So a row that says nothing new at its knowledge time is a duplicate and still kept where
a record that arrives late, known in between, could make it news: A, then A again, then B known between the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from replenish.bitemporal import says_what_is_above
from replenish.contracts.model import Contract
from replenish.errors import FileFault
from replenish.ingest.mapping import BY_ARRIVAL
from replenish.ingest.reasons import KEY_CONFLICT

_IS_NEW = "__is_new"
_IS_KEPT = "__is_kept"
_PLACE = "__place"


@dataclass(frozen=True)
class JudgedFacts:
    """What the new rows of one bucket are; each is accepted, dead or a duplicate."""

    accepted: pl.DataFrame
    """The new rows that change what is known, with `is_correction`; input order."""
    unknown_retractions: pl.DataFrame
    """Retractions of facts that nobody knew at that time."""
    conflicting: pl.DataFrame
    """Rows that contradict the first one of their key and knowledge time, where such are set aside."""
    n_duplicates: int
    to_keep: pl.DataFrame
    """Duplicates with a knowledge time of their own, and the unknown retractions: news one day, perhaps."""
    revived: pl.DataFrame
    """Kept rows that the new ones made news, as they were kept, `is_correction` set anew."""


def known_columns(contract: Contract) -> list[str]:
    """Columns of earlier accepted rows that the judgement needs."""
    return [*contract.names, "knowledge_time", "is_retraction", "is_cancellation", "journal_seq", "row_nr"]


def judge_facts(
    new: pl.DataFrame,
    earlier: pl.DataFrame,
    contract: Contract,
    *,
    kept: pl.DataFrame | None = None,
    sets_conflicts_aside: bool = False,
) -> JudgedFacts:
    """Sort new rows into facts, corrections, retractions and duplicates.

    Rows of a key are laid in order of knowledge time, then arrival. A new row that says what the row above says is a
    duplicate. Equal content that comes back later is news.

    Args:
        new: Sound rows of one file and bucket, with `row_nr`.
        earlier: `known_columns` of the rows accepted before that may share a key.
        contract: Gives key and content.
        kept: Rows of `to_keep` of before, with all their columns, that may share a key and are known at the time of a
            new row or later; the others play no part.
        sets_conflicts_aside: Of rows with one key, one knowledge time and different content the first stays, known
            ones first, however the log is cut into batches. Without it they refuse the whole, and only rows of one
            file can conflict: a later file corrects an earlier one. Single events that became known by their arrival
            never conflict: the log orders them.

    Raises:
        FileFault: `key_conflict`: one key twice with different content and one knowledge time.
    """
    hashes = new.select(contract.fact_key).hash_rows()
    # Most rows are alone with their key; only the others need the order of their versions. A hash that two keys share
    # costs a comparison, never a mistake.
    contested = hashes.is_duplicated() | new["is_retraction"]
    told = [frame for frame in (earlier, kept) if frame is not None and frame.height]
    for frame in told:
        contested = contested | hashes.is_in(frame.select(contract.fact_key).hash_rows().implode())
    if not contested.any():
        accepted = new.with_columns(pl.lit(False).alias("is_correction"))
        return JudgedFacts(accepted, new.clear(), new.clear(), 0, new.clear(), new.clear())
    places = contested.arg_true()
    versions = _in_order(new, places, hashes, earlier, new.clear() if kept is None else kept, contract)
    if not sets_conflicts_aside:
        # Before anything else: what contradicts itself within a file depends on the file alone.
        _refuse_conflicts(versions.filter(_conflicts(versions, contract, with_known=False)), contract)
    known_before = (~pl.col("is_retraction")).cum_max().over(contract.fact_key)
    orphan = versions.select(~known_before).to_series()
    orphans = against = versions.clear()
    if orphan.any():
        orphans, versions = versions.filter(orphan).filter(_IS_NEW), versions.filter(~orphan)
    if sets_conflicts_aside and (conflict := _conflicts(versions, contract, with_known=True)).any():
        against, versions = versions.filter(conflict), versions.filter(~conflict)
    return _judged(new, kept, orphans, against, _verdicts(versions, contract))


def _judged(
    new: pl.DataFrame, kept: pl.DataFrame | None, orphans: pl.DataFrame, against: pl.DataFrame, verdicts: pl.DataFrame
) -> JudgedFacts:
    fresh = verdicts.filter(_IS_NEW)
    repeats = fresh["repeats"]
    correction = pl.zeros(new.height, pl.Int8, eager=True).cast(pl.Boolean())
    accepted = new.with_columns(
        correction.scatter(fresh[_PLACE].filter(fresh["correction"]), True).alias("is_correction")
    )
    drop = pl.concat([orphans[_PLACE], against[_PLACE], fresh[_PLACE].filter(repeats)])
    if drop.len():
        accepted = accepted.filter(pl.repeat(True, new.height, dtype=pl.Boolean(), eager=True).scatter(drop, False))
    revived = new.clear()
    if kept is not None and kept.height:
        old = verdicts.filter(pl.col(_IS_KEPT) & pl.col("revived"))
        revived = kept[old[_PLACE]].with_columns(old["correction"].alias("is_correction")) if old.height else revived
    to_keep = pl.concat([orphans[_PLACE], fresh[_PLACE].filter(repeats & fresh["has_own_time"])])
    return JudgedFacts(
        accepted=accepted,
        unknown_retractions=_at(new, orphans[_PLACE]),
        conflicting=_at(new, against[_PLACE]),
        n_duplicates=int(repeats.sum()),
        to_keep=_at(new, to_keep).with_columns(pl.lit(False).alias("is_correction")),
        revived=revived,
    )


def _at(rows: pl.DataFrame, places: pl.Series) -> pl.DataFrame:
    return rows[places.sort()] if places.len() else rows.clear()


def _in_order(
    new: pl.DataFrame,
    places: pl.Series,
    hashes: pl.Series,
    earlier: pl.DataFrame,
    kept: pl.DataFrame,
    contract: Contract,
) -> pl.DataFrame:
    """Known, kept and new versions of the contested keys, by key, knowledge time and arrival."""
    names, key = known_columns(contract), contract.fact_key
    contested = hashes.gather(places).implode()

    def told(rows: pl.DataFrame, *, is_kept: bool) -> pl.DataFrame:
        of_these = rows.select(key).hash_rows().is_in(contested)
        numbered = rows.select(names).with_columns(pl.int_range(pl.len(), dtype=pl.Int64()).alias(_PLACE))
        flags = {BY_ARRIVAL: False, _IS_NEW: False, _IS_KEPT: is_kept}
        return numbered.filter(of_these).with_columns(pl.lit(on).alias(flag) for flag, on in flags.items())

    some = new[places]
    by_arrival = some[BY_ARRIVAL] if BY_ARRIVAL in some.columns else pl.lit(False)
    fresh = some.with_columns(pl.lit(None, pl.Int64()).alias("journal_seq")).select(names)
    fresh = fresh.with_columns(
        places.cast(pl.Int64()).alias(_PLACE),
        by_arrival.alias(BY_ARRIVAL),
        pl.lit(True).alias(_IS_NEW),
        pl.lit(False).alias(_IS_KEPT),
    )
    order = [*key, "knowledge_time", "journal_seq", "row_nr"]
    before = [told(rows, is_kept=rows is kept) for rows in (earlier, kept) if rows.height]
    return pl.concat([*before, fresh]).sort(order, nulls_last=True)


def _conflicts(versions: pl.DataFrame, contract: Contract, *, with_known: bool) -> pl.Series:
    """New rows that contradict a row of their key and knowledge time: the last known one, else the first new one."""
    if not versions.select((pl.col(_IS_NEW) & ~pl.col(BY_ARRIVAL)).any()).item():
        return pl.zeros(versions.height, pl.Int8, eager=True).cast(pl.Boolean())
    content = [*contract.content_columns, "is_cancellation"]
    moment = [*contract.fact_key, "knowledge_time"]
    is_known = ~pl.col(_IS_NEW) & pl.lit(with_known)

    def told(column: str) -> pl.Expr:
        new = pl.col(column).filter(_IS_NEW).first().over(moment)
        return (
            pl.when(is_known.any().over(moment))
            .then(pl.col(column).filter(is_known).last().over(moment))
            .otherwise(new)
        )

    flag = pl.col("is_retraction")
    says_the_same = (flag == told("is_retraction")) & (
        flag | pl.all_horizontal(pl.col(c).eq_missing(told(c)) for c in content)
    )
    return versions.select(pl.col(_IS_NEW) & ~pl.col(BY_ARRIVAL) & ~says_the_same).to_series()


def _refuse_conflicts(found: pl.DataFrame, contract: Contract) -> None:
    if found.is_empty():
        return
    key = ", ".join(str(value) for value in found.select(contract.fact_key).row(0))
    raise FileFault(
        KEY_CONFLICT,
        f"{found.height} rows contradict another row of the same key and knowledge time; first: {key}",
        row=found["row_nr"][0],
    )


def _verdicts(versions: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """What ordered versions, which start with no retraction, are: each of the columns it adds is a flag.

    `repeats` what is above; `has_own_time`, not that of the row above; `correction` of what is known; `revived`: a kept
    row that repeats nothing any more. Not where its very moment has been told already, by itself or by another row:
    arrival orders the rows of a moment, and it would come last.
    """
    key = list(contract.fact_key)
    is_known = ~(pl.col(_IS_NEW) | pl.col(_IS_KEPT))
    same_key = pl.all_horizontal(pl.col(k).eq_missing(pl.col(k).shift(1)) for k in key) & (pl.int_range(pl.len()) > 0)
    judged = versions.with_columns(
        same_key.alias("same_key"),
        says_what_is_above(key, contract.content_columns).alias("repeats"),
        is_known.alias("is_known"),
    )
    is_told = (pl.col("is_known") | (pl.col(_IS_NEW) & ~pl.col("repeats"))).any().over([*key, "knowledge_time"])
    return judged.with_columns(
        has_own_time=(~pl.col("same_key") | (pl.col("knowledge_time") != pl.col("knowledge_time").shift(1))),
        correction=~pl.col("is_retraction") & (pl.col("same_key") | pl.col("is_known").any().over(key)),
        revived=pl.col(_IS_KEPT) & ~pl.col("repeats") & ~is_told,
    )
