"""Duplicate, correction, retraction or new: accepted rows of one bucket beside everything accepted before."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from replenish.contracts.model import Contract
from replenish.errors import FileFault
from replenish.ingest.mapping import BY_ARRIVAL
from replenish.ingest.reasons import KEY_CONFLICT

_IS_NEW = "__is_new"
_PLACE = "__place"


@dataclass(frozen=True)
class JudgedFacts:
    """What the new rows of one bucket are; each is in one frame or among the duplicates."""

    accepted: pl.DataFrame
    """The new rows that change what is known, with `is_correction`; input order."""
    unknown_retractions: pl.DataFrame
    """Retractions of facts that nobody knew at that time."""
    conflicting: pl.DataFrame
    """Rows that contradict the first one of their key and knowledge time, where such are set aside."""
    n_duplicates: int


def known_columns(contract: Contract) -> list[str]:
    """Columns of earlier accepted rows that the judgement needs."""
    return [*contract.names, "knowledge_time", "is_retraction", "is_cancellation", "journal_seq", "row_nr"]


def judge_facts(
    new: pl.DataFrame, earlier: pl.DataFrame, contract: Contract, *, sets_conflicts_aside: bool = False
) -> JudgedFacts:
    """Sort new rows into facts, corrections, retractions and duplicates.

    Rows of a key are laid in order of knowledge time, then arrival. A new row that says what the version before it says
    (or, if there is none before, the first one after it) is a duplicate. Equal content that comes back later is news.

    Args:
        new: Sound rows of one file and bucket, with `row_nr`.
        earlier: `known_columns` of the rows accepted before that may share a key.
        contract: Gives key and content.
        sets_conflicts_aside: Of rows with one key, one knowledge time and different content the first stays, known
            ones first, however the log is cut into batches. Without it they refuse the whole, and only rows of one
            file can conflict: a later file corrects an earlier one. Single events that became known by their arrival
            never conflict: the log orders them.

    Raises:
        FileFault: `key_conflict`: one key twice with different content and one knowledge time.
    """
    hashes = new.select(contract.fact_key).hash_rows()
    earlier_hashes = (
        earlier.select(contract.fact_key).hash_rows() if earlier.height else pl.Series([], dtype=pl.UInt64())
    )
    # Most rows are alone with their key; only the others need the order of their versions. A hash that two keys share
    # costs a comparison, never a mistake.
    contested = hashes.is_duplicated() | new["is_retraction"]
    if earlier.height:
        contested = contested | hashes.is_in(earlier_hashes.implode())
    if not contested.any():
        return JudgedFacts(new.with_columns(pl.lit(False).alias("is_correction")), new.clear(), new.clear(), 0)
    places = contested.arg_true()
    versions = _in_order(
        new[places], places, earlier.filter(earlier_hashes.is_in(hashes.gather(places).implode())), contract
    )
    conflict = _conflicts(versions, contract, with_known=sets_conflicts_aside)
    if conflict.any() and not sets_conflicts_aside:
        _refuse_conflicts(versions.filter(conflict), contract)
    against, versions = versions.filter(conflict), versions.filter(~conflict)
    known_before = (~pl.col("is_retraction")).cum_max().over(contract.fact_key)
    orphan = versions.select(~known_before).to_series()
    verdicts = _verdicts(versions.filter(~orphan), contract)
    correction = pl.zeros(new.height, pl.Int8, eager=True).cast(pl.Boolean())
    correction = correction.scatter(verdicts.filter("correction")[_PLACE], True)
    drop = pl.concat([versions.filter(orphan)[_PLACE], against[_PLACE], verdicts.filter("duplicate")[_PLACE]])
    keep = pl.repeat(True, new.height, dtype=pl.Boolean(), eager=True).scatter(drop, False)
    return JudgedFacts(
        accepted=new.with_columns(correction.alias("is_correction")).filter(keep),
        unknown_retractions=new[versions.filter(orphan)[_PLACE].sort()],
        conflicting=new[against[_PLACE].sort()],
        n_duplicates=int(verdicts["duplicate"].sum()),
    )


def _in_order(new: pl.DataFrame, places: pl.Series, earlier: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Old and new versions of the contested keys, by key, knowledge time and arrival."""
    names = known_columns(contract)
    old = earlier.select(names).with_columns(
        pl.lit(False).alias(BY_ARRIVAL), pl.lit(False).alias(_IS_NEW), pl.lit(None, pl.Int64()).alias(_PLACE)
    )
    by_arrival = new[BY_ARRIVAL] if BY_ARRIVAL in new.columns else pl.lit(False)
    fresh = new.with_columns(pl.lit(None, pl.Int64()).alias("journal_seq")).select(names)
    fresh = fresh.with_columns(
        by_arrival.alias(BY_ARRIVAL), pl.lit(True).alias(_IS_NEW), places.cast(pl.Int64()).alias(_PLACE)
    )
    order = [*contract.fact_key, "knowledge_time", "journal_seq", "row_nr"]
    return pl.concat([old, fresh]).sort(order, nulls_last=True)


def _same_key(contract: Contract) -> pl.Expr:
    return pl.all_horizontal(pl.col(k).eq_missing(pl.col(k).shift(1)) for k in contract.fact_key) & (
        pl.int_range(pl.len()) > 0
    )


def _same_content(contract: Contract) -> pl.Expr:
    """Whether a row says what the row above says; of a retraction only that it is one counts."""
    flag = pl.col("is_retraction")
    content = [c for c in (*contract.content_columns, "is_cancellation") if c not in contract.fact_key]
    equal = pl.all_horizontal(pl.col(c).eq_missing(pl.col(c).shift(1)) for c in content)
    return (flag == flag.shift(1)).fill_null(False) & (flag | equal)


def _conflicts(versions: pl.DataFrame, contract: Contract, *, with_known: bool) -> pl.Series:
    """New rows that contradict a row of their key and knowledge time: the last known one, else the first new one."""
    content = [c for c in (*contract.content_columns, "is_cancellation") if c not in contract.fact_key]
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
    key = ", ".join(str(value) for value in found.select(contract.fact_key).row(0))
    raise FileFault(
        KEY_CONFLICT,
        f"{found.height} rows contradict another row of the same key and knowledge time; first: {key}",
        row=found["row_nr"][0],
    )


def _verdicts(versions: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """`__place`, `duplicate` and `correction` of the new rows among ordered versions that start with no retraction."""
    key = list(contract.fact_key)
    runs = versions.with_columns(_same_key(contract).alias("same_key")).with_columns(
        (pl.col("same_key") & _same_content(contract)).alias("repeats")
    )
    runs = runs.with_columns((~pl.col("repeats")).cum_sum().alias("run"))
    first_run = pl.col("run") == pl.col("run").first().over(key)
    run_is_known = (~pl.col(_IS_NEW)).any().over("run")
    key_is_known = (~pl.col(_IS_NEW)).any().over(key)
    judged = runs.with_columns(
        (pl.col("repeats") | (first_run & run_is_known)).alias("duplicate"),
        (~pl.col("is_retraction") & (pl.col("same_key") | key_is_known)).alias("correction"),
    )
    return judged.filter(_IS_NEW).select(_PLACE, "duplicate", "correction")
